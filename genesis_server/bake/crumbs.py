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
from genesis_server.bake.layout import altitudes, bounds, flat_areas, scale_to_areas
from genesis_server.bake.unfold import wedges
from genesis_server.mesh.mesh import Mesh
from native_ext.exact_sum import exact_sum
from native_ext.relax_flat import own_shapes

_NARROW = 9.0  # texels
_MOST_FACES = 40  # of a crumb
_ROUNDS = 80  # in each, one face of every crumb finds a place, or is refused one
_DIRECTIONS = 12  # in which a chart's width is measured
_HEIGHTS = (1.0, 0.6, 0.3)  # of its altitude, that a face has where there is room
_WAYS = 12  # at one of three sides, with each of these; between two
_SQUEEZED = 5.0  # largest ratio of a face's area in space and in the plane ...
_LOST = 1.0  # ... unless that takes no more texels than this of its altitude


@dataclass(frozen=True)
class _Crumbs:
    """What does not change while crumbs find their places.

    Attributes:
        mesh_faces: int [F, 3]; near: their neighbours.
        here: int64 [n], the faces of crumbs; row: int64 [F], their places in `here`.
        beside: int64 [m], numbers of the pairs of neighbours of which at least one is of a crumb.
        shapes: complex128 [n, 3], the true shapes of the faces.
        lowest: float64 [n], altitude that each flat face must have.
        texel: length of a texel.
    """

    mesh_faces: Tensor
    near: Adjacency
    here: Tensor
    row: Tensor
    beside: Tensor
    shapes: Tensor
    lowest: Tensor
    texel: float


