# SPDX-License-Identifier: Apache-2.0
"""Where pictures can come from besides the file browser."""

from __future__ import annotations

from pathlib import Path

import bpy
import glb_files
import numpy as np
import pytest
from conftest import Blender


def listed() -> list[Path]:
    return [Path(picture.absolute()) for picture in bpy.context.scene.genesis.pictures]


def image(name: str, colour: tuple[float, ...] = (1.0, 0.5, 0.0, 0.25)) -> bpy.types.Image:
    made = bpy.data.images.new(name, 4, 4, alpha=True)
    made.pixels.foreach_set(np.tile(np.array(colour, np.float32), 16))
    return made


@pytest.fixture(autouse=True)
def server_folder(blender: Blender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where captured pictures go."""
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_painted_image_becomes_a_file_and_stays_what_it_is(blender: Blender, server_folder: Path) -> None:
    painted = image("painted")
    assert bpy.ops.genesis.add_image(image="painted") == {"FINISHED"}
    (path,) = listed()
    assert path.is_relative_to(server_folder) and painted.source == "GENERATED" and len(bpy.data.images) == 1
    again = bpy.data.images.load(str(path))
    assert tuple(again.size) == (4, 4) and again.pixels[3] == pytest.approx(0.25, abs=0.01)


def test_an_image_with_a_file_is_taken_from_there(blender: Blender, tmp_path: Path) -> None:
    path = tmp_path / "on disk.png"
    path.write_bytes(glb_files.png(4, 4, (9, 9, 9)))
    bpy.data.images.load(str(path))
    bpy.ops.genesis.add_image(image="on disk.png")
    assert listed() == [path]


def test_an_image_whose_file_is_gone_is_refused_in_words(blender: Blender, tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    path.write_bytes(glb_files.png(4, 4, (9, 9, 9)))
    bpy.data.images.load(str(path))
    path.unlink()
    with pytest.raises(RuntimeError, match="gone.png"):
        bpy.ops.genesis.add_image(image="gone.png")
    assert not listed()


def test_copied_files_are_pasted_as_paths_or_addresses(blender: Blender, tmp_path: Path) -> None:
    from blender_addon.capture import local_path

    path = tmp_path / "my picture.png"
    path.touch()
    assert local_path(f'"{path}"') == local_path(str(path)) == local_path(path.as_uri()) == path
    assert local_path("not a path") is None and local_path("https://example.com/a.png") is None


def test_an_empty_clipboard_is_said_in_words(blender: Blender) -> None:
    with pytest.raises(RuntimeError, match="no picture in the clipboard"):
        bpy.ops.genesis.paste_picture()


def test_a_render_is_added_with_its_transparency(blender: Blender) -> None:
    scene = bpy.context.scene
    with pytest.raises(RuntimeError, match="Nothing has been rendered"):
        bpy.ops.genesis.add_render()
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(scene.camera)
    scene.render.engine, scene.cycles.samples, scene.render.film_transparent = "CYCLES", 1, True
    scene.render.resolution_x = scene.render.resolution_y = 16
    scene.render.image_settings.file_format = "JPEG"
    bpy.ops.render.render()
    bpy.ops.genesis.add_render()
    (path,) = listed()
    again = bpy.data.images.load(str(path))
    assert again.pixels[3] == 0.0 and scene.render.image_settings.file_format == "JPEG", "the scene's settings are back"


def test_without_a_window_the_viewport_cannot_be_captured(blender: Blender) -> None:
    with pytest.raises(RuntimeError, match="no 3D viewport"):
        bpy.ops.genesis.add_viewport()


def test_pictures_are_moved(blender: Blender, tmp_path: Path) -> None:
    bpy.ops.genesis.add_pictures(directory=str(tmp_path), files=[{"name": "a.png"}, {"name": "b.png"}])
    bpy.ops.genesis.move_picture(by=-1)
    assert [path.name for path in listed()] == ["b.png", "a.png"] and bpy.context.scene.genesis.active_picture == 0
