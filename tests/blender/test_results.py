# SPDX-License-Identifier: Apache-2.0
"""From a GLB to a mesh, a material and a place in the scene; without a server."""

from __future__ import annotations

from pathlib import Path

import bpy
import glb_files
import numpy as np
import pytest
from conftest import Blender

from blender_addon import delivery, glb, material, moment, waiting
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import JobInfo, JobState


def placeholder(**memory: object) -> bpy.types.Object:
    """An object that waits for a job."""
    mesh = waiting.add_mesh("thing", 1.0)
    mesh.genesis.job, mesh.genesis.size = "a job", 1.0
    for name, value in memory.items():
        setattr(mesh.genesis, name, value)
    return waiting.add_object(bpy.context, mesh)


def job(folder: Path, kind: str = "generate") -> JobInfo:
    return JobInfo("a job", kind, JobState.FINISHED, str(folder))


def deliver(item: bpy.types.Object, path: Path, kind: str = "generate") -> None:
    delivery.deliver(item.data, job(path.parent, kind), glb.read_model(path))


@pytest.fixture
def torus_file(tmp_path: Path) -> Path:
    return glb_files.write(tmp_path / "model.glb", [glb_files.torus()], glb_files.TEXTURES)


def nodes(item: bpy.types.Object, kind: str) -> list[bpy.types.Node]:
    return [node for node in item.data.materials[0].node_tree.nodes if node.type == kind]


def test_the_reader_agrees_with_blenders_own_importer(blender: Blender, torus_file: Path) -> None:
    model = glb.read_model(torus_file).levels[0]
    bpy.ops.import_scene.gltf(filepath=str(torus_file))
    (theirs,) = [item for item in bpy.data.objects if item.type == "MESH"]
    corners = np.empty(len(theirs.data.loops), np.int32)
    theirs.data.loops.foreach_get("vertex_index", corners)
    points = np.array([theirs.matrix_world @ vertex.co for vertex in theirs.data.vertices], np.float32)
    assert np.allclose(points[corners], model.vertices[model.corners], atol=1e-6)
    uvs = np.array([tuple(entry.vector) for entry in theirs.data.uv_layers[0].uv])
    assert np.allclose(uvs, model.uvs, atol=1e-6)


