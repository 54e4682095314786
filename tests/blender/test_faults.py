# SPDX-License-Identifier: Apache-2.0
"""Faults of other programs and of the machine, with real processes: each in words with a way on, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest
from conftest import ROOT, Blender
from test_generate import choose, generate
from test_trouble import the_error

from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import ErrorCode, Remedy
from genesis_server.protocol.messages import Shutdown
from tests.small_disk import mounted

SERVER = ROOT / "tests/service/serve_fake.py"


@pytest.fixture
def faulty(blender: Blender, server_python: Path, tmp_path: Path) -> Iterator[Blender]:
    """Blender with a server whose worker does what the name of a picture says."""
    file = tmp_path / "server" / "server.json"
    file.parent.mkdir()
    command = [str(server_python), str(SERVER), "--connection-file", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    blender.preferences.connection_file = str(file)
    blender.pump_until(file.exists, patience=60.0)
    yield blender
    with Client(file) as client:
        client.request(Shutdown())
    process.wait(30)


@pytest.mark.parametrize(
    ("behaviour", "code", "action"),
    [
        ("gpu", ErrorCode.GPU_LOST, Remedy.RETRY),
        ("memory", ErrorCode.OUT_OF_MEMORY, Remedy.USE_MINI),
        ("killed", ErrorCode.WORKER_LOST, Remedy.RETRY),
        ("raises", ErrorCode.INTERNAL, Remedy.OPEN_LOG),
    ],
)
def test_a_fault_of_the_worker_is_said_where_the_job_is(
    faulty: Blender, picture: Path, behaviour: str, code: ErrorCode, action: Remedy
) -> None:
    choose(Path(shutil.copy(picture, picture.with_name(f"{behaviour}.png"))))
    assert bpy.ops.genesis.generate() == {"FINISHED"}
    faulty.pump_until(lambda: any(task.error for task in faulty.session.tasks.values()), patience=90.0)
    (task,) = faulty.session.tasks.values()
    assert (task.error.code, task.error.action) == (code, action) and task.error.message and task.error.remedy
    assert "Traceback" not in str(task.error)
    assert faulty.session.task_of(bpy.data.objects[behaviour].data) is task, "its placeholder waits for another try"
    assert bpy.ops.genesis.retry() == {"FINISHED"}
    faulty.pump_until(lambda: task.error is not None, patience=90.0)
    assert bpy.ops.genesis.discard() == {"FINISHED"} and not bpy.data.objects
    choose(Path(shutil.copy(picture, picture.with_name("quick.png"))))
    bpy.context.scene.genesis.pictures.remove(0)
    bpy.ops.genesis.generate()
    faulty.pump_until(lambda: any(task.info and task.info.state.over for task in faulty.session.tasks.values()), patience=90.0)


def test_a_full_disk_is_named_and_the_textures_come_once_there_is_room(blender: Blender, picture: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 4 << 20) as disk:
        bpy.ops.wm.save_as_mainfile(filepath=str(disk / "scene.blend"))
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(1 << 14))
        bpy.context.scene.genesis.textures = "FILES"
        choose(picture)
        bpy.ops.genesis.generate()
        assert "full" in the_error(blender, ErrorCode.DISK_FULL)
        item = bpy.data.objects["my cake"]
        assert not item.data.genesis.imported and not bpy.data.materials, "nothing half done is left"
        filler.unlink()
        assert bpy.ops.genesis.retry() == {"FINISHED"}
        blender.wait_for_jobs()
        assert item.data.genesis.imported and len(list((disk / "textures").glob("my cake*.png"))) == 3
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "elsewhere.blend"))  # the disk goes


def test_an_asset_of_a_newer_release_is_left_as_it_is(blender: Blender, picture: Path) -> None:
    item = generate(blender, picture)
    memory = item.data.genesis
    file = Path(memory.asset) / "asset.json"
    values = json.loads(file.read_text())
    values["schema"] = values["schema"] + 1
    file.write_text(json.dumps(values))
    before, faces = file.read_bytes(), len(item.data.polygons)
    memory.settings.bake.texture_size = 256
    assert bpy.ops.genesis.rebake() == {"FINISHED"}
    blender.pump_until(lambda: any(task.error for task in blender.session.tasks.values()), patience=60.0)
    error = list(blender.session.tasks.values())[-1].error
    assert error.code == ErrorCode.NEWER_SCHEMA and "update" in error.remedy.lower()
    assert bpy.ops.genesis.discard() == {"FINISHED"}
    assert memory.imported and not memory.job and len(item.data.polygons) == faces and file.read_bytes() == before


def test_a_result_arrives_in_its_own_scene_while_another_one_is_shown(blender: Blender, picture: Path) -> None:
    choose(picture)
    first = bpy.context.scene
    assert bpy.ops.genesis.generate() == {"FINISHED"}
    second = bpy.data.scenes.new("Second")
    if bpy.context.window is not None:
        bpy.context.window.scene = second
    blender.wait_for_jobs()
    assert [item.data.genesis.imported for item in first.objects] == [True] and not second.objects
    assert second.genesis.preset == "standard" and not second.genesis.pictures, "each scene has its own next object"


def test_a_scene_deleted_while_its_job_runs_leaves_the_files_and_says_so(blender: Blender, picture: Path) -> None:
    choose(picture)
    first = bpy.context.scene
    bpy.data.scenes.new("Second")
    assert bpy.ops.genesis.generate() == {"FINISHED"}
    bpy.data.scenes.remove(first)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    blender.wait_for_jobs()
    assert "deleted" in str(blender.session.error) and ".genesis" in str(blender.session.error)


def test_no_operator_ends_in_a_traceback_in_an_empty_file(blender: Blender, own_presets: Path, tmp_path: Path) -> None:
    from blender_addon import operators

    blender.preferences.python, blender.preferences.auto_start = str(tmp_path / "no python"), False
    blender.preferences.connection_file = str(tmp_path / "server.json")
    bpy.context.preferences.system.use_online_access = False
    for cls in operators._CLASSES:
        if not issubclass(cls, bpy.types.Operator):
            continue
        operator = getattr(bpy.ops.genesis, cls.bl_idname.partition(".")[2])
        try:
            assert operator() <= {"FINISHED", "CANCELLED"}
        except RuntimeError as error:
            assert "Traceback" not in str(error) and "should not" not in str(error), cls.bl_idname
    blender.pump_until(lambda: not blender.session.busy, patience=20.0)
