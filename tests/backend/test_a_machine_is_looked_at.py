# SPDX-License-Identifier: Apache-2.0
"""Whatever is missing is said before anything is installed; what pip and uv say becomes progress."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy


@pytest.fixture
def machine(backend):
    return backend.machine


def refused(call, *arguments, **named) -> GenesisError:
    with pytest.raises(GenesisError) as caught:
        call(*arguments, **named)
    assert caught.value.remedy
    return caught.value


def test_this_machine_will_do(backend, tmp_path) -> None:
    found = backend.look(tmp_path / "a" / "b", online=True, device="cpu")
    assert found.device == "cpu" and found.version in backend.machine.PYTHONS
    assert "CPU" in found.summary() and not (tmp_path / "a").exists()


def test_blenders_preference_about_the_network_is_kept(backend, tmp_path) -> None:
    error = refused(backend.look, tmp_path, online=False)
    assert (error.code, error.action) == (ErrorCode.OFFLINE, Remedy.ALLOW_ONLINE)


def test_a_full_disk_and_a_closed_folder_are_named(backend, tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 0, 5_000_000))
    error = refused(backend.look, tmp_path, online=True, device="cpu")
    assert error.code == ErrorCode.DISK_FULL and str(tmp_path) in error.message
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refused(backend.look, tmp_path, online=True, device="cpu").code == ErrorCode.NO_PERMISSION


def test_a_python_must_fit(machine, tmp_path) -> None:
    assert machine.find_python(sys.executable) == (Path(sys.executable), sys.version_info[:2])
    error = refused(machine.find_python, str(tmp_path / "nothing"))
    assert error.code == ErrorCode.NO_PYTHON and "nothing" in error.message
    if os.name != "nt":
        old = tmp_path / "python3"
        old.write_text("#!/bin/sh\necho '[[3, 8], 8, \"x\"]'\n")
        old.chmod(0o755)
        assert "Python 3.8" in refused(machine.find_python, str(old)).message


def test_without_any_python_uv_fetches_one_and_pip_cannot(machine, monkeypatch) -> None:
    monkeypatch.setattr(machine, "_candidates", lambda: iter(()))
    assert machine.find_python(needed=False) == (None, (3, 12))
    assert refused(machine.find_python, needed=True).code == ErrorCode.NO_PYTHON


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("driver", "cuda", "build"), [("600.1", "13.1", (13, 0)), ("572.2", "12.8", (12, 8)), ("560.9", "12.6", (12, 6))]
)
def test_the_build_of_torch_follows_the_driver(machine, tmp_path, monkeypatch, driver, cuda, build) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, driver, cuda)
    gpu, said, version = machine.find_gpu()
    assert (gpu, said) == ("NVIDIA GeForce RTX 4090", driver)
    assert machine.cuda_build(gpu, said, version) == build


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_driver_that_is_too_old_is_named(backend, tmp_path, monkeypatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "470.1", "11.4")
    error = refused(backend.look, tmp_path, online=True)
    assert "470.1" in error.message and "11.4" in error.message
    assert backend.look(tmp_path, online=True, device="cpu").cuda is None


def put_nvidia_smi(folder: Path, monkeypatch, driver: str, cuda: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncase \"$1\" in --query*) echo 'NVIDIA GeForce RTX 4090, {driver}';;\n"
        f"*) echo '| NVIDIA-SMI {driver}  Driver Version: {driver}  CUDA Version: {cuda} |';; esac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("GENESIS_CPU", raising=False)


def test_a_wheels_uv_is_made_executable(machine, tmp_path, monkeypatch) -> None:
    tool = tmp_path / "uv-0.1.data" / "scripts" / "uv"
    tool.parent.mkdir(parents=True)
    tool.touch(0o644)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert machine.find_uv() == tool and os.access(tool, os.X_OK)
    assert refused(machine.find_uv, "/nowhere/uv").code == ErrorCode.INSTALL_FAILED


def test_programs_do_not_get_blenders_python_variables(machine, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/blender/python")
    monkeypatch.setenv("PYTHONPATH", "/blender/scripts")
    assert not {"PYTHONHOME", "PYTHONPATH"} & set(machine.clean_environment())


def test_bytes_become_progress(backend) -> None:
    from blender_addon.backend.output import Meter, reason_of

    pip = Meter(1000)
    assert not pip.take("Downloading torch-2.13.0-cp312-none-linux.whl (180.1 MB)")
    assert pip.take("Progress 100 of 400") and pip.fraction == pytest.approx(0.1)
    assert pip.line.startswith("torch: ")
    pip.take("Progress 400 of 400")
    pip.take("Progress 200 of 400")
    assert pip.fraction == pytest.approx(0.6)
    uv = Meter(4 << 20)
    uv.take("Downloading numpy (1.0MiB)")
    assert uv.fraction == 0
    uv.take(" Downloaded numpy")
    assert uv.fraction == pytest.approx(0.25)
    assert Meter(1).fraction == 0
    assert reason_of(["x", "ERROR: [Errno 28] No space left on device"])[0] == "disk"
    assert reason_of(["Max retries exceeded with url"])[0] == "network"
    assert reason_of(["a", "ERROR: no matching distribution", "b"]) == ("", "ERROR: no matching distribution")
    assert reason_of([])[1]


def test_the_source_folder_is_a_bundle_too(backend) -> None:
    bundle = backend.find_bundle()
    assert bundle.torch and (bundle.server / "pyproject.toml").exists()
    assert not any(line.startswith(("torch==", "pytest", "ruff")) for line in bundle.packages)


def test_an_extension_without_a_server_says_so(backend, tmp_path) -> None:
    assert refused(backend.find_bundle, tmp_path / "addon").code == ErrorCode.INSTALL_FAILED
