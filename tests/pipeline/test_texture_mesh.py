# SPDX-License-Identifier: Apache-2.0
"""A mesh gets new textures and stays what it was: coordinates, names, materials, size, place."""

import dataclasses
import shutil
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.bake.gltf_scene import GltfScene
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.pipeline.encode_mesh import decode_texture, encode_shape
from genesis_server.pipeline.latents import Latent
from genesis_server.pipeline.memory import Rung, Work
from genesis_server.pipeline.mesh_surface import MeshSurface, _into_tile
from genesis_server.pipeline.model import Model, texturing_configuration
from genesis_server.pipeline.plan import make_texture_plan
from genesis_server.pipeline.texture_mesh import is_textured_mesh, texture_mesh
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import EventKind
from genesis_server.protocol.parameters import BakeSettings, GenerateSettings
from tests.pipeline.glb_files import read_document, view, write_scene

SETTINGS = GenerateSettings(bake=BakeSettings(texture_size=128, alpha="opaque"))


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return Model.load(str(tiny_model), "cpu", texturing_configuration(str(tiny_model)))


def new_asset(folder: Path, settings: GenerateSettings = SETTINGS) -> Asset:
    picture = Image.new("RGBA", (64, 64))
    picture.paste((200, 80, 40, 255), (8, 8, 56, 56))
    return Asset.create(folder, [picture], settings, "tiny")


def run(asset: Asset, mesh: Path | None, model: Model | None) -> list[str]:
    """Textures a mesh; the stages that ran."""
    events = []
    texture_mesh(asset, mesh, model, events.append)
    return [event.stage for event in events if event.kind == EventKind.STAGE_FINISHED]


