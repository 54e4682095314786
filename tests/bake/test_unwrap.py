# SPDX-License-Identifier: Apache-2.0
"""Unwrapping gives every face its own place in the atlas, unmirrored, at one density (docs/spec/geometry.md 16, 18.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genesis_server.bake.layout import altitudes, steps_cut
from genesis_server.bake.unfold import overlapping, unfold, wedges, widen_thin
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.rasterize import overdraw, rasterize
from tests import analytic

SOLIDS = {
    "sphere": analytic.sphere(),
    "rounded_box": analytic.rounded_box(),
    "torus": analytic.torus(),
    "thin_sheet": analytic.thin_sheet(0.06),
    "noisy_blob": analytic.noisy_blob(),
}
SIZE = 512


@pytest.fixture(scope="module", params=SOLIDS)
def pair(request: pytest.FixtureRequest) -> tuple[Mesh, UnwrappedMesh]:
    mesh, _ = analytic.dual_mesh(SOLIDS[request.param], 32 if request.param == "noisy_blob" else 48)  # rough: many charts
    return mesh, unwrap(mesh, SIZE)


def uv_areas(mesh: UnwrappedMesh) -> np.ndarray:
    """Signed areas in the atlas; negative is unmirrored because v grows downward."""
    uv = mesh.uvs.double()[mesh.faces.long()]
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    return ((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2).numpy()


def areas(mesh: Mesh | UnwrappedMesh) -> np.ndarray:
    corners = mesh.vertices.double()[mesh.faces.long()]
    return (torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2).numpy()


def test_every_face_survives_with_its_corners(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    mesh, result = pair
    assert torch.equal(result.vertices, mesh.vertices[result.source_vertex])
    before = mesh.faces.long().sort(1).values
    after = result.source_vertex[result.faces.long()].sort(1).values
    assert torch.equal(torch.unique(before, dim=0), torch.unique(after, dim=0))
    assert len(result.faces) == len(mesh.faces)


def test_no_face_is_flat_or_mirrored(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    assert (areas(pair[1]) > 0).all()
    assert (uv_areas(pair[1]) < 0).all()


def test_charts_do_not_overlap(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    corners = pair[1].uvs[pair[1].faces.long()] * SIZE
    assert int(overdraw(corners, SIZE, SIZE).max()) == 1
    assert int(overdraw(corners * 4, 4 * SIZE, 4 * SIZE).max()) == 1  # nor by less than a texel


def test_charts_keep_the_padding(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    corners = pair[1].uvs[pair[1].faces.long()] * SIZE
    face = rasterize(corners, SIZE, SIZE, reach=1.45).face.long()  # charts closer than 3.9 texels would touch
    chart = torch.where(face >= 0, pair[1].chart.long()[face], -1)
    for a, b in ((chart[1:], chart[:-1]), (chart[:, 1:], chart[:, :-1])):
        assert not bool(((a != b) & (a >= 0) & (b >= 0)).any())


def test_density_is_the_same_in_every_chart(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    chart = pair[1].chart.numpy()
    density = np.sqrt(np.bincount(chart, -uv_areas(pair[1])) / np.bincount(chart, areas(pair[1])))
    big = np.bincount(chart, areas(pair[1])) > 1e-3  # tiny charts: a steep face may reach the scale limit
    assert np.ptp(density[big]) <= 0.02 * density[big].mean()


def test_the_atlas_is_used(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    use = -uv_areas(pair[1]).sum()
    # at 512 pixels the 4 texel padding alone costs a rough object (hundreds of charts) half of the atlas
    assert use > (0.3 if pair[1].chart.max() > 60 else 0.5)
    assert pair[1].uvs.min() >= 0 and pair[1].uvs.max() <= 1


def test_normals_are_smooth_across_seams(pair: tuple[Mesh, UnwrappedMesh]) -> None:
    result = pair[1]
    assert torch.allclose(result.normals.norm(dim=1), torch.ones(len(result.normals)), atol=1e-5)
    order = torch.argsort(result.source_vertex)
    same = result.source_vertex[order][1:] == result.source_vertex[order][:-1]
    assert torch.equal(result.normals[order][1:][same], result.normals[order][:-1][same])


def test_unwrapping_twice_gives_the_same_bytes() -> None:
    mesh, _ = analytic.dual_mesh(analytic.noisy_blob(), 24)
    first, second = unwrap(mesh, 256), unwrap(mesh, 256)
    assert torch.equal(first.uvs, second.uvs) and torch.equal(first.faces, second.faces)


def test_slivers_get_area_in_the_texture() -> None:
    vertices = torch.tensor([[0, 0, 0], [0.5, 0, 0], [0.25, 1e-9, 0], [0, 0.5, 0], [0.5, 0.5, 0]]).float()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [1, 4, 2], [2, 4, 3], [0, 0, 1]]).int()
    result = unwrap(Mesh(vertices, faces), 128)
    assert len(result.faces) == 4  # the face without area is gone, the sliver is not
    assert (uv_areas(result) < -1e-9).all()


def test_a_ramp_that_winds_over_itself_is_cut() -> None:
    """A spiral staircase projects onto itself three times although all of its normals point up."""
    turn = np.linspace(0, 6 * np.pi, 181)
    rim = np.stack([0.4 * np.cos(turn), 0.4 * np.sin(turn), 0.02 * turn], 1)
    hub = np.stack([0.1 * np.cos(turn), 0.1 * np.sin(turn), 0.02 * turn], 1)
    n = len(turn)
    i = np.arange(n - 1)
    faces = np.concatenate([np.stack([n + i, i, i + 1], 1), np.stack([n + i, i + 1, n + i + 1], 1)])
    mesh = Mesh(torch.from_numpy(np.concatenate([rim, hub])).float(), torch.from_numpy(faces).int())
    result = unwrap(mesh, 256)
    assert int((overdraw(result.uvs[result.faces.long()] * 256, 256, 256) > 1).sum()) == 0
    assert 3 <= int(result.chart.max()) + 1 <= 16


def test_charts_are_cut_where_they_suddenly_become_narrower() -> None:
    """An L of squares of two triangles; a square has no such place."""
    x, y = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    square = torch.tensor([[[0.0, 0], [0, 1], [1, 0]], [[0, 1], [1, 1], [1, 0]]]).double()
    flat = (torch.stack([x, y], 2).reshape(-1, 1, 1, 2) + square).reshape(-1, 3, 2)
    middle = flat.mean(1)
    arm = (middle[:, 0] < 8) | (middle[:, 1] < 10)
    both = torch.cat([flat[arm], flat])
    chart = torch.cat([torch.zeros(int(arm.sum()), dtype=torch.int64), torch.ones(len(flat), dtype=torch.int64)])
    far, other = steps_cut(both, torch.full((len(both),), 0.5), chart, torch.tensor([0, 1]))
    assert other.tolist() == [1] and not bool(far[chart == 1].any())
    cut = far[: int(arm.sum())]
    beside, below = middle[arm][:, 0] >= 8, middle[arm][:, 1] >= 10
    assert bool((cut == beside).float().mean() > 0.99) or bool((cut == below).float().mean() > 0.99)


@pytest.mark.parametrize("vertices", [torch.zeros(3, 3), torch.full((3, 3), float("nan"))])
def test_a_mesh_without_area_is_refused(vertices: torch.Tensor) -> None:
    with pytest.raises(GenesisError) as error:
        unwrap(Mesh(vertices, torch.tensor([[0, 1, 2]]).int()), 256)
    assert error.value.code is ErrorCode.BAD_MESH


def test_wobbling_vertices_do_not_shred_the_atlas() -> None:
    """Dual vertices as a small network predicts them: an eighth of a voxel off, so that faces fold over their neighbours."""
    mesh, _ = analytic.dual_mesh(analytic.torus(), 48)
    wobble = np.random.default_rng(0).normal(size=mesh.vertices.shape) * 0.125 / 48
    rough = Mesh(mesh.vertices + torch.from_numpy(wobble).float(), mesh.faces)
    result = unwrap(rough, SIZE)
    assert int(result.chart.max()) + 1 < 160  # 123 as measured; 215 without ironing, 28 without wobble
    assert torch.equal(result.vertices, rough.vertices[result.source_vertex])  # ironing is for the charts alone
    assert (uv_areas(result) < 0).all()
    assert int(overdraw(result.uvs[result.faces.long()] * SIZE, SIZE, SIZE).max()) == 1


def test_more_charts_than_a_small_texture_holds_come_closer_together() -> None:
    corner = torch.rand(400, 1, 3, generator=torch.Generator().manual_seed(0)) * 10
    side = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0, 0.3, 0]])
    mesh = Mesh((corner + side).reshape(-1, 3), torch.arange(1200, dtype=torch.int32).reshape(-1, 3))
    result = unwrap(mesh, 64)  # 400 charts with four texels between them would need four times this
    assert len(result.faces) == 400 and (uv_areas(result) < 0).all()
    assert result.uvs.min() >= 0 and result.uvs.max() <= 1
    assert overdraw(result.uvs[result.faces.long()] * SIZE, SIZE, SIZE).max() <= 1


def test_a_thin_face_widens_within_its_chart() -> None:
    """A fan whose middle lies on the line between two of its rim vertices: that face has no height in the plane."""
    rim = torch.tensor([[0.0, 0], [1, 0], [1, -1], [0, -1]], dtype=torch.float64)
    point = torch.cat([rim, torch.tensor([[0.5, -1e-7]], dtype=torch.float64)])
    faces = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    chart = torch.zeros(4, dtype=torch.int64)
    wide = widen_thin(point[faces], wedges(faces, chart), 0.01)
    assert (altitudes(wide) >= 0.01 - 1e-12).all()
    assert torch.equal(wide[1:, :2], point[faces][1:, :2])  # only the middle has moved
    assert torch.equal(widen_thin(wide, wedges(faces, chart), 0.01), wide)


def test_a_fold_is_ironed_flat() -> None:
    """A sheet one of whose inner vertices has been pushed over its neighbours."""
    side = 9
    x, y = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    point = torch.stack([x, y], 2).reshape(-1, 2).double() / (side - 1)
    number = torch.arange(side * side).reshape(side, side)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    faces = torch.cat([torch.stack([a, c, b], 1), torch.stack([a, d, c], 1)])
    space = torch.cat([point, torch.zeros(len(point), 1)], 1)
    point[int(number[4, 4])] += 0.3
    chart = torch.zeros(len(faces), dtype=torch.int64)
    assert (altitudes(point[faces]) <= 0).any() and overlapping(point[faces], chart, 200).any()
    flat = unfold(point[faces], space[faces], faces, chart, 200)
    assert (altitudes(flat) > 0).all() and not overlapping(flat, chart, 200).any()
    outline = ((space[faces][..., :2] == 0) | (space[faces][..., :2] == 1)).any(2)
    assert torch.equal(flat[outline], point[faces][outline])
