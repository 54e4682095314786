# SPDX-License-Identifier: Apache-2.0
"""Charts join along their borders where the union lies flat (docs/spec/geometry.md 19.6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genesis_server.bake.charts import face_adjacency
from genesis_server.bake.join import join_charts
from genesis_server.bake.layout import flat_areas, overlap_density, project_charts, scale_to_areas
from genesis_server.bake.unfold import overlapping
from genesis_server.mesh.mesh import Mesh


def grid(points: Tensor) -> Mesh:
    """Triangles over a grid of points [n, m, 3], seen from where n to the right and m upward run anticlockwise."""
    n, m = points.shape[:2]
    i, j = torch.meshgrid(torch.arange(n - 1), torch.arange(m - 1), indexing="ij")
    low = (i * m + j).reshape(-1)
    faces = torch.cat([torch.stack([low, low + m, low + 1], 1), torch.stack([low + m, low + m + 1, low + 1], 1)])
    return Mesh(points.reshape(-1, 3).float(), faces.int())


def tube(length: float, bend: float = 0.0, closed: bool = False) -> tuple[Mesh, Tensor]:
    """A tube around z of 24 faces, closed or but for one slit, and its faces' strips of 120 degrees."""
    angle = torch.linspace(0, 2 * math.pi, 25)
    height = torch.linspace(0, length, 13)
    a, z = torch.meshgrid(angle, height, indexing="ij")
    radius = 1 + bend * torch.sin(6 * a) * torch.sin(3 * z)
    mesh = grid(torch.stack([radius * a.cos(), radius * a.sin(), z], 2))
    step = torch.arange(24).repeat_interleave(12).repeat(2)
    faces = torch.where(mesh.faces >= 24 * 13, mesh.faces - 24 * 13, mesh.faces) if closed else mesh.faces
    return Mesh(mesh.vertices, faces), step // 8


def joined(mesh: Mesh, chart: Tensor, extra: float = 0.0) -> tuple[Tensor, Tensor]:
    """`extra`: area elsewhere, which makes the charts a small part of the whole, so that they are not too large to join."""
    size = math.sqrt(extra)
    far = torch.tensor([[0, 0, 0], [size, 0, 0], [size, size, 0], [0, size, 0]]).float() + 100
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]]).int() + len(mesh.vertices)
    whole = Mesh(torch.cat([mesh.vertices, far]), torch.cat([mesh.faces, faces]))
    chart = torch.cat([chart, chart.max() + torch.ones(2, dtype=torch.int64)])
    near = face_adjacency(whole)
    flat = scale_to_areas(project_charts(whole.vertices[whole.faces.long()].double(), chart), near.areas, chart)
    laid = join_charts(whole, near, chart, flat, overlap_density(near.areas), 1e-6)
    count, chart, flat = len(mesh.faces), laid.chart, laid.flat
    places = flat.new_zeros(int(laid.corner.max()) + 1, 2).index_copy(0, laid.corner.reshape(-1), flat.reshape(-1, 2))
    assert torch.equal(places[laid.corner], flat)  # one place for every number
    assert not bool(overlapping(flat, chart, overlap_density(near.areas)).any())
    assert bool((flat_areas(flat) > 0).all())
    return chart[:count], flat[:count]


def test_the_strips_of_a_tube_roll_out_to_a_rectangle() -> None:
    mesh, chart = tube(3.0)
    after, flat = joined(mesh, chart, extra=1500)
    assert len(torch.unique(after)) == 1
    side = (flat.reshape(-1, 2).amax(0) - flat.reshape(-1, 2).amin(0)).sort().values
    assert abs(float(side[0]) - 3) < 0.1 and abs(float(side[1]) - 2 * math.pi) < 0.2
    ratio = flat_areas(flat) / face_adjacency(mesh).areas
    assert float(ratio.min()) > 0.9 and float(ratio.max()) < 1.1  # projected, the steepest have half of their area


def test_a_closed_tube_is_cut_open() -> None:
    """Its last strip meets the others on both sides, and joins them on one."""
    mesh, chart = tube(3.0, closed=True)
    after, flat = joined(mesh, chart, extra=1500)
    assert len(torch.unique(after)) == 1
    side = (flat.reshape(-1, 2).amax(0) - flat.reshape(-1, 2).amin(0)).sort().values
    assert abs(float(side[0]) - 3) < 0.1 and abs(float(side[1]) - 2 * math.pi) < 0.2


def test_what_is_a_large_part_of_the_surface_stays_apart() -> None:
    mesh, chart = tube(3.0)
    assert len(torch.unique(joined(mesh, chart, extra=20)[0])) == 3


def test_halves_of_a_ball_stay_apart() -> None:
    """Side by side they would fill their rectangle no better, and together they cannot lie flat."""
    a, b = torch.meshgrid(torch.linspace(0, 2 * math.pi, 25), torch.linspace(0.1, math.pi - 0.1, 13), indexing="ij")
    mesh = grid(torch.stack([b.sin() * a.cos(), b.sin() * a.sin(), -b.cos()], 2))
    centres = mesh.vertices[mesh.faces.long()].mean(1)
    after, _ = joined(mesh, (centres[:, 0] > 0).long(), extra=800)
    assert len(torch.unique(after)) == 2


def test_teeth_go_to_the_notches_they_fill() -> None:
    """A plane cut along a zigzag: those teeth of the smaller half change over that stick out with two sides."""
    i, j = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    mesh = grid(torch.stack([i, j, torch.zeros_like(i)], 2))
    column = torch.arange(8).repeat_interleave(8).repeat(2)
    lower = torch.arange(128) < 64
    chart = ((column > 3) | ((column == 3) & ~lower)).long()
    after = joined(mesh, chart, extra=100)[0]
    moved = (after != chart).nonzero()[:, 0]
    assert torch.equal(moved, ((column == 3) & lower).nonzero()[1:, 0])  # the first has one of its sides at the rim
