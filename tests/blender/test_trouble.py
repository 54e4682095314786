# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a job: each in words, with a way on, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import bpy
import pytest
import zmq
from conftest import Blender
from test_generate import choose, generate

from blender_addon import material
from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.connection import Connection
from genesis_server.protocol.errors import ErrorCode, Remedy


def connection_file(folder: Path, **changes: object) -> Path:
    """A file that names a living process, at whose address nobody or someone else is."""
    keys = [key.decode() for key in (zmq.curve_keypair()[0], *zmq.curve_keypair())]
    made = Connection(PROTOCOL_VERSION, "tcp://127.0.0.1:9", *keys, os.getpid(), "9.9")
    path = folder / "other.json"
    path.write_text(json.dumps({**dataclasses.asdict(made), **changes}))
    return path


def the_error(blender: Blender, code: ErrorCode) -> str:
    """What the only task failed with, in words; its placeholder waits for another try."""
    blender.pump_until(lambda: any(task.error for task in blender.session.tasks.values()), patience=60.0)
    (task,) = blender.session.tasks.values()
    assert task.error.code == code
    assert blender.session.task_of(bpy.data.objects["my cake"].data) is task
    return str(task.error)


def test_a_server_of_another_version_is_named_at_once(blender: Blender, picture: Path, tmp_path: Path) -> None:
    blender.preferences.connection_file = str(connection_file(tmp_path, protocol=PROTOCOL_VERSION + 1))
    choose(picture)
    bpy.ops.genesis.generate()
    assert f"version {PROTOCOL_VERSION + 1}" in the_error(blender, ErrorCode.VERSION_MISMATCH)


def test_a_server_that_does_not_answer_is_given_up(blender: Blender, picture: Path, tmp_path: Path) -> None:
    blender.preferences.connection_file = str(connection_file(tmp_path))
    choose(picture)
    bpy.ops.genesis.generate()
    assert "answer" in the_error(blender, ErrorCode.NOT_CONNECTED)
    assert blender.session.error.action == Remedy.START_SERVER


def test_a_wrong_key_is_no_server(blender: Blender, picture: Path, tmp_path: Path, home: Path) -> None:
    bpy.ops.genesis.start_server()
    blender.pump_until(lambda: blender.session.connected)
    address = json.loads((home / "server.json").read_text())["address"]
    blender.session.close()
    blender.preferences.connection_file = str(connection_file(tmp_path, address=address))
    choose(picture)
    bpy.ops.genesis.generate()
    assert "answer" in the_error(blender, ErrorCode.NOT_CONNECTED)


def test_a_moved_asset_folder_is_named_and_found_again(blender: Blender, picture: Path, tmp_path: Path) -> None:
    item = generate(blender, picture)
    memory = item.data.genesis
    faces = len(item.data.polygons)
    moved = shutil.move(memory.asset, tmp_path / "elsewhere.genesis")
    memory.settings.bake.texture_size = 256
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.genesis.rebake()
    assert len(item.data.polygons) == faces and memory.imported and not memory.job
    assert memory.settings.bake.texture_size == 256, "what was chosen is not lost"
    memory.asset = str(moved)
    assert bpy.ops.genesis.rebake() == {"FINISHED"}
    blender.wait_for_jobs()
    assert memory.made_with().bake.texture_size == 256 and not memory.job


def test_a_result_that_cannot_be_written_is_tried_again(
    blender: Blender, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bpy.context.scene.genesis.textures = "FILES"
    choose(picture)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "textures")

    monkeypatch.setattr(material, "_image", refuse)
    bpy.ops.genesis.generate()
    message = the_error(blender, ErrorCode.NO_PERMISSION)
    assert "textures" in message and not bpy.data.objects["my cake"].data.genesis.imported
    monkeypatch.undo()
    assert bpy.ops.genesis.retry() == {"FINISHED"}
    blender.wait_for_jobs()
    assert bpy.data.objects["my cake"].data.genesis.imported


def test_the_server_may_die_while_it_works_and_the_job_goes_on(blender: Blender, picture: Path, home: Path) -> None:
    choose(picture)
    settings = bpy.context.scene.genesis.settings
    settings.structure.steps = settings.shape.steps = 60
    bpy.ops.genesis.generate()
    blender.pump_until(lambda: any(task.running for task in blender.session.tasks.values()))
    pid = json.loads((home / "server.json").read_text())["pid"]
    os.kill(pid, 9)
    blender.pump_until(lambda: not blender.session.connected, patience=60.0)
    assert bpy.ops.genesis.start_server() == {"FINISHED"}
    blender.wait_for_jobs()
    assert bpy.data.objects["my cake"].data.genesis.imported
