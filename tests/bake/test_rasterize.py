# SPDX-License-Identifier: Apache-2.0
"""Texels belong to the right face at the right place, with and without reach (docs/spec/geometry.md 17.4, 19.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.bake.surface import DetailedSurface
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.voxels import OVoxel
from native_ext.rasterize import covered_faces, overdraw, rasterize, upper_faces

GOLDEN = Path(__file__).parent.parent / "data" / "bake" / "bake.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def corners(golden: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(golden["low_uv"][golden["low_faces"]] * int(golden["texture_size"])).float()


def test_faces_and_weights_match_the_golden(golden: dict[str, np.ndarray], corners: torch.Tensor) -> None:
    size = int(golden["texture_size"])
    raster = rasterize(corners, size, size)
    clear = ~golden["ambiguous"]  # centres within 2e-3 texel of an edge
    assert (raster.face.numpy() == golden["face_id"])[clear].all()
    covered = golden["face_id"] >= 0
    sure = clear[covered]
    assert np.abs(raster.barycentric.numpy()[covered] - golden["barycentric"])[sure].max() < 1e-5


def test_texels_get_the_golden_values(golden: dict[str, np.ndarray], corners: torch.Tensor) -> None:
    size = int(golden["texture_size"])
    covered = torch.from_numpy(golden["face_id"] >= 0)
    raster = rasterize(corners, size, size)
    face = raster.face[covered].long()
    low = torch.from_numpy(golden["low_vertices"])[torch.from_numpy(golden["low_faces"]).long()]
    position = (low[face] * raster.barycentric[covered][:, :, None]).sum(1)
    assert np.abs(position.numpy() - golden["position"]).max() < 1e-5
    voxels = OVoxel(
        coords=torch.from_numpy(golden["coords"]).int(),
        dual_vertices=torch.full(golden["coords"].shape, 0.5),
        intersected=torch.zeros(golden["coords"].shape, dtype=torch.bool),
        resolution=int(golden["grid_size"]),
        attributes=torch.from_numpy(golden["attrs"]),
    )
    high = Mesh(torch.from_numpy(golden["high_vertices"]), torch.from_numpy(golden["high_faces"]))
    normal = torch.nn.functional.normalize(position, dim=1)
    surface = DetailedSurface(high, voxels)
    values = surface.values(*surface.locate(position, normal)).numpy()
    sure = (golden["second_gap"] > 1e-5) & (golden["weight_sum"] > 1e-3) & ~golden["ambiguous"][covered.numpy()]
    error = np.abs(values - golden["value"])[sure].max(1)
    # the golden takes the nearest face whatever its normal; the rule of 18.1 may choose another one for a few texels
    assert np.quantile(error, 0.99) < 2e-5
    rounded = np.floor(values.clip(0, 1) * 255 + 0.5)
    assert (np.abs(rounded - golden["texture"])[sure].max(1) <= 1).mean() > 0.99


def test_reach_extends_every_face_by_that_much(corners: torch.Tensor, golden: dict[str, np.ndarray]) -> None:
    size = int(golden["texture_size"])
    exact, wide = rasterize(corners, size, size), rasterize(corners, size, size, reach=1.5)
    inside = exact.face >= 0
    assert torch.equal(exact.face[inside], wide.face[inside])
    added = (wide.face >= 0) & ~inside
    points = (corners[wide.face.long()] * wide.barycentric[..., None]).sum(2)
    rows, cols = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    distance = (points - torch.stack([cols, rows], 2)).norm(dim=2)
    assert bool(added.any()) and float(distance[added].max()) <= 1.5 + 1e-4
    assert bool((wide.barycentric[added] >= 0).all())
    assert torch.allclose(wide.barycentric[added].sum(1), torch.ones(int(added.sum())), atol=1e-6)
    grown = torch.nn.functional.max_pool2d(inside.float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
    assert bool((wide.face >= 0)[grown].all())  # all eight neighbours of a covered centre are at most 1.42 texels away


def test_both_windings_cover_and_shared_edges_leave_no_gap() -> None:
    square = torch.tensor([[[1, 1], [9, 1], [9, 9]], [[1, 1], [1, 9], [9, 9]]]).float()
    face = rasterize(square, 10, 10).face
    assert bool((face[1:9, 1:9] >= 0).all()) and int((face >= 0).sum()) == 64
    assert int(overdraw(square, 10, 10).max()) == 1
    assert int(overdraw(torch.cat([square, square[:1]]), 10, 10).max()) == 2


def test_degenerate_and_outside_triangles_are_harmless() -> None:
    odd = torch.tensor([[[2, 2], [2, 2], [2, 2]], [[1, 1], [5, 5], [9, 9]], [[-50, -50], [-40, -50], [-45, -40]]]).float()
    raster = rasterize(odd, 8, 8, reach=1.0)
    assert bool(torch.isfinite(raster.barycentric).all())
    assert int((rasterize(odd, 8, 8).face >= 0).sum()) == 0
    assert int((rasterize(torch.zeros(0, 3, 2), 8, 8, reach=1.0).face >= 0).sum()) == 0


def test_faces_over_each_other_are_named() -> None:
    square = torch.tensor([[[0, 0], [8, 0], [0, 8]], [[8, 0], [8, 8], [0, 8]], [[6, 6], [7.5, 6], [6, 7.5]]]).float()
    assert covered_faces(square, 8, 8).tolist() == [False, True, True]
    assert upper_faces(square, 8, 8).tolist() == [False, True, False]
    assert not covered_faces(square[:2], 8, 8).any() and not upper_faces(square[:2], 8, 8).any()
