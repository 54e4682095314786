# SPDX-License-Identifier: Apache-2.0
"""New textures on the user's own mesh."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import Blender
from test_generate import choose, textures

from blender_addon import glb, glb_export


def corner_uvs(mesh: bpy.types.Mesh) -> np.ndarray:
    values = np.empty(2 * len(mesh.loops), np.float32)
    mesh.uv_layers.active.uv.foreach_get("vector", values)
    return values.reshape(-1, 2)


def monkey(uvs: bool = True) -> bpy.types.Object:
    """Suzanne: quads and triangles, with UVs or without."""
    bpy.ops.mesh.primitive_monkey_add(size=3.0, location=(4.0, 5.0, 6.0), calc_uvs=uvs)
    return bpy.context.object


def test_what_is_written_is_found_again_in_another_order(blender: Blender, tmp_path: Path) -> None:
    mesh = monkey().data
    path = tmp_path / "mesh.glb"
    glb_export.write_mesh(path, mesh)
    back = glb.read_model(path).levels[0]
    ours = {tuple(vertex.co) for vertex in mesh.vertices}
    assert {tuple(float(part) for part in point) for point in back.vertices} == ours, "bit for bit"
    rng = np.random.default_rng(1)
    order = rng.permutation(len(back.corners) // 3)
    corners = np.roll(back.corners.reshape(-1, 3)[order], 1, axis=1)
    uvs = np.roll(back.uvs.reshape(-1, 3, 2)[order], 1, axis=1)
    shuffled = glb.MeshArrays(back.vertices, corners.reshape(-1), uvs.reshape(-1, 2))
    assert np.allclose(glb_export.uvs_of_loops(mesh, shuffled), corner_uvs(mesh), atol=1e-6)


@pytest.mark.parametrize("uvs", [True, False], ids=["own UVs", "no UVs"])
def test_a_mesh_is_textured_in_place(blender: Blender, picture: Path, uvs: bool) -> None:
    item = monkey(uvs)
    item.modifiers.new("Subdivision", "SUBSURF")
    mesh = item.data
    points = [tuple(vertex.co) for vertex in mesh.vertices]
    before = corner_uvs(mesh) if uvs else None
    choose(picture)
    bpy.context.view_layer.objects.active = item
    assert bpy.ops.genesis.texture_mesh() == {"FINISHED"}
    assert not bpy.ops.genesis.texture_mesh.poll(), "one job at a time on one mesh"
    blender.wait_for_jobs()
    assert blender.session.error is None and not [task.error for task in blender.session.tasks.values() if task.error]
    assert item.data == mesh and [tuple(vertex.co) for vertex in mesh.vertices] == points and item.modifiers[0]
    assert tuple(item.location) == (4.0, 5.0, 6.0)
    assert len(textures(item)) >= 2 and all(image.packed_file for image in textures(item))
    if uvs:
        assert np.array_equal(corner_uvs(mesh), before) and len(mesh.uv_layers) == 1
    else:
        found = corner_uvs(mesh)
        assert mesh.uv_layers.active.name == "Genesis" and (np.ptp(found, axis=0) > 0.5).all()
    mesh.genesis.settings.bake.texture_size = 256
    assert bpy.ops.genesis.rebake() == {"FINISHED"}
    blender.wait_for_jobs()
    assert {tuple(image.size) for image in textures(item)} == {(256, 256)}
    assert [tuple(vertex.co) for vertex in mesh.vertices] == points and len(bpy.data.materials) == 1


def test_a_cancelled_texture_leaves_the_mesh_alone(blender: Blender, picture: Path) -> None:
    item = monkey()
    count = len(item.data.polygons)
    choose(picture)
    bpy.context.scene.genesis.settings.texture.steps = 100
    bpy.context.view_layer.objects.active = item
    bpy.ops.genesis.texture_mesh()
    bpy.ops.genesis.cancel()
    blender.pump_until(lambda: not blender.session.tasks)
    assert bpy.data.objects[item.name] == item and len(item.data.polygons) == count
    assert not item.data.materials and not item.data.genesis.job


def test_a_mesh_without_faces_is_refused(blender: Blender, picture: Path) -> None:
    choose(picture)
    item = bpy.data.objects.new("points", bpy.data.meshes.new("points"))
    bpy.context.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    with pytest.raises(RuntimeError, match="no faces"):
        bpy.ops.genesis.texture_mesh()
