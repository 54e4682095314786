# SPDX-License-Identifier: Apache-2.0
"""Join flat charts along their borders, so that there are fewer, and they fill their rectangles (docs/spec/geometry.md 19.6).

A projection sees a tube in strips. Laid flat, though, two strips fit along the border that they share: the second is turned and
moved to where its border meets the first one's best, the seam closes, and the union relaxes towards the true shapes of its
faces (`native_ext.relax_flat`), as a tube rolls out to a rectangle: where two charts meet in several places that do not fit at
once, only the longest of them closes. What would fold, stretch, or leave much of its rectangle empty stays apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genesis_server.bake.borders import crossing_faces, uncrossed
from genesis_server.bake.charts import Adjacency, connected, rim_faces
from genesis_server.bake.layout import altitudes, flat_areas, scale_to_areas, smallest_rectangles
from genesis_server.bake.unfold import overlapping, unfold, wedges, widen_thin
from genesis_server.mesh.mesh import Mesh
from native_ext.exact_sum import exact_sum
from native_ext.relax_flat import own_shapes, relax_flat

_ROUNDS = 12
_WORTH = 50  # ends earlier where a round joins less than one of so many charts
_CHOICES = 3  # of pairs per round; each finds some among what is left
_SHARED = 0.25  # of the shorter outline, at least, that disappears when two charts join
_GAP = 0.12  # of the common border's length: root mean square distance of its two places
_SPECK, _LOOSE_GAP = 1e-4, 0.5  # ... or this much where one chart is smaller than this share of the whole area
_FOLDED = 0.02  # of a chart's faces: with more that are flipped, it is left apart
_DRAWN = 6  # steps by which borders that cross give way
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
class FlatCharts:
    """Charts in the plane.

    Attributes:
        chart: int64 [F].
        flat: float64 [F, 3, 2], y down.
        corner: int64 [F, 3], numbers of the corners' places; a vertex has several in a chart that is cut open there.
        sewn: bool [E], pairs of neighbouring faces that lie side by side in one chart.
    """

    chart: Tensor
    flat: Tensor
    corner: Tensor
    sewn: Tensor


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
    """Pairs of charts [n] and how the second is turned (complex) and moved to lie beside the first.

    Attributes:
        seam: int64 [m], numbers of the pairs of faces between which a seam closes; owner: int64 [m], of which offer.
    """

    first: Tensor
    second: Tensor
    turn: Tensor
    shift: Tensor
    seam: Tensor
    owner: Tensor


def join_charts(mesh: Mesh, near: Adjacency, chart: Tensor, flat: Tensor, density: float, least: float) -> FlatCharts:
    """Fewer charts.

    Args:
        mesh, near: the faces and their neighbours.
        chart: int64 [F], 0..charts-1.
        flat: float64 [F, 3, 2], flat charts of the same density, without flips and overlaps.
        density: cells per unit of length of the grid on which overlaps are looked for.
        least: altitude that flat faces have at least, where they had it before.
    """
    corners = mesh.vertices[mesh.faces.long()].double()
    lowest = altitudes(flat).clamp_max(least)
    shapes = own_shapes(corners).contiguous()
    work = _Surface(mesh, near, corners, shapes, lowest, float(lowest.max()), density, int(chart.max()) + 1)
    chart, flat = _without_teeth(work, chart, flat)
    sewn = chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]]
    state = FlatCharts(chart, flat, wedges(mesh.faces, chart), sewn)
    flat = _settled(work, state, torch.arange(len(chart), device=chart.device), _LAST_STEPS)[0]
    state = replace(state, flat=flat)
    refused = torch.empty(0, dtype=torch.int64, device=chart.device)
    for _ in range(_ROUNDS):
        offer = _offers(work, state, refused)
        if not len(offer.first):
            break
        state, taken = _accepted(work, state, offer)
        if int(taken.sum()) * _WORTH < len(torch.unique(state.chart)):
            break
        refused = torch.cat([refused, (offer.first * work.count + offer.second)[~taken]])
    chart = torch.unique(state.chart, return_inverse=True)[1]
    return replace(state, chart=chart, flat=scale_to_areas(state.flat, near.areas, chart))


def _accepted(work: _Surface, state: FlatCharts, offer: _Offer) -> tuple[FlatCharts, Tensor]:
    """The charts after those offers that turn out well, and which they were, bool [n]."""
    chart, flat = state.chart, state.flat
    into = torch.arange(work.count, device=chart.device).index_copy(0, offer.second, offer.first)
    here = torch.isin(chart, torch.cat([offer.first, offer.second])).nonzero()[:, 0]
    moved = flat.index_copy(0, here, _moved(flat[here], chart[here], offer, work.count))
    union = replace(_sewn_up(work, state, offer.seam), chart=into[chart], flat=moved)
    tried, good = _settled(work, union, here, _STEPS)
    union = replace(union, flat=tried)
    apart, together = _rectangles(work, state, here), _rectangles(work, union, here)
    areas = work.near.areas.double()
    area = exact_sum(into[chart[here]], areas[here], work.count)[offer.first]
    room = apart.prod(1)[offer.first] + apart.prod(1)[offer.second]
    full = area / together.prod(1)[offer.first] >= (area / room).clamp_max(_FILL) - _LOSS
    allowed = _LONGEST * math.sqrt(float(areas.sum()) / _USE)
    longest = torch.maximum(apart.amax(1)[offer.first], apart.amax(1)[offer.second]).clamp_min(allowed)
    taken = good[offer.first] & full & (together.amax(1)[offer.first] <= longest)
    joined = torch.isin(chart, torch.cat([offer.first[taken], offer.second[taken]]))
    into = into.index_copy(0, offer.second[~taken], offer.second[~taken])
    closed = _sewn_up(work, state, offer.seam[taken[offer.owner]])
    return replace(closed, chart=into[chart], flat=torch.where(joined[:, None, None], tried, flat)), taken


def _sewn_up(work: _Surface, state: FlatCharts, seam: Tensor) -> FlatCharts:
    """With the numbered pairs of faces side by side: the ends of their edges come to be one place each."""
    one, two = work.near.pairs[seam].unbind(1)
    at, back = shared_corners(work.mesh.faces, one, two)
    links = torch.stack([state.corner[one].gather(1, at), state.corner[two].gather(1, back)], 2).reshape(-1, 2)
    alone = torch.zeros(int(state.corner.max()) + 1, dtype=torch.int64, device=seam.device)
    corner = connected(alone, links)[state.corner]
    return replace(state, corner=corner, sewn=state.sewn.index_fill(0, seam, True))


@dataclass(frozen=True)
class _Part:
    """Whole charts out of those that are being settled.

    Attributes:
        here: int64 [n], their faces; rows: int64 [n], the same among the faces being settled.
        chart: int64 [n]; corner: int64 [n, 3]; both numbered from 0.
    """

    here: Tensor
    rows: Tensor
    chart: Tensor
    corner: Tensor

    def of(self, which: Tensor) -> _Part:
        """Of those charts, bool [C]."""
        keep = which[self.chart].nonzero()[:, 0]
        chart, corner = (torch.unique(number[keep], return_inverse=True)[1] for number in (self.chart, self.corner))
        return _Part(self.here[keep], self.rows[keep], chart, corner)


def _settled(work: _Surface, state: FlatCharts, here: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Flat faces after relaxing those of `here`, whose charts are given whole; and bool [C], charts that this did well.

    Folds that this leaves are ironed, borders that cross give way; charts that it did no good stay as they were.
    """
    names, local = torch.unique(state.chart[here], return_inverse=True)
    rows = torch.arange(len(here), device=here.device)
    part = _Part(here, rows, local, torch.unique(state.corner[here], return_inverse=True)[1])
    fresh = _evened(work, relax_flat(state.flat[here], part.corner, work.shapes[here], steps), part)
    folds, stretched = _folds(work, fresh, part), _is_stretched(work, fresh, part)
    sound = (folds == 0) & ~stretched
    folded = (folds > 0) & (folds <= _FOLDED * torch.bincount(local)) & ~stretched
    if bool(folded.any()):
        some = part.of(folded)
        ironed = unfold(fresh[some.rows], work.corners[some.here], some.corner, some.chart, 0.0)
        fresh[some.rows] = ironed = _evened(work, ironed, some)
        sound[folded] = (_folds(work, ironed, some) == 0) & ~_is_stretched(work, ironed, some)
    some, crossed = part.of(sound), torch.zeros_like(sound)
    crossed[local[some.rows[crossing_faces(fresh[some.rows], some.corner, some.chart)]]] = True
    if bool(crossed.any()):
        some = part.of(crossed)
        fresh[some.rows], left = uncrossed(fresh[some.rows], some.corner, some.chart, work.lowest[some.here], _DRAWN)
        drawn = ~_is_stretched(work, fresh[some.rows], some)
        drawn[some.chart[left]] = False
        sound[crossed] = drawn
    result = state.flat.index_copy(0, here, torch.where(sound[local, None, None], fresh, state.flat[here]))
    good = torch.zeros(work.count, dtype=torch.bool, device=here.device)
    good[names[sound]] = True
    return result, good


