# SPDX-License-Identifier: Apache-2.0
"""From a picture to an object through the operators, with the real server in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import pytest
from conftest import Blender

from genesis_server.protocol.errors import ErrorCode, Remedy

CURSOR = (1.0, -2.0, 3.0)
FAST = {"faces": 800, "texture_size": 128}


def choose(picture: Path, **changes: object) -> None:
    """What a user does before pressing Generate."""
    assert bpy.ops.genesis.add_pictures(directory=str(picture.parent), files=[{"name": picture.name}]) == {"FINISHED"}
    bpy.context.scene.cursor.location = CURSOR
    scene = bpy.context.scene.genesis
    scene.preset = "draft"
    for name, value in FAST.items():
        setattr(scene.settings.bake, name, value)
    for name, value in changes.items():
        setattr(scene.settings, name, value)


def generate(blender: Blender, picture: Path, **changes: object) -> bpy.types.Object:
    """A finished object."""
    choose(picture, **changes)
    assert bpy.ops.genesis.generate() == {"FINISHED"}
    blender.wait_for_jobs()
    assert blender.session.error is None
    assert not [task.error for task in blender.session.tasks.values() if task.error]
    return bpy.context.view_layer.objects.active


def textures(item: bpy.types.Object) -> list[bpy.types.Image]:
    """The images of an object's material."""
    nodes = item.data.materials[0].node_tree.nodes
    return [node.image for node in nodes if node.type == "TEX_IMAGE"]


def principled(item: bpy.types.Object) -> bpy.types.ShaderNode:
    return next(node for node in item.data.materials[0].node_tree.nodes if node.type == "BSDF_PRINCIPLED")


def test_a_picture_becomes_an_object_at_the_cursor(blender: Blender, picture: Path) -> None:
    bpy.context.scene.genesis.size = 2.5
    item = generate(blender, picture, seed=7)
    assert item.type == "MESH" and item.name == item.data.name == "my cake"
    assert tuple(item.location) == CURSOR and tuple(item.scale) == (1.0, 1.0, 1.0)
    heights = [vertex.co.z for vertex in item.data.vertices]
    assert min(heights) == pytest.approx(0.0, abs=1e-6), "it rests on the ground"
    assert max(item.dimensions) == pytest.approx(2.5, rel=1e-5), "its size is the one that was asked for"
    assert 1 <= len(item.data.polygons) <= FAST["faces"]
    assert principled(item).inputs["Base Color"].is_linked and principled(item).inputs["Roughness"].is_linked
    images = textures(item)
    assert len({image.name for image in images}) == 3
    assert all(tuple(image.size) == (128, 128) and image.packed_file for image in images)
    settings = item.data.genesis.made_with()
    assert settings.seed == 7 and settings.structure.steps == 6 and settings.bake.faces == FAST["faces"]
    assert (Path(item.data.genesis.asset) / "asset.json").is_file() and item.data.genesis.job == ""
    assert [other.name for other in bpy.data.objects] == ["my cake"], "the placeholder and the importer's objects are gone"


def test_memory_survives_save_and_reopen_and_a_rebake_exchanges_the_textures(
    blender: Blender, picture: Path, tmp_path: Path
) -> None:
    item = generate(blender, picture)
    item.location.x = 9.0
    principled(item).inputs["IOR"].default_value = 1.75
    stored, folder = item.data.genesis.stored, item.data.genesis.asset
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    item = bpy.data.objects["my cake"]
    assert (item.data.genesis.stored, item.data.genesis.asset) == (stored, folder)
    assert all(tuple(image.size) == (128, 128) for image in textures(item))

    bpy.context.view_layer.objects.active = item
    item.data.genesis.settings.bake.texture_size = 256
    assert bpy.ops.genesis.rebake() == {"FINISHED"}
    assert bpy.ops.genesis.rebake.poll() is False, "one job at a time on one object"
    blender.wait_for_jobs()
    assert bpy.data.objects["my cake"] == item and item.location.x == 9.0
    assert all(tuple(image.size) == (256, 256) for image in textures(item))
    assert principled(item).inputs["IOR"].default_value == 1.75, "the material is still the user's"
    assert item.data.genesis.made_with().bake.texture_size == 256
    assert len(bpy.data.meshes) == len(bpy.data.materials) == 1 and len(bpy.data.images) == 3, "nothing is left behind"


def test_a_new_texture_keeps_the_shape(blender: Blender, picture: Path) -> None:
    item = generate(blender, picture)
    corners = [tuple(vertex.co) for vertex in item.data.vertices]
    assert bpy.ops.genesis.regenerate_texture(seed=5) == {"FINISHED"}
    blender.wait_for_jobs()
    assert item.data.genesis.made_with().texture_seed == 5
    assert [tuple(vertex.co) for vertex in item.data.vertices] == corners


