# SPDX-License-Identifier: Apache-2.0
"""A server on another machine: this side has its key file, and not one path in common."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest
from conftest import ROOT, Blender
from test_generate import generate

from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.messages import Shutdown


@pytest.fixture
def key_file(server_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That of a running server which treats this machine as another one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = tmp_path / "key.json"
    command = [server_python, "-m", "genesis_server", "serve", "--bind", f"127.0.0.1:{port}", "--key-file", key]
    command += ["--connection-file", tmp_path / "there" / "server.json"]
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path / "here"))
    (tmp_path / "there").mkdir()
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stderr=subprocess.DEVNULL)
    yield key
    with Client(tmp_path / "there" / "server.json") as client:
        client.request(Shutdown())
    process.wait(30)


def test_pictures_go_there_and_the_result_comes_back(blender: Blender, key_file: Path, picture: Path, tmp_path: Path) -> None:
    def answers() -> bool:
        try:
            with Client(key_file) as client:
                return client.connect(1.0).remote
        except GenesisError:
            return False

    blender.pump_until(answers, patience=60.0)
    blender.preferences.connection_file = str(key_file)
    item = generate(blender, picture)
    memory = item.data.genesis
    assert Path(memory.asset).is_relative_to(tmp_path / "there"), "the folder that the server knows"
    assert memory.folder().is_relative_to(tmp_path / "here") and (memory.folder() / "thumbnail.png").is_file()
    memory.settings.bake.texture_size = 256
    assert bpy.ops.genesis.rebake() == {"FINISHED"}
    blender.wait_for_jobs()
    assert not [task.error for task in blender.session.tasks.values() if task.error]
    assert {tuple(node.image.size) for node in item.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"} == {
        (256, 256)
    }
    picture.unlink()
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.genesis.generate()
