# SPDX-License-Identifier: Apache-2.0
"""A real venv and a real pip install from a folder: in steps, again only where something has changed, on after a stop."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_wheels import server_wheel

from genesis_server.protocol.errors import ErrorCode, Remedy

PATIENCE = 120.0  # seconds for venv and pip on a busy machine


def install(backend, folder: Path, bundle, found, wheels: Path):
    """Runs to the end; the installation and its last status."""
    work = backend.Installation(folder, bundle, found, ("--no-index", "--find-links", str(wheels)))
    work.start()
    return work, work.wait(PATIENCE)


def commands(work) -> list[str]:
    """What the last run has called."""
    text = work.log.read_text("utf-8").rpartition("====")[2]
    return [line for line in text.splitlines() if line.startswith("$ ") and "pip>=" not in line and "pip --version" not in line]


def test_it_is_installed_once_and_updated_where_something_has_changed(backend, tmp_path, bundle, found, wheels) -> None:
    folder = tmp_path / "user folder"
    assert backend.state_of(folder, bundle) == backend.State.ABSENT and backend.python_of(folder) is None
    work, status = install(backend, folder, bundle, found, wheels)
    assert status.done and status.fraction == 1.0, (status.error, work.log.read_text("utf-8"))
    assert backend.state_of(folder, bundle) == backend.State.READY
    said = subprocess.run(
        [backend.python_of(folder), "-c", "import torch, genesis_server; print(torch.__version__, genesis_server.__version__)"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert said.stdout.split() == ["9.9.9", "1.0"]
    assert len(commands(work)) == 5
    again, status = install(backend, folder, bundle, found, wheels)
    assert status.done and commands(again) == []
    newer = replace(bundle, server=server_wheel(tmp_path / "newer", "1.1"))
    assert backend.state_of(folder, newer) == backend.State.OUTDATED
    assert backend.python_of(folder) is not None  # the old one still starts
    update, status = install(backend, folder, newer, found, wheels)
    assert status.done and len(commands(update)) == 2  # the server, and the check
    assert backend.state_of(folder, newer) == backend.State.READY
    backend.remove(folder)
    assert backend.state_of(folder, newer) == backend.State.ABSENT


def test_a_package_that_cannot_be_had_is_named_and_the_next_run_goes_on(backend, tmp_path, bundle, found, wheels) -> None:
    folder, kept = tmp_path / "user", tmp_path / "scipy.whl"
    path = next(wheels.glob("scipy-*.whl"))
    shutil.move(path, kept)
    work, status = install(backend, folder, bundle, found, wheels)
    assert status.error.code == ErrorCode.INSTALL_FAILED and "scipy" in status.error.message
    assert status.error.action == Remedy.OPEN_LOG and not status.running
    assert backend.state_of(folder, bundle) == backend.State.INCOMPLETE and backend.python_of(folder) is None
    shutil.move(kept, path)
    again, status = install(backend, folder, bundle, found, wheels)
    assert status.done, status.error
    assert not any(" venv " in line or line.endswith("torch==9.9.9") for line in commands(again))


@pytest.mark.skipif(os.name == "nt", reason="the program that hangs is a shell script")
def test_it_can_be_stopped_at_once_with_all_it_has_started(backend, tmp_path, bundle, found) -> None:
    hanging = tmp_path / "python"
    hanging.write_text(f"#!/bin/sh\nsleep 300 & echo $! > {tmp_path}/child\necho working\nwait\n")
    hanging.chmod(0o755)
    work = backend.Installation(tmp_path / "user", bundle, replace(found, python=hanging))
    work.start()
    until(lambda: work.status().line == "working")
    began = time.monotonic()
    work.cancel()
    status = work.wait(10)
    assert time.monotonic() - began < 5 and status.error.code == ErrorCode.CANCELLED
    child = int((tmp_path / "child").read_text())
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


def until(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_gpu_that_torch_cannot_use_is_no_success(backend, tmp_path, bundle, found, wheels) -> None:
    gpu = replace(found, device="cuda", gpu="Card 1", cuda=(12, 8))
    _, status = install(backend, tmp_path / "user", bundle, gpu, wheels)
    assert status.error.code == ErrorCode.INSTALL_FAILED and "Card 1" in status.error.message
    assert backend.python_of(tmp_path / "user") is None


def test_two_blenders_do_not_install_into_one_folder(backend, tmp_path, bundle, found, wheels) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    (folder / "install.pid").write_text(str(os.getppid()))
    _, status = install(backend, folder, bundle, found, wheels)
    assert status.error.code == ErrorCode.ALREADY_RUNNING


def test_a_python_that_is_gone_and_a_folder_that_cannot_be_made(backend, tmp_path, bundle, found, wheels) -> None:
    _, status = install(backend, tmp_path / "user", bundle, replace(found, python=tmp_path / "nothing"), wheels)
    assert status.error.code == ErrorCode.NO_PERMISSION and "nothing" in status.error.message
    (tmp_path / "file").touch()
    _, status = install(backend, tmp_path / "file" / "user", bundle, found, wheels)
    assert status.error.code == ErrorCode.NO_PERMISSION


def test_uv_does_the_same_where_it_is_there(backend, tmp_path, bundle, found, wheels) -> None:
    uv = backend.machine.find_uv(os.environ.get("GENESIS_UV", ""))
    if uv is None:
        pytest.skip("no uv: put one on the path, or name it in GENESIS_UV")
    work, status = install(backend, tmp_path / "user", bundle, replace(found, uv=uv), wheels)
    assert status.done, (status.error, work.log.read_text("utf-8"))
    assert all(str(uv) in line for line in commands(work)[:-1])
