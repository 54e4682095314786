# SPDX-License-Identifier: Apache-2.0
"""Crumbs of charts go to their neighbours face by face (docs/spec/geometry.md 19.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.bake.borders import crossing_faces
from genesis_server.bake.charts import connected, face_adjacency
from genesis_server.bake.crumbs import attach_crumbs
from genesis_server.bake.join import FlatCharts
from genesis_server.bake.layout import altitudes, flat_areas, project_charts, scale_to_areas
from genesis_server.bake.unfold import wedges
from genesis_server.mesh.mesh import Mesh
from tests.bake.test_join import grid

SIZE = 12


def plane(height: Tensor | None = None) -> Mesh:
    i, j = torch.meshgrid(torch.arange(SIZE + 1.0), torch.arange(SIZE + 1.0), indexing="ij")
    return grid(torch.stack([i, j, torch.zeros_like(i) if height is None else height], 2))


def laid(mesh: Mesh, chart: Tensor) -> FlatCharts:
    near = face_adjacency(mesh)
    chart = connected(chart, near.pairs)
    flat = scale_to_areas(project_charts(mesh.vertices[mesh.faces.long()].double(), chart), near.areas, chart)
    sewn = chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]]
    return FlatCharts(chart, flat, wedges(mesh.faces, chart), sewn)


def attached(mesh: Mesh, before: FlatCharts, texel: float = 0.25) -> FlatCharts:
    after = attach_crumbs(mesh, face_adjacency(mesh), before, texel, 1e-3)
    assert not bool(crossing_faces(after.flat, after.corner, after.chart).any())
    assert bool((flat_areas(after.flat) > 0).all())
    places = after.flat.new_zeros(int(after.corner.max()) + 1, 2)
    places[after.corner] = after.flat
    assert torch.equal(places[after.corner], after.flat)
    return after


def cells(mesh: Mesh) -> Tensor:
    return mesh.vertices[mesh.faces.long()].mean(1).floor().long()


def test_a_crumb_in_a_hole_fills_it() -> None:
    mesh = plane()
    cell = cells(mesh)
    crumb = (cell[:, 0] == 5) & (cell[:, 1] == 5)
    before = laid(mesh, crumb.long())
    after = attached(mesh, before)
    assert len(torch.unique(after.chart)) == 1 and bool(after.sewn.all())
    ratio = flat_areas(after.flat) / 0.5
    assert float(ratio.min()) > 0.99 and float(ratio.max()) < 1.01


def test_a_crumb_that_stands_upright_lies_down_at_the_border() -> None:
    """The outermost row of a plane, folded up by a right angle, of which nothing is seen from above."""
    i, j = torch.meshgrid(torch.arange(SIZE + 1.0), torch.arange(SIZE + 1.0), indexing="ij")
    mesh = grid(torch.stack([i.clamp_max(SIZE - 1), j, (i - (SIZE - 1)).clamp_min(0)], 2))
    upright = mesh.vertices[mesh.faces.long()].mean(1)[:, 2] > 0
    after = attached(mesh, laid(mesh, upright.long()))
    assert len(torch.unique(after.chart)) == 1
    ratio = flat_areas(after.flat) / 0.5
    assert float(ratio.min()) > 0.2 and float(ratio[~upright].min()) > 0.9


def test_a_wide_chart_stays() -> None:
    mesh = plane()
    chart = (cells(mesh)[:, 0] < 6).long()
    before = laid(mesh, chart)
    assert attached(mesh, before) is before


def in_a_slit(mesh: Mesh) -> tuple[FlatCharts, Tensor]:
    """A plane with a crumb of two faces, whose hole has been drawn together; and where the crumb is, bool [F]."""
    cell = cells(mesh)
    crumb = (cell[:, 0] == 5) & (cell[:, 1] == 5)
    before = laid(mesh, crumb.long())
    rim = mesh.vertices.double().clone()
    rim[:, 0] = torch.where((rim[:, 0] == 6) & (rim[:, 1] >= 5) & (rim[:, 1] <= 6), 5.02, rim[:, 0])
    flat = before.flat.clone()
    flat[~crumb] = rim[mesh.faces.long()[~crumb]][..., :2] * torch.tensor([1.0, -1.0]).double()
    assert bool((altitudes(flat) > 0).all())
    return FlatCharts(before.chart, flat, before.corner, before.sewn), crumb


def test_crumbs_that_nobody_takes_gather() -> None:
    """A strip of its own, cut into pieces of two faces."""
    i, j = torch.meshgrid(torch.arange(SIZE + 1.0), torch.arange(2.0), indexing="ij")
    mesh = grid(torch.stack([i, j, torch.zeros_like(i)], 2))
    after = attached(mesh, laid(mesh, torch.arange(SIZE).repeat(2)))
    assert len(torch.unique(after.chart)) == 1


def test_a_crumb_without_room_takes_the_faces_around_it() -> None:
    before, crumb = in_a_slit(plane())
    after = attached(plane(), before)
    assert len(torch.unique(after.chart)) == 2
    assert 8 <= int((after.chart == after.chart[crumb][0]).sum()) <= 40
