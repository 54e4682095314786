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
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.inspect import inspect
from tests import analytic
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
    assert abs(middle - finest / 4) <= 0.02 * finest / 4
    assert coarse <= 0.085 * finest  # chart borders stay near their course: 0.05 on the box, 0.08 on the torus


def test_vertices_are_chosen_from_the_finest_level(levels: tuple) -> None:
    _, models, meshes = levels

    def rows(model: GlbModel) -> set[bytes]:
        return {row.tobytes() for row in np.concatenate([model.vertices, model.normals, model.uvs], 1)}

    assert rows(models[1]) <= rows(models[0]) and rows(models[2]) <= rows(models[1])
    assert torch.equal(meshes[2].chart.unique(), meshes[0].chart.unique())  # no chart has vanished


def test_every_level_is_closed_and_flat_in_the_texture(levels: tuple) -> None:
    for model in levels[1]:
        found = inspect(model)
        assert found["watertight"] and found["turned_edges"] == 0 and found["duplicate_faces"] == 0
        assert found["mirrored_faces"] == found["zero_uv_faces"] == found["degenerate_faces"] == 0


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