def picture_of(path: Path, texture: int) -> np.ndarray:
    document, binary = read_document(path)
    image = document["images"][document["textures"][texture]["source"]]
    return cv2.imdecode(np.frombuffer(view(document, binary, image["bufferView"]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_everything_but_the_textures_stays(tmp_path: Path, model: Model) -> None:
    mesh = write_scene(tmp_path / "boxes.glb")
    asset = new_asset(tmp_path / "a.genesis")
    assert run(asset, mesh, model) == ["cutout", "shape", "texture", "voxels", "bake"]
    (before, old), (after, new) = read_document(mesh), read_document(asset.path("model.glb"))
    for part in ("nodes", "meshes", "scenes", "asset"):
        assert after[part] == before[part]
    for number, accessor in enumerate(before["accessors"]):
        moved = after["accessors"][number]
        assert view(after, new, moved["bufferView"]) == view(before, old, accessor["bufferView"])
        assert {**moved, "bufferView": 0} == {**accessor, "bufferView": 0}
    clay, glaze = after["materials"]
    assert (clay["name"], glaze["name"]) == ("Clay", "Glaze")
    assert set(glaze) == {"name", "pbrMetallicRoughness"}, "factors and emission would tint the new textures"
    pictures = [surface["pbrMetallicRoughness"]["baseColorTexture"]["index"] for surface in (clay, glaze)]
    assert len(set(pictures)) == 2, "each material has its own coordinates and so its own texture"
    assert all(picture_of(asset.path("model.glb"), number).shape == (128, 128, 3) for number in pictures)
    # the normal map is the mesh's own; the colours that nothing names any more are gone with their bytes
    assert view(after, new, after["images"][after["textures"][clay["normalTexture"]["index"]]["source"]]["bufferView"]) == view(
        before, old, 3
    )
    assert len(after["images"]) == 5
    alpha = cv2.imread(str(asset.path("thumbnail.png")), cv2.IMREAD_UNCHANGED)[..., 3]
    rows, columns = np.nonzero(alpha)
    assert rows.mean() == pytest.approx(128, abs=20) and columns.mean() == pytest.approx(128, abs=20), "framed where it stands"
    assert np.ptp(rows) > 150


def test_a_mesh_without_coordinates_is_unwrapped_in_its_place(tmp_path: Path, model: Model) -> None:
    mesh = write_scene(tmp_path / "bare.glb", with_uvs=False)
    asset = new_asset(tmp_path / "a.genesis")
    events = []
    texture_mesh(asset, mesh, model, events.append)
    assert any("unwrapped" in event.note for event in events if event.kind == EventKind.NOTE)
    bounds = []
    for path in (mesh, asset.path("model.glb")):
        corners = np.concatenate([part.vertices for part in GltfScene.read(path).parts])
        bounds.append([corners.min(0), corners.max(0)])
    # positions are stored as float32 near 100
    np.testing.assert_allclose(bounds[1], bounds[0], atol=1e-5)
    assert not MeshSurface(GltfScene.read(mesh)).has_uvs
    (part,) = GltfScene.read(asset.path("model.glb")).parts
    a, b, c = (part.vertices[part.faces[:, corner]] for corner in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    edges_stay_hard = (part.normals[part.faces] * flat[:, None]).sum(2)
    assert edges_stay_hard.min() > 0.9999


def test_only_what_changed_runs_again(tmp_path: Path, model: Model) -> None:
    mesh = write_scene(tmp_path / "boxes.glb")
    asset = new_asset(tmp_path / "a.genesis")
    run(asset, mesh, model)
    assert is_textured_mesh(asset)
    mesh.unlink()  # the asset has its own copy
    assert run(asset, None, model) == []
    asset.change(dataclasses.replace(SETTINGS, bake=BakeSettings(texture_size=64, alpha="opaque")))
    assert run(asset, None, None) == ["bake"]
    assert picture_of(asset.path("model.glb"), 0).shape[:2] in ((64, 64), (256, 256))
    asset.change(dataclasses.replace(asset.settings, texture_seed=9))
    assert run(asset, None, model) == ["texture", "voxels", "bake"]


def test_attributes_lie_on_exactly_the_voxels_of_the_mesh(tmp_path: Path, model: Model) -> None:
    surface = MeshSurface(GltfScene.read(write_scene(tmp_path / "boxes.glb")))
    voxels = voxelize_mesh(surface.mesh, 32)
    shape = encode_shape(model, voxels)
    assert int(shape.coords.max()) < 32 // 8 and shape.feats.shape[1] == 4
    texture = Latent(shape.coords, torch.randn(shape.feats.shape, generator=torch.Generator().manual_seed(0)), 32)
    painted = decode_texture(model, texture, voxels)
    assert painted.coords is voxels.coords
    assert painted.attributes.shape == (len(voxels.coords), 6)
    shuffled = dataclasses.replace(
        voxels, **{name: getattr(voxels, name).flip(0) for name in ("coords", "dual_vertices", "intersected")}
    )
    # the same voxels in another order get the same attributes: sums run in another order
    torch.testing.assert_close(decode_texture(model, texture, shuffled).attributes.flip(0), painted.attributes)


def test_a_mesh_is_painted_the_same_in_tiles(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest ways to run decode the finest level in parts; every voxel gets the same attributes."""
    voxels = voxelize_mesh(MeshSurface(GltfScene.read(write_scene(tmp_path / "boxes.glb"))).mesh, 32)
    shape = encode_shape(model, voxels)
    texture = Latent(shape.coords, torch.randn(shape.feats.shape, generator=torch.Generator().manual_seed(0)), 32)
    whole, use = decode_texture(model, texture, voxels).attributes, Model.use

    @contextmanager
    def tiled(self: Model, role: str, work: Work | None = None, precision: str = "auto"):
        with use(self, role, work, precision) as used:
            yield used._replace(rung=Rung(tiles=3))

    monkeypatch.setattr(Model, "use", tiled)
    assert torch.equal(decode_texture(model, texture, voxels).attributes, whole)


def test_the_mesh_is_normalised_as_the_published_pipeline_does(tmp_path: Path) -> None:
    mesh = MeshSurface(GltfScene.read(write_scene(tmp_path / "boxes.glb"))).mesh
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    assert float((high - low).max()) == pytest.approx(0.99999, abs=1e-6)
    torch.testing.assert_close(low + high, torch.zeros(3), atol=1e-6, rtol=0)
    assert float(high[2]) > float(high[0]), "y up in the file is z up for the model: the lid is on top"


def test_coordinates_outside_the_first_tile_share_its_texels() -> None:
    inside = np.array([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])
    across = np.array([[2.8, -0.9], [3.2, -0.9], [2.8, -0.6]])
    faces, places = _into_tile(np.stack([inside, inside + [3, -2], across]))
    assert faces.tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(places[1], inside)
    np.testing.assert_allclose(places[2:, :, 0], [[0.8, 1.2, 0.8], [-0.2, 0.2, -0.2]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extensionsUsed": ["KHR_draco_mesh_compression"]}, "compressed with KHR_draco"),
        ({"buffers": [{"byteLength": 4, "uri": "elsewhere.bin"}]}, "other files"),
        ({"scenes": [{"nodes": []}]}, "no triangles"),
        ({"nodes": [{"children": [0]}]}, "circles"),
    ],
)
def test_a_file_that_cannot_be_textured_is_refused_before_anything_is_written(
    tmp_path: Path, model: Model, changes: dict, words: str
) -> None:
    mesh = write_scene(tmp_path / "boxes.glb", **changes)
    asset = new_asset(tmp_path / "a.genesis")
    with pytest.raises(GenesisError, match=words) as caught:
        run(asset, mesh, model)
    assert caught.value.code == ErrorCode.BAD_MESH
    assert not is_textured_mesh(asset)


def test_a_file_of_another_kind_is_refused(tmp_path: Path, model: Model) -> None:
    (tmp_path / "mesh.obj").write_text("v 0 0 0\n")
    with pytest.raises(GenesisError, match="does not start as a GLB"):
        run(new_asset(tmp_path / "a.genesis"), tmp_path / "mesh.obj", model)


def test_a_model_without_an_encoder_is_named(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("shape_slat_encoder.*"))
    with pytest.raises(GenesisError, match="no shape_slat_encoder"):
        run(new_asset(tmp_path / "a.genesis"), write_scene(tmp_path / "boxes.glb"), Model.load(str(folder), "cpu"))


def test_resolutions_choose_the_published_networks() -> None:
    roles = dict.fromkeys(("tex_slat_flow_model_512", "tex_slat_flow_model_1024"))
    plans = {name: make_texture_plan(name, roles, 16, None) for name in ("512", "1024_cascade", "1536")}
    assert [(p.resolution, p.texture.role[-4:].strip("_"), p.texture.image_size) for p in plans.values()] == [
        (512, "512", 512),
        (1024, "1024", 1024),
        (1536, "1024", 1024),
    ]
    with pytest.raises(GenesisError, match="multiple of 16"):
        make_texture_plan("1000", roles, 16, None)