def test_a_surface_is_closed_over_its_uv_seams(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    mesh = item.data
    assert (len(mesh.vertices), len(mesh.edges), len(mesh.polygons)) == (24 * 12, 3 * 24 * 12, 2 * 24 * 12)
    uses = np.zeros(len(mesh.edges), int)
    for polygon in mesh.polygons:
        for key in polygon.loop_indices:
            uses[mesh.loops[key].edge_index] += 1
    assert set(uses) == {2}, "every edge has two faces"
    assert all(polygon.use_smooth for polygon in mesh.polygons) and not mesh.validate()


def test_shading_follows_the_normals_of_the_file(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    wanted = glb_files.torus()
    truth = {tuple(np.round(p, 4)): n for p, n in zip(wanted["positions"], wanted["normals"], strict=True)}
    lowest = wanted["positions"][:, 2].min()
    scale = item.data.genesis.scale
    for corner, normal in zip(item.data.loops, item.data.corner_normals, strict=True):
        point = np.array(item.data.vertices[corner.vertex_index].co) / scale + (0, 0, lowest)
        expected = min(truth.items(), key=lambda entry: np.abs(np.array(entry[0]) - point).sum())[1]
        assert np.dot(normal.vector, expected) > 0.999


def test_the_material_is_what_blender_would_make_of_the_file(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    (shader,) = nodes(item, "BSDF_PRINCIPLED")
    assert shader.inputs["Base Color"].links[0].from_node.image.colorspace_settings.name == "sRGB"
    assert shader.inputs["Metallic"].links[0].from_socket.name == "Blue"
    assert shader.inputs["Roughness"].links[0].from_socket.name == "Green"
    assert shader.inputs["Normal"].links[0].from_node.type == "NORMAL_MAP" and not shader.inputs["Alpha"].is_linked
    data = [node.image for node in nodes(item, "TEX_IMAGE") if node.image["genesis_role"] != "base_color"]
    assert {image.colorspace_settings.name for image in data} == {"Non-Color"}
    assert all(
        image.packed_file and tuple(image.size) == (8, 8) for image in material.images_by_role(item.data.materials[0]).values()
    )


@pytest.mark.parametrize(("mode", "source"), [("BLEND", "TEX_IMAGE"), ("MASK", "MATH")])
def test_transparency_is_shown_as_it_is_meant(blender: Blender, tmp_path: Path, mode: str, source: str) -> None:
    path = glb_files.write(tmp_path / "model.glb", [glb_files.torus()], glb_files.TEXTURES, alphaMode=mode)
    item = placeholder()
    deliver(item, path)
    (shader,) = nodes(item, "BSDF_PRINCIPLED")
    assert shader.inputs["Alpha"].links[0].from_node.type == source
    assert item.data.materials[0].surface_render_method == ("BLENDED" if mode == "BLEND" else "DITHERED")


def test_a_rebake_keeps_everything_that_was_done_to_the_object(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    mesh, slot = item.data, item.data.materials[0]
    twin = bpy.data.objects.new("twin", mesh)
    bpy.context.collection.objects.link(twin)
    item.modifiers.new("Bevel", "BEVEL")
    item.parent, item.location.x, item.data.materials[0].name = twin, 4.0, "mine"
    nodes(item, "BSDF_PRINCIPLED")[0].inputs["IOR"].default_value = 1.9
    scale, ground = mesh.genesis.scale, mesh.genesis.ground
    finer = {**glb_files.TEXTURES, "base_color": glb_files.png(16, 16, (1, 2, 3))}
    glb_files.write(torus_file, [glb_files.torus(12, 6)], finer)
    mesh.genesis.job = "a job"
    deliver(item, torus_file, "rebake")
    assert item.data == twin.data == mesh and len(mesh.polygons) == 2 * 12 * 6
    assert item.parent == twin and item.location.x == 4.0 and item.modifiers["Bevel"]
    assert mesh.materials[0] == slot and slot.name == "mine"
    assert nodes(item, "BSDF_PRINCIPLED")[0].inputs["IOR"].default_value == pytest.approx(1.9)
    assert tuple(material.images_by_role(slot)["base_color"].size) == (16, 16)
    assert (mesh.genesis.scale, mesh.genesis.ground) == (scale, ground), "it does not jump"
    assert (len(bpy.data.meshes), len(bpy.data.materials), len(bpy.data.images)) == (1, 1, 3), "nothing is left behind"


def test_a_new_kind_of_transparency_makes_a_new_material(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    glb_files.write(torus_file, [glb_files.torus()], glb_files.TEXTURES, alphaMode="BLEND")
    item.data.genesis.job = "a job"
    deliver(item, torus_file, "rebake")
    assert nodes(item, "BSDF_PRINCIPLED")[0].inputs["Alpha"].is_linked and item.data.materials[0].name == "thing"
    assert (len(bpy.data.materials), len(bpy.data.images)) == (1, 3)


def test_levels_of_detail_are_switched_and_survive_a_rebake(blender: Blender, tmp_path: Path) -> None:
    path = tmp_path / "model.glb"
    glb_files.write(path, [glb_files.torus(), glb_files.torus(12, 6), glb_files.torus(6, 4)], glb_files.TEXTURES)
    item = placeholder()
    deliver(item, path)
    main = item.data
    assert item.genesis.level == 0
    item.genesis.level = 2
    assert len(item.data.polygons) == 2 * 6 * 4 and item.data.materials[0] == main.materials[0]
    assert item.genesis.level == 2
    coarse = item.data
    main.genesis.job = "a job"
    glb_files.write(path, [glb_files.torus(), glb_files.torus(10, 6), glb_files.torus(5, 4)], glb_files.TEXTURES)
    delivery.deliver(main, job(tmp_path, "rebake"), glb.read_model(path))
    assert item.data == coarse and len(coarse.polygons) == 2 * 5 * 4
    glb_files.write(path, [glb_files.torus()], glb_files.TEXTURES)
    delivery.deliver(main, job(tmp_path, "rebake"), glb.read_model(path))
    assert item.data == main and len(bpy.data.meshes) == 1 and not main.genesis.levels


def test_textures_can_be_files_beside_the_blend(blender: Blender, torus_file: Path, tmp_path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    item = placeholder(textures="FILES")
    deliver(item, torus_file)
    images = material.images_by_role(item.data.materials[0])
    assert {image.filepath for image in images.values()} == {
        "//textures/thing base color.png",
        "//textures/thing metallic roughness.png",
        "//textures/thing normal.png",
    }
    assert not any(image.packed_file for image in images.values())
    assert all(tuple(image.size) == (8, 8) for image in images.values())


def test_a_result_becomes_an_asset_with_preview_and_tags(blender: Blender, torus_file: Path) -> None:
    (torus_file.parent / "thumbnail.png").write_bytes(glb_files.png(16, 16, (10, 200, 30)))
    blender.preferences.author = "A. Author"
    item = placeholder(mark_asset=True, model="mini", pictures='[["/pictures/cake.png", "auto"]]')
    deliver(item, torus_file)
    data = item.asset_data
    assert (
        data.author == "A. Author" and {tag.name for tag in data.tags} == {"Genesis", "mini"} and "cake.png" in data.description
    )
    assert tuple(item.preview.image_size) == (16, 16) and item.preview.image_pixels_float[1] == pytest.approx(
        200 / 255, abs=0.01
    )
    assert len(bpy.data.images) == 3


@pytest.mark.parametrize("data", [b"", b"glTF", b"glTF\2\0\0\0\xff\xff\xff\x7f" + bytes(60), None])
def test_a_broken_file_is_named_and_changes_nothing(blender: Blender, tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "model.glb"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(GenesisError, match="model.glb") as raised:
        glb.read_model(path)
    assert raised.value.code == ErrorCode.BAD_ASSET and raised.value.remedy


def test_a_truncated_or_lying_file_is_refused(tmp_path: Path, torus_file: Path) -> None:
    whole = torus_file.read_bytes()
    rng = np.random.default_rng(0)
    for length in (20, 200, len(whole) // 2, len(whole) - 1):
        torus_file.write_bytes(whole[:length])
        with pytest.raises(GenesisError):
            glb.read_model(torus_file)
    mesh = glb_files.torus()
    mesh["indices"] = rng.integers(0, 10_000, len(mesh["indices"]))
    glb_files.write(torus_file, [mesh], glb_files.TEXTURES)
    with pytest.raises(GenesisError, match="vertices that do not exist"):
        glb.read_model(torus_file)


def test_an_object_being_edited_is_left_alone_until_the_user_is_done(blender: Blender, torus_file: Path) -> None:
    item = placeholder()
    deliver(item, torus_file)
    assert moment.may_import()
    bpy.ops.object.mode_set(mode="EDIT")
    assert not moment.may_import()
    bpy.ops.object.mode_set(mode="OBJECT")