def _evened(work: _Surface, flat: Tensor, part: _Part) -> Tensor:
    """At one density, and no face too thin where that can be helped."""
    return widen_thin(scale_to_areas(flat, work.near.areas[part.here], part.chart), part.corner, 2 * work.least)


def _folds(work: _Surface, flat: Tensor, part: _Part) -> Tensor:
    """How many faces of each chart are flipped or too thin, int64 [C]."""
    altitude = altitudes(flat)
    wrong = (altitude < work.lowest[part.here]) | (altitude <= 0)
    return torch.bincount(part.chart[wrong], minlength=int(part.chart.max()) + 1)


def _is_stretched(work: _Surface, flat: Tensor, part: _Part) -> Tensor:
    """bool [C], charts that relaxing leaves far from the true shapes of their faces."""
    shape = torch.view_as_complex(work.shapes[part.here])
    here = torch.view_as_complex((flat - flat.mean(1, keepdim=True)).contiguous())
    turn = (here * shape.conj()).sum(1, keepdim=True)
    off = (here - shape * turn / turn.abs().clamp_min(1e-300)).abs().square().sum(1)
    off = (off / shape.abs().square().sum(1).clamp_min(1e-300)).clamp_max(4.0)
    count, areas = int(part.chart.max()) + 1, work.near.areas[part.here].double()
    total, whole = exact_sum(part.chart, torch.stack([off * areas, areas], 1), count).unbind(1)
    return total > _STRETCH * whole


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


