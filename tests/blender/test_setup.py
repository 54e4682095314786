# SPDX-License-Identifier: Apache-2.0
"""The first run: the server's environment is installed from the panel. The installer itself is tested beside the server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from conftest import Blender

from blender_addon import backend, preferences
from blender_addon.backend import Status
from blender_addon.setup import setup
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy


@pytest.fixture
def bare(blender: Blender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blender:
    """A Blender that knows no Python with the server in it."""
    blender.preferences.python = ""
    blender.preferences.connection_file = str(tmp_path / "server.json")
    monkeypatch.delenv("GENESIS_PYTHON", raising=False)
    monkeypatch.setattr(preferences, "backend_folder", lambda: tmp_path / "backend")
    monkeypatch.setattr(preferences, "__file__", str(tmp_path / "addon" / "preferences.py"))
    return blender


class Installer:
    """Stands for the real one: three looks, then the end that it was told."""

    def __init__(self, end: Status) -> None:
        self._states = [Status(running=True, title="Installing torch", fraction=0.5)] * 3 + [end]

    def start(self) -> None:
        pass

    def status(self) -> Status:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def cancel(self) -> None:
        pass


def test_a_missing_server_is_noticed_and_generate_says_so(bare: Blender) -> None:
    bare.session.pump(1000.0)
    assert not setup.ready
    with pytest.raises(RuntimeError, match="not installed yet"):
        bpy.ops.genesis.start_server()
    assert bare.session.error.action == Remedy.INSTALL_SERVER


def test_without_online_access_the_card_says_what_to_allow(bare: Blender, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GenesisError(ErrorCode.OFFLINE, "Blender may not use the network.", "Allow it.", Remedy.ALLOW_ONLINE)

    monkeypatch.setattr(backend, "look", refuse)
    assert bpy.ops.genesis.install_server() == {"FINISHED"}
    bare.pump_until(lambda: not setup.running, patience=10.0)
    assert setup.error.action == Remedy.ALLOW_ONLINE and setup.work is None


@pytest.mark.parametrize("fails", [False, True])
def test_an_installation_is_followed_to_its_end(bare: Blender, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    error = GenesisError(ErrorCode.INSTALL_FAILED, "torch failed.", "Look at the log.", Remedy.OPEN_LOG)
    end = Status(error=error) if fails else Status(done=True, fraction=1.0)
    monkeypatch.setattr(backend, "look", lambda *_, **__: SimpleNamespace(download=1))
    monkeypatch.setattr(backend, "find_bundle", lambda: None)
    monkeypatch.setattr(backend, "Installation", lambda *_: Installer(end))
    assert bpy.ops.genesis.install_server() == {"FINISHED"}
    assert setup.running
    bare.session.pump(1.0)
    assert bare.session.busy, "Blender's timer goes on while it installs"
    bare.pump_until(lambda: not setup.running, patience=10.0)
    assert setup.error is (error if fails else None)
