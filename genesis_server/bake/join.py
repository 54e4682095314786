# SPDX-License-Identifier: Apache-2.0
"""Join flat charts along their borders, so that there are fewer, and they fill their rectangles (docs/spec/geometry.md 19.6).

A projection sees a tube in strips. Laid flat, though, two strips fit along the border that they share: the second is turned and
moved to where its border meets the first one's best, the seam closes, and the union relaxes towards the true shapes of its
faces (`native_ext.relax_flat`), as a tube rolls out to a rectangle. What would fold, stretch, or leave much of its
rectangle empty stays apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.bake.charts import Adjacency, rim_faces
from genesis_server.bake.layout import altitudes, flat_areas, scale_to_areas, smallest_rectangles
from genesis_server.bake.unfold import overlapping, unfold, wedges, widen_thin
from genesis_server.mesh.mesh import Mesh
from native_ext.exact_sum import exact_sum
from native_ext.relax_flat import own_shapes, relax_flat

_ROUNDS = 8  # each joins the pairs that fit best, of which most charts are not part
_SHARED = 0.25  # of the shorter outline, at least, that disappears when two charts join
_GAP = 0.12  # of the common border's length: root mean square distance of its two places
_SPECK, _LOOSE_GAP = 1e-4, 0.5  # ... or this much where one chart is smaller than this share of the whole area
_STRETCH = 0.02  # mean squared distance of corners from where their true shapes would be, of those shapes' size
_FILL = 0.72  # of its rectangle that a chart fills, or as much as its parts did
_LOSS = 0.08
_LONGEST = 0.4  # of the atlas' side, of which charts fill about ...
_USE = 0.65
_LARGEST = 0.08  # of the whole area, for two charts ...
_CRUMB = 0.1  # ... unless one is smaller than this share of the other
_NOTCH = 2.0  # largest ratio of a tooth's area and its notch's
_STEPS = 30
_LAST_STEPS = 60


@dataclass(frozen=True)
class _Surface:
    """What does not change while charts join.

    Attributes:
        mesh, near: the faces and their neighbours.
        corners: float64 [F, 3, 3], of the faces in space.
        shapes: float64 [F, 3, 2], the faces flat, each around its middle.
        lowest: float64 [F], altitude that each flat face must have; least: the largest of these.
        density: cells per unit of length of the grid on which overlaps are looked for.
        count: charts that there were at the beginning; they keep their numbers.
    """

    mesh: Mesh
    near: Adjacency
    corners: Tensor
    shapes: Tensor
    lowest: Tensor
    least: float
    density: float
    count: int


@dataclass(frozen=True)
class _Offer:
    """Pairs of charts [n] and how the second is turned (complex) and moved to lie beside the first."""

    first: Tensor
    second: Tensor
    turn: Tensor
    shift: Tensor


def join_charts(
    mesh: Mesh, near: Adjacency, chart: Tensor, flat: Tensor, density: float, least: float
) -> tuple[Tensor, Tensor]:
    """Fewer charts.

    Args:
        mesh, near: the faces and their neighbours.
        chart: int64 [F], 0..charts-1.
        flat: float64 [F, 3, 2], flat charts of the same density, without flips and overlaps.
        density: cells per unit of length of the grid on which overlaps are looked for.
        least: altitude that flat faces have at least, where they had it before.

    Returns:
        The same of the joined charts.
    """
    corners = mesh.vertices[mesh.faces.long()].double()
    lowest = altitudes(flat).clamp_max(least)
    shapes = own_shapes(corners).contiguous()
    work = _Surface(mesh, near, corners, shapes, lowest, float(lowest.max()), density, int(chart.max()) + 1)
    chart, flat = _without_teeth(work, chart, flat)
    flat = _settled(work, chart, flat, torch.arange(len(chart), device=chart.device), _LAST_STEPS)[0]
    refused = torch.empty(0, dtype=torch.int64, device=chart.device)
    for _ in range(_ROUNDS):
        offer = _offers(work, chart, flat, refused)
        if not len(offer.first):
            break
        chart, flat, taken = _accepted(work, chart, flat, offer)
        refused = torch.cat([refused, (offer.first * work.count + offer.second)[~taken]])
    chart = torch.unique(chart, return_inverse=True)[1]
    return chart, scale_to_areas(flat, near.areas, chart)


def _accepted(work: _Surface, chart: Tensor, flat: Tensor, offer: _Offer) -> tuple[Tensor, Tensor, Tensor]:
    """Charts and flat faces after those offers that turn out well, and which they were, bool [n]."""
    into = torch.arange(work.count, device=chart.device).index_copy(0, offer.second, offer.first)
    here = torch.isin(chart, torch.cat([offer.first, offer.second])).nonzero()[:, 0]
    moved = flat.index_copy(0, here, _moved(flat[here], chart[here], offer, work.count))
    tried, good = _settled(work, into[chart], moved, here, _STEPS)
    apart, union = _rectangles(work, chart, flat, here), _rectangles(work, into[chart], tried, here)
    areas = work.near.areas.double()
    area = exact_sum(into[chart[here]], areas[here], work.count)[offer.first]
    room = apart.prod(1)[offer.first] + apart.prod(1)[offer.second]
    full = area / union.prod(1)[offer.first] >= (area / room).clamp_max(_FILL) - _LOSS
    allowed = _LONGEST * math.sqrt(float(areas.sum()) / _USE)
    longest = torch.maximum(apart.amax(1)[offer.first], apart.amax(1)[offer.second]).clamp_min(allowed)
    taken = good[offer.first] & full & (union.amax(1)[offer.first] <= longest)
    joined = torch.isin(chart, torch.cat([offer.first[taken], offer.second[taken]]))
    into = into.index_copy(0, offer.second[~taken], offer.second[~taken])
    return into[chart], torch.where(joined[:, None, None], tried, flat), taken


def _settled(work: _Surface, chart: Tensor, flat: Tensor, here: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Flat faces after relaxing those of `here`, whose charts are given whole; and bool [C], charts that this did well.

    Folds that this leaves are ironed; charts that it did no good stay as they were.
    """
    names, local = torch.unique(chart[here], return_inverse=True)
    corner = wedges(work.mesh.faces[here], local)
    fresh = relax_flat(flat[here], corner, work.shapes[here], steps)
    fresh, spoiled = _checked(work, fresh, local, corner, here)
    again = spoiled[local].nonzero()[:, 0]
    if len(again):
        part, there = torch.unique(local[again], return_inverse=True)[1], here[again]
        ironed = unfold(fresh[again], work.corners[there], work.mesh.faces[there], part, work.density)
        fresh[again], still = _checked(work, ironed, part, corner[again], there)
        spoiled = spoiled.index_copy(0, spoiled.nonzero()[:, 0], still)
    result = flat.index_copy(0, here, torch.where(spoiled[local, None, None], flat[here], fresh))
    good = torch.zeros(work.count, dtype=torch.bool, device=chart.device)
    good[names[~spoiled]] = True
    return result, good


