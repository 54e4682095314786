# SPDX-License-Identifier: Apache-2.0
"""The ray caster shows what a GLB holds, where the camera says, without GPU or display."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.render import (
    FRONT_DISTANCE,
    MODES,
    View,
    contact_sheet,
    front_camera,
    render_thumbnail,
    render_views,
)
from tests import analytic

FRONT = View(mode="base_color", distance=FRONT_DISTANCE)


@pytest.fixture(scope="module")
def sphere() -> tuple[UnwrappedMesh, Material]:
    mesh, voxels = analytic.dual_mesh(analytic.sphere(), 48)
    unwrapped = unwrap(mesh, 512)
    return unwrapped, bake_textures(unwrapped, mesh, voxels, BakeSettings(texture_size=512))


@pytest.fixture(scope="module")
def model(sphere: tuple[UnwrappedMesh, Material]) -> GlbModel:
    mesh, material = sphere
    return GlbModel(mesh.vertices.numpy(), mesh.normals.numpy(), mesh.faces.numpy(), mesh.uvs.numpy(), material)


def quad(alpha_mode: str, *layers: tuple[float, tuple[int, int, int, int]]) -> GlbModel:
    """Unit squares facing -y at given y, each of one colour."""
    square = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], np.float32)
    vertices = np.concatenate([square + [0, y, 0] for y, _ in layers]).astype(np.float32)
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(len(layers))]).astype(np.int32)
    uvs = np.repeat([[(i + 0.5) / len(layers), 0.5] for i in range(len(layers))], 4, 0).astype(np.float32)
    base = np.array([[colour for _, colour in layers]], np.uint8)
    material = Material(base, np.full((1, len(layers), 3), 128, np.uint8), alpha_mode)
    return GlbModel(vertices, np.zeros_like(vertices), faces, uvs, material)


def test_base_colour_view_shows_the_analytic_colour_at_every_pixel(model: GlbModel) -> None:
    size = 96
    picture = render_views(model, [FRONT], size)[0]
    camera = front_camera()
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid, -grid)
    ray = np.array(camera.forward) + (x[..., None] * camera.right + y[..., None] * np.array(camera.up)) * camera.tangent
    ray /= np.linalg.norm(ray, axis=2, keepdims=True)
    along = ray @ -np.array(camera.eye)
    inside = 0.4**2 - (np.dot(camera.eye, camera.eye) - along**2)
    seen = inside > 0.02  # away from the silhouette, where a pixel averages very different colours
    hit = camera.eye + ray * (along - np.sqrt(np.maximum(inside, 0)))[..., None]
    truth = analytic.smooth_colour(hit[seen])[:, :3] * 255
    error = np.abs(picture[seen][:, :3] - truth)
    assert error.mean() < 1.5 and error.max() < 10  # 2 x 2 rays per pixel against one, 8-bit texels
    assert (picture[seen][:, 3] == 255).all()
    assert (picture[inside < -0.02][:, 3] == 0).all()


def test_the_front_camera_frames_the_unit_square() -> None:
    picture = render_views(quad("OPAQUE", (0.0, (200, 100, 50, 255))), [FRONT], 64)[0]
    assert (picture == [200, 100, 50, 255]).all()
    assert front_camera().eye == pytest.approx((0, -0.5 / math.tan(math.radians(15)), 0))


def test_right_and_up_are_where_they_belong() -> None:
    tall = quad("OPAQUE", (0.0, (255, 0, 0, 255)))
    moved = GlbModel(tall.vertices * 0.2 + [0.3, 0, 0.3], tall.normals, tall.faces, tall.uvs, tall.material)
    moved = GlbModel(moved.vertices.astype(np.float32), *[getattr(moved, n) for n in ("normals", "faces", "uvs", "material")])
    covered = render_views(moved, [FRONT], 50)[0][..., 3] > 0
    rows, cols = np.nonzero(covered)
    assert rows.max() < 25 and cols.min() >= 25  # +z is up, +x is right when seen from -y


def test_transparency_by_mode() -> None:
    layers = ((0.0, (255, 0, 0, 102)), (0.1, (0, 255, 0, 255)))
    view = [View(mode="base_color")]
    assert np.allclose(render_views(quad("BLEND", *layers), view, 32)[0][16, 16], [102, 153, 0, 255], atol=1)
    assert np.allclose(render_views(quad("MASK", *layers), view, 32)[0][16, 16], [0, 255, 0, 255], atol=1)
    assert np.allclose(render_views(quad("OPAQUE", *layers), view, 32)[0][16, 16], [255, 0, 0, 255], atol=1)
    assert abs(int(render_views(quad("BLEND", layers[0]), view, 32)[0][16, 16, 3]) - 102) <= 1


def test_automatic_distance_shows_the_whole_model(model: GlbModel) -> None:
    for view in (View(35, 20), View(120, -40)):
        alpha = render_views(model, [view], 64)[0][..., 3]
        assert not alpha[[0, -1]].any() and not alpha[:, [0, -1]].any()
        assert (alpha > 0).any(1).sum() >= 56


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_something_of_its_own(model: GlbModel, mode: str) -> None:
    picture = render_views(model, [View(30, 20, mode)], 48)[0]
    inside = picture[..., 3] == 255
    assert inside.sum() > 500 and picture[inside][:, :3].std() > 3


def test_the_key_light_comes_from_above_and_casts_no_black(model: GlbModel) -> None:
    clay = render_views(model, [View(mode="clay")], 64)[0].astype(int)
    assert clay[14, 26, :3].mean() > clay[50, 38, :3].mean() + 20
    assert clay[clay[..., 3] == 255][:, :3].min() > 40
    assert clay[clay[..., 3] == 255][:, :3].max() < 255


def test_rendering_twice_gives_the_same_bytes(model: GlbModel) -> None:
    assert np.array_equal(*[render_views(model, [View(10, 10)], 32)[0] for _ in range(2)])


def test_a_thumbnail_is_quick_and_written_whole(tmp_path: Path, sphere: tuple[UnwrappedMesh, Material]) -> None:
    write_glb(tmp_path / "a.glb", *sphere)
    render_thumbnail(tmp_path / "a.glb", tmp_path / "a.png", 16)  # kernels are compiled
    start = time.process_time()
    render_thumbnail(tmp_path / "a.glb", tmp_path / "a.png")
    assert time.process_time() - start < 4  # a second on an idle core; tests share theirs
    picture = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (256, 256, 4) and 0 < (picture[..., 3] > 0).mean() < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.glb", "a.png"]


def test_a_contact_sheet_sets_views_side_by_side(model: GlbModel) -> None:
    assert contact_sheet(model, size=32).shape == (32, 128, 3)


def test_an_unknown_mode_is_refused(model: GlbModel) -> None:
    with pytest.raises(GenesisError, match="sparkle"):
        render_views(model, [View(mode="sparkle")], 16)


def test_arrays_of_any_memory_layout_are_accepted(model: GlbModel) -> None:
    strided = GlbModel(np.asfortranarray(model.vertices), model.normals, model.faces, model.uvs, model.material)
    assert np.array_equal(render_views(strided, [FRONT], 24)[0], render_views(model, [FRONT], 24)[0])