def _rectangles(work: _Surface, state: FlatCharts, here: Tensor) -> Tensor:
    """Sides of the smallest rectangles around the charts that the faces of `here` make up, float64 [count, 2]."""
    rim = rim_faces(state.chart, work.near.pairs[state.sewn])
    rim = rim[torch.zeros_like(state.chart, dtype=torch.bool).index_fill(0, here, True)[rim]]
    names, local = torch.unique(state.chart[rim], return_inverse=True)
    size = smallest_rectangles(state.flat[rim].reshape(-1, 2), local.repeat_interleave(3), len(names))
    return size.new_zeros(work.count, 2).index_copy(0, names, size)


def _moved(flat: Tensor, chart: Tensor, offer: _Offer, count: int) -> Tensor:
    turn = torch.ones(count, dtype=torch.complex128, device=flat.device).index_copy(0, offer.second, offer.turn)
    shift = torch.zeros_like(turn).index_copy(0, offer.second, offer.shift)
    return torch.view_as_real(torch.view_as_complex(flat.contiguous()) * turn[chart, None] + shift[chart, None])


def _offers(work: _Surface, state: FlatCharts, refused: Tensor) -> _Offer:
    """Pairs of charts that are each other's best partner: the largest share of an outline disappears, the smallest gap."""
    near, chart, count = work.near, state.chart, work.count
    seam = (chart[near.pairs[:, 0]] != chart[near.pairs[:, 1]]).nonzero()[:, 0]
    border = near.pairs[seam]
    border = torch.where((chart[border[:, 0]] > chart[border[:, 1]])[:, None], border.flip(1), border)
    key, pair = torch.unique(chart[border[:, 0]] * count + chart[border[:, 1]], return_inverse=True)
    first, second = key // count, key % count
    area = exact_sum(chart, near.areas, count)
    smaller, larger = torch.minimum(area[first], area[second]), torch.maximum(area[first], area[second])
    loose = torch.where(smaller < _SPECK * area.sum(), _LOOSE_GAP, _GAP)
    fit, seam, pair = _best_fits(work, state.flat, border, seam, pair, loose)
    around = _outlines(work, state)
    relief = fit.shared / torch.minimum(around[first], around[second])
    allowed = (relief >= _SHARED) & (fit.gap <= loose)
    allowed &= (smaller + larger <= _LARGEST * area.sum()) | (smaller < _CRUMB * larger)
    allowed &= ~torch.isin(key, refused)
    mutual = _matched(first, second, torch.where(allowed, relief - fit.gap, -math.inf), count)
    owner, use = (torch.cumsum(mutual.long(), 0) - 1)[pair], mutual[pair]
    return _Offer(first[mutual], second[mutual], fit.turn[mutual], fit.shift[mutual], seam[use], owner[use])