def _checked(work: _Surface, flat: Tensor, chart: Tensor, corner: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """Flat faces of `here` at one density and none too thin, and bool [charts], those that fold or stretch all the same."""
    areas = work.near.areas[here]
    flat = widen_thin(scale_to_areas(flat, areas, chart), corner, 2 * work.least)
    wrong = overlapping(flat, chart, work.density) | (altitudes(flat) < work.lowest[here]) | (flat_areas(flat) <= 0)
    spoiled = _stretch(flat, work.shapes[here], areas, chart) > _STRETCH
    spoiled[chart[wrong]] = True
    return flat, spoiled


def _without_teeth(work: _Surface, chart: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Faces that stick out into a larger chart with two sides go to the notch that they fill there: straighter borders."""
    near, faces, count, stride = work.near, work.mesh.faces.long(), work.count, len(work.mesh.vertices)
    area = exact_sum(chart, near.areas, count)
    face, other = near.pairs.T.reshape(-1), chart[near.pairs.flip(1)].T.reshape(-1)
    apart = chart[face] != other
    key, sides = torch.unique(face[apart] * count + other[apart], return_counts=True)
    face, target = (key // count)[sides >= 2], (key % count)[sides >= 2]
    own = chart[face]
    larger = (area[target] > area[own]) | ((area[target] == area[own]) & (target < own))
    face, target = face[larger], target[larger]
    wedges, at = torch.unique((chart[:, None] * stride + faces).reshape(-1), return_inverse=True)
    point = torch.zeros(len(wedges), 2, dtype=flat.dtype, device=flat.device)
    point[at] = flat.reshape(-1, 2)
    notch = point[torch.searchsorted(wedges, target[:, None] * stride + faces[face])]
    room = flat_areas(notch) / near.areas[face]
    fits = (altitudes(notch) > work.lowest[face]) & (room > 1 / _NOTCH) & (room < _NOTCH)
    face, target, notch = face[fits], target[fits], notch[fits]
    filled, moved = chart.index_copy(0, face, target), flat.index_copy(0, face, notch)
    crowded = torch.zeros(count, dtype=torch.bool, device=chart.device)
    crowded[filled[overlapping(moved, torch.unique(filled, return_inverse=True)[1], work.density)]] = True
    keep = ~crowded[target]
    return chart.index_copy(0, face[keep], target[keep]), flat.index_copy(0, face[keep], notch[keep])


def _stretch(flat: Tensor, shapes: Tensor, areas: Tensor, chart: Tensor) -> Tensor:
    shape = torch.view_as_complex(shapes)
    here = torch.view_as_complex((flat - flat.mean(1, keepdim=True)).contiguous())
    turn = (here * shape.conj()).sum(1, keepdim=True)
    off = (here - shape * turn / turn.abs().clamp_min(1e-300)).abs().square().sum(1)
    off = (off / shape.abs().square().sum(1).clamp_min(1e-300)).clamp_max(4.0)
    count = int(chart.max()) + 1
    return exact_sum(chart, off * areas, count) / exact_sum(chart, areas, count).clamp_min(1e-300)


def _rectangles(work: _Surface, chart: Tensor, flat: Tensor, here: Tensor) -> Tensor:
    """Sides of the smallest rectangles around the charts that the faces of `here` make up, float64 [count, 2]."""
    rim = rim_faces(chart, work.near.pairs)
    rim = rim[torch.zeros_like(chart, dtype=torch.bool).index_fill(0, here, True)[rim]]
    names, local = torch.unique(chart[rim], return_inverse=True)
    size = smallest_rectangles(flat[rim].reshape(-1, 2), local.repeat_interleave(3), len(names))
    return flat.new_zeros(work.count, 2).index_copy(0, names, size)


def _moved(flat: Tensor, chart: Tensor, offer: _Offer, count: int) -> Tensor:
    turn = torch.ones(count, dtype=torch.complex128, device=flat.device).index_copy(0, offer.second, offer.turn)
    shift = torch.zeros_like(turn).index_copy(0, offer.second, offer.shift)
    return torch.view_as_real(torch.view_as_complex(flat.contiguous()) * turn[chart, None] + shift[chart, None])


def _offers(work: _Surface, chart: Tensor, flat: Tensor, refused: Tensor) -> _Offer:
    """Pairs of charts that are each other's best partner: the largest share of an outline disappears, the smallest gap."""
    near, count = work.near, work.count
    border = near.pairs[chart[near.pairs[:, 0]] != chart[near.pairs[:, 1]]]
    length = near.length[chart[near.pairs[:, 0]] != chart[near.pairs[:, 1]]].double()
    swap = (chart[border[:, 0]] > chart[border[:, 1]])[:, None]
    border = torch.where(swap, border.flip(1), border)
    here, there = _both_places(work.mesh.faces, flat, border)
    key, pair = torch.unique(chart[border[:, 0]] * count + chart[border[:, 1]], return_inverse=True)
    first, second = key // count, key % count
    a, b = (torch.view_as_complex(place.contiguous()).reshape(-1) for place in (here, there))
    pair, weight = pair.repeat_interleave(2), length.repeat_interleave(2) / 2
    cross = b.conj() * a
    parts = [torch.ones_like(a.real), a.real, a.imag, b.real, b.imag, cross.real, cross.imag]
    parts += [a.abs().square(), b.abs().square()]
    sums = exact_sum(pair, torch.stack(parts, 1) * weight[:, None], len(key))
    shared = sums[:, 0]
    mean_a, mean_b, mean_cross = (torch.complex(sums[:, i], sums[:, i + 1]) / shared for i in (1, 3, 5))
    match = mean_cross - mean_b.conj() * mean_a
    spread = sums[:, 7] / shared - mean_a.abs().square() + sums[:, 8] / shared - mean_b.abs().square()
    gap = (spread - 2 * match.abs()).clamp_min(0).sqrt() / shared
    turn = match / match.abs().clamp_min(1e-300)
    area = exact_sum(chart, near.areas, count)
    around = _outlines(work, chart)
    relief = shared / torch.minimum(around[first], around[second])
    smaller, larger = torch.minimum(area[first], area[second]), torch.maximum(area[first], area[second])
    tiny = smaller < _SPECK * area.sum()
    allowed = (relief >= _SHARED) & (gap <= torch.where(tiny, _LOOSE_GAP, _GAP))
    allowed &= (smaller + larger <= _LARGEST * area.sum()) | (smaller < _CRUMB * larger)
    allowed &= ~torch.isin(key, refused)
    score = torch.where(allowed, relief - gap, -math.inf)
    rank = torch.empty_like(key)
    rank[torch.argsort(score, descending=True, stable=True)] = torch.arange(len(key), device=key.device)
    best = torch.full((count,), len(key), dtype=torch.int64, device=key.device)
    rank_of = torch.where(allowed, rank, len(key))
    best.scatter_reduce_(0, first, rank_of, "amin").scatter_reduce_(0, second, rank_of, "amin")
    mutual = (allowed & (best[first] == rank) & (best[second] == rank)).nonzero()[:, 0]
    return _Offer(first[mutual], second[mutual], turn[mutual], (mean_a - turn * mean_b)[mutual])


def _outlines(work: _Surface, chart: Tensor) -> Tensor:
    """Length of the outline of every chart, float64 [count]."""
    pairs, sides = work.near.pairs, (work.corners.roll(-1, 1) - work.corners).norm(dim=2).sum(1)
    inner = chart[pairs[:, 0]] == chart[pairs[:, 1]]
    total = exact_sum(chart, sides, work.count)
    return total - 2 * exact_sum(chart[pairs[inner, 0]], work.near.length[inner], work.count)


def _both_places(faces: Tensor, flat: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Where the ends of the edge that two faces [n, 2] share lie in each of them, float64 [n, 2, 2] twice."""
    one, two = faces[pairs[:, 0]].long(), faces[pairs[:, 1]].long()
    same = one[:, :, None] == two[:, None, :]
    at = torch.sort(same.any(2).int(), dim=1, descending=True, stable=True).indices[:, :2]
    row = torch.arange(len(pairs), device=faces.device)[:, None]
    back = same[row, at].int().argmax(2)
    return flat[pairs[:, 0]][row, at], flat[pairs[:, 1]][row, back]