@dataclass(frozen=True)
class _Ways:
    """How each of n faces could lie at the border of a chart, a column for each way.

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


def attach_crumbs(mesh: Mesh, near: Adjacency, laid: FlatCharts, texel: float, least: float) -> FlatCharts:
    """Without the charts that are narrow and of few faces, as far as there is room for these at the borders of others. What
    nobody takes gathers, and then takes the faces around it, so that it is narrow no more.

    Args:
        mesh, near: the faces and their neighbours.
        laid: charts of which none lies over itself; stays so.
        texel: length of a texel in the flat charts.
        least: altitude that flat faces have at least, where they had it before.
    """
    loose = _are_crumbs(laid, texel)
    if not bool(loose.any()):
        return laid
    laid, loose = _given(mesh, near, laid, loose, ~loose, texel, least)
    while True:
        hosts = _largest_crumbs(near, laid, loose)
        if not bool(hosts.any()):
            break
        laid, loose = _given(mesh, near, laid, loose & ~hosts, hosts, texel, least)
    laid = _numbered(near, laid)
    crumbs = _are_crumbs(laid, texel)
    if bool(crumbs.any()):
        touched = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=loose.device)
        touched[mesh.faces[crumbs].long().reshape(-1)] = True
        large = (torch.bincount(laid.chart) > _MOST_FACES)[laid.chart]
        ring = touched[mesh.faces.long()].any(1) & large
        grown = _numbered(near, _given(mesh, near, laid, ring, crumbs, texel, least)[0])
        cut_off = _are_crumbs(grown, texel) & ~torch.isin(grown.chart, grown.chart[crumbs])
        grown = _numbered(near, _given(mesh, near, grown, cut_off, ~cut_off, texel, least)[0])
        before, after = (len(torch.unique(part.chart[_are_crumbs(part, texel)])) for part in (laid, grown))
        if after < before:
            return grown
    return laid


def _are_crumbs(laid: FlatCharts, texel: float) -> Tensor:
    """bool [F]."""
    few = (torch.bincount(laid.chart) <= _MOST_FACES)[laid.chart]
    rows = few.nonzero()[:, 0]
    if len(rows):
        few[rows] = (_widths(laid.flat[rows], laid.chart[rows]) < _NARROW * texel)[laid.chart[rows]]
    return few


def _numbered(near: Adjacency, laid: FlatCharts) -> FlatCharts:
    chart = connected(laid.chart, near.pairs[laid.sewn])
    return replace(laid, chart=chart, corner=wedges(laid.corner, chart), flat=scale_to_areas(laid.flat, near.areas, chart))


def _given(
    mesh: Mesh, near: Adjacency, laid: FlatCharts, loose: Tensor, hosts: Tensor, texel: float, least: float
) -> tuple[FlatCharts, Tensor]:
    """With the loose faces, bool [F], at the borders of the charts of `hosts`, bool [F]; and which of them stayed."""
    here = loose.nonzero()[:, 0]
    work = _Crumbs(
        mesh.faces,
        near,
        here=here,
        row=torch.zeros_like(laid.chart).index_copy(0, here, torch.arange(len(here), device=here.device)),
        beside=loose[near.pairs].any(1).nonzero()[:, 0],
        shapes=torch.view_as_complex(own_shapes(mesh.vertices[mesh.faces[here].long()].double()).contiguous()),
        lowest=altitudes(laid.flat[here]).clamp_max(least),
        texel=texel,
    )
    loose, hosts = loose.clone(), hosts.clone()
    refused = torch.zeros(len(here), _WAYS, dtype=torch.bool, device=here.device)
    for _ in range(_ROUNDS):
        ways = _ways(work, laid, loose, hosts)
        score, way = torch.where(refused | ~loose[here, None], -math.inf, ways.score).max(1)
        into = ways.into.gather(1, way[:, None])[:, 0]
        found = _best_of_each(laid.chart[here] * len(loose) + into, score)
        if not len(found):
            break
        while len(found):
            tried = _moved(work, laid, ways, found, way[found])
            good = _fits(tried, here[found])
            refused[found[~good], way[found[~good]]] = True
            if bool(good.all()):
                laid = tried
                break
            found = found[good]  # once more: those that go back may uncover a border that others cross
        loose[here[found]], hosts[here[found]] = False, True
    return laid, loose


def _ways(work: _Crumbs, laid: FlatCharts, loose: Tensor, hosts: Tensor) -> _Ways:
    seam, into, ends, place = _borders(work, laid, loose, hosts)
    shapes, nothing = work.shapes, torch.full_like(seam[:, 0], -1)
    sides = (shapes.roll(-1, 1) - shapes).abs()
    share = sides / sides.sum(1, keepdim=True).clamp_min(1e-300)
    flat, corner, seams, score = [], [], [], []
    for height in _HEIGHTS:
        for k in range(3):
            a, b = place[:, k].unbind(1)
            along = (shapes[:, k - 1] - shapes[:, k]) / (shapes[:, (k + 1) % 3] - shapes[:, k])
            upright = along.imag * sides[:, k] / (b - a).abs().clamp_min(1e-300)  # where the border is squeezed, too
            apex = a + torch.complex(along.real, height * upright) * (b - a)
            flat.append(torch.stack([a, b, apex], 1).roll(k, 1))
            corner.append(torch.stack([ends[:, k, 0], ends[:, k, 1], nothing], 1).roll(k, 1))
            seams.append(torch.stack([seam[:, k], nothing, nothing], 1))
            score.append(torch.where(seam[:, k] >= 0, share[:, k] * height, -math.inf))
    for k in range(3):
        n, m = (k + 1) % 3, (k + 2) % 3
        flat.append(torch.stack([place[:, k, 0], place[:, k, 1], place[:, n, 1]], 1).roll(k, 1))
        corner.append(torch.stack([ends[:, k, 0], ends[:, k, 1], ends[:, n, 1]], 1).roll(k, 1))
        closed = (ends[:, m, 0] == ends[:, n, 1]) & (ends[:, m, 1] == ends[:, k, 0])
        seams.append(torch.stack([seam[:, k], seam[:, n], torch.where(closed, seam[:, m], -1)], 1))
        meets = (seam[:, k] >= 0) & (into[:, k] == into[:, n]) & (ends[:, k, 1] == ends[:, n, 0])
        score.append(torch.where(meets, share[:, k] + share[:, n] + torch.where(closed, share[:, m], 0.0), -math.inf))
    points = torch.view_as_real(torch.stack(flat, 1))
    fits = _is_roomy(work, points, sides)
    return _Ways(
        flat=points,
        corner=torch.stack(corner, 1),
        seams=torch.stack(seams, 1),
        into=into.repeat(1, _WAYS // 3),
        score=torch.where(fits, torch.stack(score, 1), -math.inf),
    )


def _borders(work: _Crumbs, laid: FlatCharts, loose: Tensor, hosts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What lies beyond the sides of the faces: the number of the pair of faces, the chart [n, 3], and numbers and places
    (complex) of its ends [n, 3, 2]; -1 where no host is. Side k is that from corner k to the next."""
    one, two = work.near.pairs[work.beside].unbind(1)
    seams = work.beside[(loose[one] & hosts[two]) | (loose[two] & hosts[one])]
    pair = work.near.pairs[seams]
    one, two = torch.where(loose[pair[:, :1]], pair, pair.flip(1)).unbind(1)
    at, back = shared_corners(work.mesh_faces, one, two)
    last = (at[:, 0] == 0) & (at[:, 1] == 2)
    of, side = work.row[one], torch.where(last, 2, at[:, 0])
    back = torch.where(last[:, None], back.flip(1), back)
    seam, into = torch.full((2, len(work.here), 3), -1, dtype=torch.int64, device=of.device)
    seam[of, side], into[of, side] = seams, laid.chart[two]
    ends, place = (
        torch.full((len(work.here), 3, 2), -1, dtype=torch.int64, device=of.device),
        work.shapes.new_zeros(len(work.here), 3, 2),
    )
    ends[of, side] = laid.corner[two].gather(1, back)
    flat = torch.view_as_complex(laid.flat[two].contiguous())
    place[of, side] = flat.gather(1, back)
    return seam, into, ends, place


