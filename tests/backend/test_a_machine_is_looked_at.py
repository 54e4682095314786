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
    ("name", "driver", "cuda", "capability", "build"),
    [
        ("NVIDIA GeForce RTX 5090", "591.10", "13.1", "12.0", (13, 0)),
        ("NVIDIA GeForce RTX 4090", "580.65.06", "13.0", "8.9", (13, 0)),
        ("NVIDIA GeForce RTX 4090", "572.16", "12.8", "8.9", (12, 6)),
        ("NVIDIA A100-SXM4-80GB", "535.183.01", "12.2", "8.0", (12, 6)),
        ("NVIDIA GeForce GTX 1080 Ti", "591.10", "13.1", "6.1", (12, 6)),
        ("Tesla V100-PCIE-16GB", "580.65.06", "13.0", "7.0", (12, 6)),
        ("NVIDIA GeForce RTX 3060", "580.88", "", "8.6", (13, 0)),
        ("NVIDIA GeForce RTX 3060", "551.23", "", "8.6", (12, 6)),
        ("Quadro T1000", "580.88", "13.0", "", (13, 0)),
    ],
)
def test_the_build_of_torch_follows_driver_and_gpu(
    backend, tmp_path, monkeypatch, name, driver, cuda, capability, build
) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, name, driver, cuda, capability)
    found = backend.look(tmp_path, online=True)
    assert (found.device, found.gpu, found.cuda) == ("cuda", name, build)
    assert f"CUDA {build[0]}.{build[1]} for {name}" in found.summary(), "the log says which, and for what"
    command = backend.recipe.make_steps(tmp_path, backend.find_bundle(), found, ())[1].commands[0]
    assert f"https://download.pytorch.org/whl/cu{build[0]}{build[1]}" in command


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("name", "driver", "cuda", "capability", "named"),
    [
        ("NVIDIA GeForce GTX 980", "470.1", "11.4", "5.2", ("470.1", "11.4", "12.0", "driver")),
        ("NVIDIA GeForce RTX 5070", "572.16", "12.8", "12.0", ("572.16", "12.8", "13.0", "driver")),
        ("Tesla K80", "580.65", "13.0", "3.7", ("K80", "3.7", "CPU")),
    ],
)
def test_what_torch_has_no_build_for_is_named(backend, tmp_path, monkeypatch, name, driver, cuda, capability, named) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, name, driver, cuda, capability)
    error = refused(backend.look, tmp_path, online=True)
    assert all(word in str(error) for word in named), str(error)
    chosen = backend.look(tmp_path, online=True, device="cpu")
    assert chosen.cuda is None and "chosen in the preferences" in chosen.summary()


@pytest.mark.parametrize(("vendor", "words"), [("AMD", "AMD GPU"), ("", "no NVIDIA GPU was found")])
def test_without_an_nvidia_gpu_it_is_the_cpu_and_says_why(backend, tmp_path, monkeypatch, vendor, words) -> None:
    monkeypatch.setattr(backend.machine, "find_gpu", lambda: None)
    monkeypatch.setattr(backend.machine, "other_gpu", lambda: vendor)
    found = backend.look(tmp_path, online=True)
    assert found.device == "cpu" and words in found.summary()
    command = backend.recipe.make_steps(tmp_path, backend.find_bundle(), found, ())[1].commands[-1]
    assert "https://download.pytorch.org/whl/cpu" in command or sys.platform == "darwin"


def test_a_driver_that_does_not_answer_is_no_gpu(machine, tmp_path, monkeypatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("GENESIS_CPU", raising=False)
    assert machine.find_gpu() is None


def test_the_builds_are_those_of_the_pinned_torch(backend) -> None:
    assert backend.find_bundle().torch.startswith(f"{backend.machine.TORCH}."), "look at its CUDA builds, then at machine.py"


def put_nvidia_smi(folder: Path, monkeypatch, name: str, driver: str, cuda: str, capability: str) -> None:
    """A stand-in; one without a capability is of a driver that does not know the word."""
    whole = f"echo '{name}, {driver}, {capability}'" if capability else "echo 'Field is not valid.'; exit 2"
    head = f"CUDA Version: {cuda}" if cuda else ""
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncase \"$1\" in *compute_cap*) {whole};; --query*) echo '{name}, {driver}';;\n"
        f"*) echo '| NVIDIA-SMI {driver}  Driver Version: {driver}  {head} |';; esac\n"
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