def _matched(first: Tensor, second: Tensor, score: Tensor, count: int) -> Tensor:
    """bool [n], pairs of charts, each in one at most, that are both sides' best, then those among what is left; ties: the
    first. Pairs of a score of minus infinity are left out."""
    rank = torch.empty_like(first)
    rank[torch.argsort(score, descending=True, stable=True)] = torch.arange(len(first), device=first.device)
    taken = torch.zeros_like(score, dtype=torch.bool)
    free = torch.ones(count, dtype=torch.bool, device=first.device)
    for _ in range(_CHOICES):
        rank_of = torch.where((score > -math.inf) & free[first] & free[second], rank, len(first))
        best = torch.full((count,), len(first), dtype=torch.int64, device=first.device)
        best.scatter_reduce_(0, first, rank_of, "amin").scatter_reduce_(0, second, rank_of, "amin")
        mutual = (best[first] == rank) & (best[second] == rank)
        taken |= mutual
        free[first[mutual]] = free[second[mutual]] = False
    return taken


@dataclass(frozen=True)
class _Fit:
    """How places b lie on places a best: length of the border, root mean square distance as a share of it, and motion of b."""

    shared: Tensor
    gap: Tensor
    turn: Tensor
    shift: Tensor


def _best_fits(
    work: _Surface, flat: Tensor, border: Tensor, seam: Tensor, pair: Tensor, loose: Tensor
) -> tuple[_Fit, Tensor, Tensor]:
    """Fits of pairs of charts along their whole border where that leaves no larger gap than `loose` [n], else along its longest
    piece; and which of the pairs of faces, with the pair of charts of each, are part of that."""
    one, two = border.unbind(1)
    at, back = shared_corners(work.mesh.faces, one, two)
    row = torch.arange(len(border), device=flat.device)[:, None]
    a, b = (torch.view_as_complex(place.contiguous()).reshape(-1) for place in (flat[one][row, at], flat[two][row, back]))
    ends = pair[:, None] * len(work.mesh.vertices) + work.mesh.faces[one].long().gather(1, at)
    names, ends = torch.unique(ends, return_inverse=True)
    piece = connected(torch.zeros_like(names), ends)[ends[:, 0]]
    cross, weight = b.conj() * a, work.near.length[seam].double().repeat_interleave(2) / 2
    parts = [torch.ones_like(a.real), a.real, a.imag, b.real, b.imag, cross.real, cross.imag]
    parts += [a.abs().square(), b.abs().square()]
    pieces, pairs = int(piece.max()) + 1 if len(piece) else 0, len(loose)
    sums = exact_sum(piece.repeat_interleave(2), torch.stack(parts, 1) * weight[:, None], pieces)
    of = torch.zeros(pieces, dtype=torch.int64, device=flat.device).index_copy(0, piece, pair)
    whole = exact_sum(of, sums, pairs)
    most = torch.zeros(pairs, dtype=torch.float64, device=flat.device).scatter_reduce_(0, of, sums[:, 0], "amax")
    longest = torch.full((pairs,), pieces, dtype=torch.int64, device=flat.device)
    wins = sums[:, 0] == most[of]
    longest.scatter_reduce_(0, of[wins], wins.nonzero()[:, 0], "amin")
    at_once = _fitted(whole).gap <= loose
    used = at_once[pair] | (piece == longest[pair])
    return _fitted(torch.where(at_once[:, None], whole, sums[longest])), seam[used], pair[used]


def _fitted(sums: Tensor) -> _Fit:
    shared = sums[:, 0]
    mean_a, mean_b, mean_cross = (torch.complex(sums[:, i], sums[:, i + 1]) / shared for i in (1, 3, 5))
    match = mean_cross - mean_b.conj() * mean_a
    spread = sums[:, 7] / shared - mean_a.abs().square() + sums[:, 8] / shared - mean_b.abs().square()
    gap = (spread - 2 * match.abs()).clamp_min(0).sqrt() / shared
    turn = match / match.abs().clamp_min(1e-300)
    return _Fit(shared, gap, turn, mean_a - turn * mean_b)


def _outlines(work: _Surface, state: FlatCharts) -> Tensor:
    """Length of the outline of every chart, float64 [count]."""
    sides = (work.corners.roll(-1, 1) - work.corners).norm(dim=2).sum(1)
    total = exact_sum(state.chart, sides, work.count)
    inner = state.chart[work.near.pairs[state.sewn, 0]]
    return total - 2 * exact_sum(inner, work.near.length[state.sewn], work.count)


def shared_corners(faces: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Which corners, int64 [n, 2] twice, of faces [n] and their neighbours [n] are the ends of the edge that they share."""
    same = faces[one][:, :, None] == faces[two][:, None, :]
    at = torch.sort(same.any(2).int(), dim=1, descending=True, stable=True).indices[:, :2]
    return at, same[torch.arange(len(one), device=faces.device)[:, None], at].int().argmax(2)