def test_pumping_stays_within_its_budget_while_a_job_runs(blender: Blender, picture: Path) -> None:
    generate(blender, picture)
    # far above the 4 ms that the session allows itself: both cores may be taken by torch and by other tests
    assert blender.longest < 0.1


def test_a_cancelled_job_takes_its_placeholder_along(blender: Blender, picture: Path) -> None:
    choose(picture)
    settings = bpy.context.scene.genesis.settings
    settings.structure.use_steps, settings.structure.steps = True, 100
    settings.shape.use_steps, settings.shape.steps = True, 100
    bpy.ops.genesis.generate()
    blender.pump_until(lambda: any(task.info for task in blender.session.tasks.values()))
    assert bpy.data.objects["my cake"].data.genesis.job and not bpy.data.objects["my cake"].data.genesis.imported
    assert bpy.ops.genesis.cancel() == {"FINISHED"}
    blender.pump_until(lambda: not blender.session.tasks)
    assert len(bpy.data.objects) == 0


def test_a_job_goes_on_while_its_file_is_closed(blender: Blender, picture: Path, tmp_path: Path) -> None:
    choose(picture)
    bpy.ops.genesis.generate()
    blender.pump_until(lambda: any(task.info for task in blender.session.tasks.values()))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "waiting.blend"))
    blender.session.close()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "waiting.blend"))
    blender.wait_for_jobs()
    assert bpy.data.objects["my cake"].data.genesis.imported


def test_a_deleted_placeholder_is_not_brought_back(blender: Blender, picture: Path) -> None:
    choose(picture)
    bpy.ops.genesis.generate()
    bpy.data.objects.remove(bpy.data.objects["my cake"])
    blender.wait_for_jobs()
    assert len(bpy.data.objects) == 0
    assert ".genesis" in blender.session.error.remedy, "the user learns where the files are"


def test_a_missing_picture_is_refused_at_once(blender: Blender, picture: Path) -> None:
    choose(picture)
    picture.unlink()
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.genesis.generate()
    assert blender.session.error.code == ErrorCode.BAD_IMAGE and not bpy.data.objects


def test_a_picture_that_is_none_fails_with_its_reason(blender: Blender, picture: Path) -> None:
    choose(picture)
    picture.write_text("this is no picture")
    bpy.ops.genesis.generate()
    blender.wait_for_jobs()
    (task,) = blender.session.tasks.values()
    assert task.error.code == ErrorCode.BAD_IMAGE and "my cake" in task.error.message
    assert bpy.ops.genesis.discard(job=task.key) == {"FINISHED"}
    assert not bpy.data.objects and not blender.session.tasks


def test_without_a_server_the_user_is_told_and_can_start_it(blender: Blender, picture: Path, tmp_path: Path) -> None:
    blender.preferences.connection_file = str(tmp_path / "nobody.json")
    blender.preferences.auto_start = False
    choose(picture)
    with pytest.raises(RuntimeError, match="not running"):
        bpy.ops.genesis.generate()
    assert blender.session.error.code == ErrorCode.NOT_CONNECTED
    assert blender.session.error.action == Remedy.START_SERVER
    assert not bpy.data.objects


@pytest.mark.parametrize("wrong", ["missing", "without genesis"])
def test_a_wrong_python_is_named_with_its_remedy(blender: Blender, picture: Path, tmp_path: Path, wrong: str) -> None:
    blender.preferences.connection_file = str(tmp_path / "nobody.json")
    python = "/nowhere/python" if wrong == "missing" else sys._base_executable
    blender.preferences.python = python
    choose(picture)
    if wrong == "missing":
        with pytest.raises(RuntimeError, match="/nowhere/python"):
            bpy.ops.genesis.generate()
        assert not bpy.data.objects
    else:
        bpy.ops.genesis.generate()
        blender.wait_for_jobs()
    assert python in blender.session.error.message
    assert "Choose the Python" in blender.session.error.remedy


def test_the_server_is_stopped_and_started_from_the_panel(blender: Blender) -> None:
    assert bpy.ops.genesis.start_server() == {"FINISHED"}
    blender.pump_until(lambda: blender.session.connected)
    assert blender.session.state == "Running"
    assert bpy.ops.genesis.open_log() == {"FINISHED"}
    assert "worker" in bpy.data.texts["Genesis Log"].as_string()
    assert bpy.ops.genesis.stop_server() == {"FINISHED"}
    blender.pump_until(lambda: blender.session.state == "Not Running")
