# SPDX-License-Identifier: Apache-2.0
"""Coarser levels of detail use the textures of the finest, without seams (docs/spec/geometry.md 14, 19.7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genesis_server.bake.levels import coarser_level
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.simplify import simplify
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.inspect import inspect
from native_ext.closest_point import closest_point
from tests import analytic
from tests.quality import aspects
from tests.texture_truth import SurfacePoints, colour_error

SIZE = 512


@pytest.fixture(scope="module", params=["rounded_box", "torus"])
def levels(request: pytest.FixtureRequest) -> tuple[analytic.Solid, list[GlbModel], list[UnwrappedMesh]]:
    solid = getattr(analytic, request.param)()
    mesh, voxels = analytic.dual_mesh(solid, 64)
    finest = unwrap(mesh, SIZE)
    meshes = [finest]
    for share in (0.25, 0.05):
        meshes.append(coarser_level(meshes[-1], round(share * len(finest.faces)), SIZE))
    material = bake_textures(finest, mesh, voxels, BakeSettings(texture_size=SIZE))
    models = [
        GlbModel(*(getattr(level, name).numpy() for name in ("vertices", "normals", "faces", "uvs")), material)
        for level in meshes
    ]
    return solid, models, meshes


def test_face_counts_are_met(levels: tuple) -> None:
    finest, middle, coarse = (len(model.faces) for model in levels[1])
    assert middle == pytest.approx(finest / 4, rel=0.02) and coarse == pytest.approx(finest / 20, rel=0.02)


def test_positions_and_texture_coordinates_are_chosen_from_the_finest_level(levels: tuple) -> None:
    _, models, _ = levels
    for name in ("vertices", "uvs"):
        fine, middle, coarse = ({row.tobytes() for row in getattr(model, name)} for model in models)
        assert coarse <= middle <= fine


def test_no_face_is_lit_from_behind(levels: tuple) -> None:
    for model in levels[1]:
        a, b, c = model.vertices[model.faces].transpose(1, 0, 2)
        out = np.cross(b - a, c - a)[:, None] * model.normals[model.faces]
        assert (out.sum(2) > 0).all()
        assert np.allclose(np.linalg.norm(model.normals, axis=1), 1, atol=1e-4)


def test_every_level_is_closed_and_flat_in_the_texture(levels: tuple) -> None:
    for model in levels[1]:
        found = inspect(model)
        assert found["watertight"] and found["turned_edges"] == 0 and found["duplicate_faces"] == 0
        assert found["mirrored_faces"] == found["zero_uv_faces"] == found["degenerate_faces"] == 0


def test_no_level_has_slivers(levels: tuple) -> None:
    for mesh in levels[2][1:]:
        aspect = aspects(Mesh(mesh.vertices, mesh.faces))
        assert (aspect > 10).float().mean() < 0.01 and aspect.max() < 30


def test_textures_show_the_true_colour_on_every_level(levels: tuple) -> None:
    solid, models, _ = levels
    for model, largest in zip(models, (12, 16, 45), strict=True):
        error = colour_error(model, solid, SurfacePoints(model, 20_000))
        # a coarse face lies off the surface by its sagitta, where the closed form has another colour
        assert error.mean() < 2.5 and np.quantile(error, 0.99) < 14 and error.max() < largest, error.max()


def test_both_sides_of_seams_agree(levels: tuple) -> None:
    fine, *coarser = (inspect(model)["seam_error"] for model in levels[1])
    assert all(error <= fine + 1 for error in coarser)


def test_the_same_bytes_twice() -> None:
    finest = unwrap(analytic.dual_mesh(analytic.torus(), 32)[0], 256)
    once, twice = (coarser_level(finest, 400, 256) for _ in range(2))
    assert torch.equal(once.faces, twice.faces) and torch.equal(once.uvs, twice.uvs)


def test_charts_give_way_where_faces_are_few() -> None:
    """160 faces are fewer than the borders and corners of a hundred charts need."""
    mesh, voxels = analytic.dual_mesh(analytic.sphere(), 48)
    finest = unwrap(mesh, SIZE)
    cut = cut_up(finest)
    assert len(cut.chart.unique()) >= 100
    level = coarser_level(cut, 160, SIZE)
    assert len(level.faces) in (159, 160) and len(level.chart.unique()) < 100
    material = bake_textures(finest, mesh, voxels, BakeSettings(texture_size=SIZE))
    model = GlbModel(*(getattr(level, name).numpy() for name in ("vertices", "normals", "faces", "uvs")), material)
    found = inspect(model)
    assert found["watertight"] and found["mirrored_faces"] == found["zero_uv_faces"] == found["duplicate_faces"] == 0
    error = colour_error(model, analytic.sphere(), SurfacePoints(model, 20_000))
    assert error.mean() < 20  # the texture is stretched, not another: that would be off by 70


def cut_up(mesh: UnwrappedMesh) -> UnwrappedMesh:
    """The mesh with its charts cut along a grid in the texture; nothing moves there."""
    cell = (mesh.uvs[mesh.faces.long()].mean(1) * 11).long()
    chart = torch.unique(mesh.chart.long() * 121 + cell[:, 0] * 11 + cell[:, 1], return_inverse=True)[1]
    key = mesh.faces.long() * (int(chart.max()) + 1) + chart[:, None]
    key, faces = torch.unique(key, return_inverse=True)
    old = key // (int(chart.max()) + 1)
    per_vertex = {name: getattr(mesh, name)[old] for name in ("vertices", "normals", "uvs", "tangents", "source_vertex")}
    return UnwrappedMesh(faces=faces.int(), chart=chart.int(), **per_vertex)


def test_a_coarse_level_spends_its_faces_on_the_shape() -> None:
    rough, _ = analytic.dual_mesh(analytic.noisy_blob(), 64)
    mesh = finish_mesh(rough, 5000)
    finest = unwrap(mesh, SIZE)
    level = coarser_level(coarser_level(finest, 1250, SIZE), 250, SIZE)
    away = [float(closest_point(one.vertices, one.faces, finest.vertices)[0].mean()) for one in (level, simplify(mesh, 250))]
    assert len(level.faces) == 250
    assert away[0] < 1.45 * away[1], "nearly as near as without charts; 1.8 times as far where their borders come first"