def _is_roomy(work: _Crumbs, points: Tensor, sides: Tensor) -> Tensor:
    """bool [n, 12], places [n, 12, 3, 2] that hold the face, at most a little squeezed, or by less than the texture shows."""
    flat = points.reshape(-1, 3, 2)
    area, altitude = (part.view(points.shape[:2]) for part in (flat_areas(flat), altitudes(flat)))
    true = flat_areas(torch.view_as_real(work.shapes))[:, None]
    lost = 2 * (true - area) / sides.amax(1)[:, None]  # of its altitude
    squeezed = (area * _SQUEEZED < true) & (lost > _LOST * work.texel)
    return (altitude >= work.lowest[:, None]) & (area > 0) & ~squeezed & (area <= _SQUEEZED * true)


def _largest_crumbs(near: Adjacency, laid: FlatCharts, loose: Tensor) -> Tensor:
    """bool [F], of loose charts those beside smaller ones, which may gather there as nobody else takes them."""
    area = exact_sum(laid.chart, near.areas, int(laid.chart.max()) + 1)
    rank = torch.empty_like(area, dtype=torch.int64)
    rank[torch.argsort(area, stable=True)] = torch.arange(len(area), device=area.device)
    a, b = laid.chart[near.pairs[loose[near.pairs].all(1)]].unbind(1)
    a, b = a[a != b], b[a != b]
    top = torch.zeros_like(rank).scatter_reduce_(0, a, rank[b], "amax").scatter_reduce_(0, b, rank[a], "amax")
    beside = torch.zeros_like(rank, dtype=torch.bool).index_fill(0, torch.cat([a, b]), True)
    return (beside & (rank > top))[laid.chart] & loose


def _best_of_each(key: Tensor, score: Tensor) -> Tensor:
    """Of each key the entry with the highest score, the first of several; int64 [n]. Minus infinity does not count."""
    use = (score > -math.inf).nonzero()[:, 0]
    names, index = torch.unique(key[use], return_inverse=True)
    best = torch.full((len(names),), -math.inf, dtype=score.dtype, device=score.device)
    best.scatter_reduce_(0, index, score[use], "amax")
    wins = score[use] == best[index]
    return torch.full_like(names, len(key)).scatter_reduce_(0, index[wins], use[wins], "amin")


def _moved(work: _Crumbs, laid: FlatCharts, ways: _Ways, row: Tensor, way: Tensor) -> FlatCharts:
    """With the faces of those rows where these ways lead."""
    faces, pairs = work.here[row], work.near.pairs
    corner, seams = ways.corner[row, way], ways.seams[row, way].reshape(-1)
    new = corner < 0
    corner[new] = int(laid.corner.max()) + 1 + torch.arange(int(new.sum()), device=faces.device)
    chart = laid.chart.index_copy(0, faces, ways.into[row, way])
    sewn = laid.sewn & (chart[pairs[:, 0]] == chart[pairs[:, 1]])
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
    wrong = torch.zeros_like(laid.chart, dtype=torch.bool).index_copy(0, around, crossing)[faces]
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
        ends = [
            torch.full_like(best, math.inf).scatter_reduce_(0, chart, part, "amin") for part in (along.amin(1), -along.amax(1))
        ]
        best = torch.minimum(best, -ends[1] - ends[0])
    return best
