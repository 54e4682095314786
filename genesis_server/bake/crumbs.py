# SPDX-License-Identifier: Apache-2.0
"""Crumbs of charts go to their neighbours face by face (docs/spec/geometry.md 19.6).

What folds where it is added whole still lies flat in pieces: a face keeps its shape, with one side at the border of a chart
that it meets, or fills a notch of it with two or three; the next face goes to where that one lies. Where its other sides do not
come together with the chart, it stays cut open there: a seam as before, but no fold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genesis_server.bake.borders import crossing_faces
from genesis_server.bake.charts import Adjacency, connected
from genesis_server.bake.join import FlatCharts, shared_corners
from genesis_server.bake.layout import altitudes, bounds, flat_areas
from genesis_server.bake.unfold import wedges
from genesis_server.mesh.mesh import Mesh
from native_ext.exact_sum import exact_sum
from native_ext.relax_flat import own_shapes

_MOST_FACES = 40  # of a crumb
_ROUNDS = 80  # in each, one face of every crumb finds a place, or is refused one
_DIRECTIONS = 12  # in which a chart's width is measured
_NOTCH = 5.0  # largest ratio of a face's area and its notch's
_SHORT = (1.0, 0.6, 0.3)  # of its altitude, that a face has where there is room
_WAYS = 12  # with one side: any of three; the same, shorter twice; with two


@dataclass(frozen=True)
class _Ways:
    """How each of n faces could lie at the border of a chart, a column for each of 12 ways.

    Attributes:
        flat: float64 [n, 12, 3, 2].
        corner: int64 [n, 12, 3], -1 for a place of its own.
        seams: int64 [n, 12, 3], numbers of the pairs of faces that come to lie side by side; -1 for none.
        into: int64 [n, 12], the chart.
        score: float64 [n, 12], share of its outline that is no seam any more; minus infinity where it does not go.
    """

    flat: Tensor
    corner: Tensor
    seams: Tensor
    into: Tensor
    score: Tensor


def attach_crumbs(mesh: Mesh, near: Adjacency, laid: FlatCharts, width: float, least: float) -> FlatCharts:
    """Charts without those that are narrower than `width` and of few faces, as far as there is room at others' borders.

    Args:
        mesh, near: the faces and their neighbours.
        laid: charts of which none lies over itself; stays so.
        width: in units of the flat charts.
        least: altitude that flat faces have at least, where they had it before.
    """
    size = torch.bincount(laid.chart)
    crumb = (_widths(laid.flat, laid.chart) < width) & (size <= _MOST_FACES)
    loose = crumb[laid.chart]
    if not bool(loose.any()) or bool(loose.all()):
        return laid
    here = loose.nonzero()[:, 0]
    shapes = torch.view_as_complex(own_shapes(mesh.vertices[mesh.faces[here].long()].double()).contiguous())
    beside = loose[near.pairs].any(1).nonzero()[:, 0]
    row = torch.zeros_like(laid.chart).index_copy(0, here, torch.arange(len(here), device=here.device))
    refused = torch.zeros(len(here), _WAYS, dtype=torch.bool, device=here.device)
    lowest = altitudes(laid.flat[here]).clamp_max(least)
    for _ in range(_ROUNDS):
        ways = _ways(mesh, near, laid, loose, here, row, beside, shapes, lowest, width / 9)
        score = torch.where(refused, -math.inf, ways.score)
        best, way = score.max(1)
        found = _first_of_each(laid.chart[here], torch.where(loose[here], best, -math.inf), len(size))
        if not len(found):
            seeds = _largest_crumbs(near, laid, loose, beside)
            if not bool(seeds.any()):
                break
            loose = loose & ~seeds[laid.chart]
            continue
        tried = _moved(near, laid, here[found], ways, found, way[found])
        good = _fits(tried, here[found])
        refused[found[~good], way[found[~good]]] = True
        found = found[good]
        laid = _moved(near, laid, here[found], ways, found, way[found])
        loose = loose.index_fill(0, here[found], False)
    chart = connected(laid.chart, near.pairs[laid.sewn])
    return replace(laid, chart=chart, corner=wedges(laid.corner, chart))


def _ways(
    mesh: Mesh,
    near: Adjacency,
    laid: FlatCharts,
    loose: Tensor,
    here: Tensor,
    row: Tensor,
    beside: Tensor,
    shapes: Tensor,
    lowest: Tensor,
    texel: float,
) -> _Ways:
    at_border = beside[loose[near.pairs[beside, 0]] != loose[near.pairs[beside, 1]]]
    pair = near.pairs[at_border]
    pair = torch.where(loose[pair[:, :1]], pair, pair.flip(1))
    at, back = shared_corners(mesh.faces, *pair.unbind(1))
    last = (at[:, 0] == 0) & (at[:, 1] == 2)  # the side from the last corner to the first
    side, back = torch.where(last, 2, at[:, 0]), torch.where(last[:, None], back.flip(1), back)
    of, step = row[pair[:, 0]], torch.arange(len(pair), device=here.device)[:, None]
    count = len(here)
    seam, into = torch.full((2, count, 3), -1, dtype=torch.int64, device=here.device)
    seam[of, side], into[of, side] = at_border, laid.chart[pair[:, 1]]
    ends = torch.full((count, 3, 2), -1, dtype=torch.int64, device=here.device)
    ends[of, side] = laid.corner[pair[:, 1]][step, back]
    place = torch.zeros(count, 3, 2, dtype=torch.complex128, device=here.device)
    place[of, side] = torch.view_as_complex(laid.flat[pair[:, 1]][step, back].contiguous())
    sides = (shapes.roll(-1, 1) - shapes).abs()
    sides = sides / sides.sum(1, keepdim=True).clamp_min(1e-300)
    flat, corner, seams, targets, score = [], [], [], [], []
    nothing = torch.full_like(seam[:, 0], -1)
    for short in _SHORT:
        for k in range(3):
            a, b = place[:, k].unbind(1)
            base = shapes[:, (k + 1) % 3] - shapes[:, k]
            across = (shapes[:, k - 1] - shapes[:, k]) / base
            height = across.imag * base.abs() / (b - a).abs().clamp_min(1e-300) * short
            apex = a + torch.complex(across.real, height) * (b - a)
            flat.append(torch.stack([a, b, apex], 1).roll(k, 1))
            corner.append(torch.stack([ends[:, k, 0], ends[:, k, 1], nothing], 1).roll(k, 1))
            seams.append(torch.stack([seam[:, k], nothing, nothing], 1))
            targets.append(into[:, k])
            score.append(torch.where(seam[:, k] >= 0, sides[:, k] * short, -math.inf))
    for k in range(3):
        n, m = (k + 1) % 3, (k + 2) % 3
        flat.append(torch.stack([place[:, k, 0], place[:, k, 1], place[:, n, 1]], 1).roll(k, 1))
        corner.append(torch.stack([ends[:, k, 0], ends[:, k, 1], ends[:, n, 1]], 1).roll(k, 1))
        closed = (ends[:, m, 0] == ends[:, n, 1]) & (ends[:, m, 1] == ends[:, k, 0])
        seams.append(torch.stack([seam[:, k], seam[:, n], torch.where(closed, seam[:, m], -1)], 1))
        targets.append(into[:, k])
        meets = (seam[:, k] >= 0) & (into[:, k] == into[:, n]) & (ends[:, k, 1] == ends[:, n, 0])
        score.append(torch.where(meets, sides[:, k] + sides[:, n] + torch.where(closed, sides[:, m], 0.0), -math.inf))
    at = torch.view_as_real(torch.stack(flat, 1))
    area = flat_areas(at.reshape(-1, 3, 2)).view(count, _WAYS)
    true = flat_areas(torch.view_as_real(shapes))[:, None]
    fits = (altitudes(at.reshape(-1, 3, 2)).view(count, _WAYS) >= lowest[:, None]) & (area > 0)
    height = 2 * true / (shapes.roll(-1, 1) - shapes).abs().amax(1)[:, None]
    fits &= ((area * _NOTCH >= true) | ((1 - area / true) * height < 2*texel)) & (area <= _NOTCH * true)
    result = torch.where(fits, torch.stack(score, 1), -math.inf)
    return _Ways(at, torch.stack(corner, 1), torch.stack(seams, 1), torch.stack(targets, 1), result)


def _largest_crumbs(near: Adjacency, laid: FlatCharts, loose: Tensor, beside: Tensor) -> Tensor:
    """bool [C], crumbs beside smaller ones, which may gather there as nobody else takes them."""
    area = exact_sum(laid.chart, near.areas, int(laid.chart.max()) + 1)
    rank = torch.empty_like(area, dtype=torch.int64)
    rank[torch.argsort(area, stable=True)] = torch.arange(len(area), device=area.device)
    a, b = laid.chart[near.pairs[beside]][loose[near.pairs[beside]].all(1)].unbind(1)
    a, b = a[a != b], b[a != b]
    top = torch.zeros_like(rank).scatter_reduce_(0, a, rank[b], "amax").scatter_reduce_(0, b, rank[a], "amax")
    return torch.zeros_like(rank, dtype=torch.bool).index_fill(0, torch.cat([a, b]), True) & (rank > top)


def _first_of_each(chart: Tensor, score: Tensor, count: int) -> Tensor:
    """Of each chart the entry with the highest score, the first of several; int64 [n]. Minus infinity does not count."""
    best = torch.full((count,), -math.inf, dtype=score.dtype, device=score.device).scatter_reduce_(0, chart, score, "amax")
    wins = ((score == best[chart]) & (score > -math.inf)).nonzero()[:, 0]
    first = torch.full((count,), len(chart), dtype=torch.int64, device=score.device)
    first.scatter_reduce_(0, chart[wins], wins, "amin")
    return first[first < len(chart)]


def _moved(near: Adjacency, laid: FlatCharts, faces: Tensor, ways: _Ways, row: Tensor, way: Tensor) -> FlatCharts:
    """With faces [m] where those ways lead."""
    corner, seams = ways.corner[row, way], ways.seams[row, way].reshape(-1)
    new = corner < 0
    corner[new] = int(laid.corner.max()) + 1 + torch.arange(int(new.sum()), device=faces.device)
    chart = laid.chart.index_copy(0, faces, ways.into[row, way])
    sewn = laid.sewn & (chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]])
    return FlatCharts(
        chart=chart,
        flat=laid.flat.index_copy(0, faces, ways.flat[row, way]),
        corner=laid.corner.index_copy(0, faces, corner),
        sewn=sewn.index_fill(0, seams[seams >= 0], True),
    )


def _fits(laid: FlatCharts, faces: Tensor) -> Tensor:
    """bool [m], those faces at which their chart, that did not lie over itself without them, does not cross itself."""
    names, local = torch.unique(laid.chart[faces], return_inverse=True)
    low, high = bounds(laid.flat[faces], local, len(names))
    number = torch.full((int(laid.chart.max()) + 1,), -1, dtype=torch.int64, device=faces.device)
    number[names] = torch.arange(len(names), device=faces.device)
    around = (number[laid.chart] >= 0).nonzero()[:, 0]
    own, flat = number[laid.chart[around]], laid.flat[around]
    near = ((flat.amax(1) >= low[own]) & (flat.amin(1) <= high[own])).all(1)
    around, own, flat = around[near], own[near], flat[near]
    crossing = crossing_faces(flat, torch.unique(laid.corner[around], return_inverse=True)[1], own)
    wrong = torch.zeros_like(laid.sewn[: len(laid.chart)]).index_copy(0, around, crossing)[faces]
    blamed, spoiled = torch.zeros(2, len(names), dtype=torch.bool, device=faces.device)
    blamed[local[wrong]] = True
    spoiled[own[crossing]] = True
    return ~wrong & ~(spoiled & ~blamed)[local]


def _widths(flat: Tensor, chart: Tensor) -> Tensor:
    """Smallest extent of every chart over some directions, float64 [C]."""
    count = int(chart.max()) + 1
    best = torch.full((count,), math.inf, dtype=flat.dtype, device=flat.device)
    for step in range(_DIRECTIONS):
        angle = math.pi * step / _DIRECTIONS
        along = flat[..., 0] * math.cos(angle) + flat[..., 1] * math.sin(angle)
        ends = [torch.full_like(best, math.inf).scatter_reduce_(0, chart, part, "amin") for part in (along.amin(1), -along.amax(1))]
        best = torch.minimum(best, -ends[1] - ends[0])
    return best
