# SPDX-License-Identifier: Apache-2.0
"""Iron folds out of flat charts, so that rough surfaces need few charts (docs/spec/geometry.md 16.1, 19.6).

Seen along its chart's axis a rough surface folds: faces lean over backwards or lie under others. Around such faces the
vertices move to the mean of their neighbours, weighted by mean value coordinates in space (Floater 2003): positive weights,
so that the result has no flips where the surroundings have none: first those of the fold, then those of rings of faces around
it. The chart's outline stays. A hole counts as one more neighbour of the vertices at its rim, so that what hangs into it gets
its share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.bake.charts import connected
from genesis_server.bake.layout import altitudes, side_by_side
from native_ext.exact_sum import exact_sum
from native_ext.rasterize import covered_faces, upper_faces
from native_ext.segment_sum import run_starts
from native_ext.settle_points import settle_points

NARROW = 0.02  # twice the area over the longest edge squared: about an aspect of 50
RINGS = (0, 1, 3)  # around folds, that move with them
_ROUNDS, _ROUNDS_PER_RING = 12, 10
_FOLDED = 0.2  # of a chart's faces: with more under others it winds over itself, and is left to be cut
_WIDENING_ROUNDS = 10
_STEP = 0.9  # of the way: a whole step can swing


@dataclass(frozen=True)
class _Net:
    """The corners of charts as a graph; number W + h stands for hole h.

    Attributes:
        corner: int64 [F, 3], wedge (vertex in a chart) of every corner.
        source, other: int64 [E], directed edges sorted by source.
        weight: float64 [E], mean value weight.
        outline: int64 [n], wedges on the charts' outer borders.
        points: wedges and holes.
    """

    corner: Tensor
    source: Tensor
    other: Tensor
    weight: Tensor
    outline: Tensor
    points: int


def unfold(flat: Tensor, corners: Tensor, faces: Tensor, chart: Tensor, density: float) -> Tensor:
    """Flat charts with fewer flips and overlaps.

    Args:
        flat: float64 [F, 3, 2], y down; unflipped faces have negative area. Corners of one vertex in one chart agree.
        corners: float64 [F, 3, 3], in space.
        faces: int [F, 3], vertices.
        chart: int64 [F].
        density: cells per unit of length of the grid on which overlaps are looked for; 0: only flips and narrow faces are.

    Returns:
        float64 [F, 3, 2]; charts without flipped, narrow or covered faces are as they were.
    """
    bad = _bad(flat, chart, density)
    touched = torch.zeros(int(chart.max()) + 1, dtype=torch.bool, device=flat.device)
    touched[chart[bad]] = True
    size, folded = torch.bincount(chart), torch.bincount(chart[bad], minlength=len(touched))
    touched &= folded <= (_FOLDED * size).clamp_min(8)
    here = touched[chart].nonzero()[:, 0]
    if not len(here):
        return flat
    part, bad = torch.unique(chart[here], return_inverse=True)[1], bad[here]
    net = _net(faces[here].long(), corners[here], part)
    point = torch.zeros(net.points, 2, dtype=flat.dtype, device=flat.device)
    point[net.corner] = flat[here]
    outline = torch.zeros(net.points, dtype=torch.bool, device=flat.device)
    outline[net.outline] = True
    for rings in RINGS:
        moving = torch.zeros_like(outline)
        moving[net.corner[bad]] = True
        for _ in range(rings):
            moving[net.corner[moving[net.corner].any(1)]] = True
        _settle(point, net, moving & ~outline, _ROUNDS + _ROUNDS_PER_RING * rings)
        bad = _still_bad(point[net.corner], part, bad, density)
        if not bool(bad.any()):
            break
    result = flat.clone()
    result[here] = point[net.corner]
    return result


def widen_thin(flat: Tensor, corner: Tensor, least: float) -> Tensor:
    """Flat faces [F, 3, 2] whose altitude is at least `least` where that goes without a fold: the corner opposite the longest
    side moves away from it, with all faces around it; `corner` int64 [F, 3], as of `wedges`."""
    if not bool((altitudes(flat) < least).any()):
        return flat
    point = torch.zeros(int(corner.max()) + 1, 2, dtype=flat.dtype, device=flat.device)
    point[corner] = flat
    here = torch.arange(len(flat), device=flat.device)
    for _ in range(_WIDENING_ROUNDS):
        altitude = altitudes(point[corner[here]])
        thin = (altitude < least).nonzero()[:, 0]
        if not len(thin):
            break
        altitude, thin = altitude[thin], here[thin]
        at = point[corner[thin]]
        sides = at.roll(-1, 1) - at
        side = sides.norm(dim=2).argmax(1)
        row = torch.arange(len(thin), device=flat.device)
        along = torch.nn.functional.normalize(sides[row, side], dim=1, eps=1e-300)
        away = torch.stack([along[:, 1], -along[:, 0]], 1) * (1.5 * least - altitude)[:, None]  # y is down
        apex = corner[thin, (side + 2) % 3]
        names, index = torch.unique(apex, return_inverse=True)
        point[names] += exact_sum(index, away, len(names)) / torch.bincount(index)[:, None]
        moved = torch.zeros(len(point), dtype=torch.bool, device=flat.device)
        moved[names] = True
        here = moved[corner].any(1).nonzero()[:, 0]  # the faces that may have become thin
    return point[corner]


def wedges(faces: Tensor, chart: Tensor) -> Tensor:
    """int64 [F, 3], numbers of the corners' vertices, of which those on several charts have several."""
    key = chart[:, None] * (int(faces.max()) + 1) + faces.long()
    return torch.unique(key.reshape(-1), return_inverse=True)[1].reshape(-1, 3)


def _net(faces: Tensor, corners: Tensor, chart: Tensor) -> _Net:
    corner = wedges(faces, chart)
    wedge, count = corner.reshape(-1), int(corner.max()) + 1
    ends = torch.stack([corner, corner.roll(-1, 1)], 2).reshape(-1, 2)
    _, inverse, uses = torch.unique(ends.min(1).values * count + ends.max(1).values, return_inverse=True, return_counts=True)
    lone = (uses[inverse] == 1).nonzero()[:, 0]
    border = ends[lone]
    loop = connected(torch.zeros(count, dtype=torch.int64, device=faces.device), border)
    length = (corners.roll(-1, 1) - corners).norm(dim=2).reshape(-1)[lone]
    outer = _longest(loop[border[:, 0]], length, chart[lone // 3])
    rim = torch.unique(border[~outer])
    hole, numbers = torch.unique(loop[rim], return_inverse=True)
    first, second = (corners.roll(-step, 1) - corners for step in (1, 2))
    a, b = first.norm(dim=2), second.norm(dim=2)
    cosine = ((first * second).sum(2) / (a * b).clamp_min(1e-300)).clamp(-0.999, 1)
    half = ((1 - cosine) / (1 + cosine)).sqrt()  # tangent of half the angle
    least = 1e-3 * a.mean()
    weight = torch.cat([(half / a.clamp_min(least)).reshape(-1), (half / b.clamp_min(least)).reshape(-1)])
    source = torch.cat([wedge, wedge])
    other = torch.cat([corner.roll(-1, 1).reshape(-1), corner.roll(-2, 1).reshape(-1)])
    pull = exact_sum(source, weight, count)[rim] / 3
    source, other = torch.cat([source, rim, count + numbers]), torch.cat([other, count + numbers, rim])
    weight = torch.cat([weight, pull, torch.ones_like(pull)])
    order = torch.argsort(source, stable=True)
    outline = torch.unique(border[outer])
    return _Net(corner, source[order], other[order], weight[order], outline, count + len(hole))


def _longest(loop: Tensor, length: Tensor, chart: Tensor) -> Tensor:
    """bool [n]: border edges on the longest loop of their chart."""
    count = int(loop.max()) + 1 if len(loop) else 0
    total = exact_sum(loop, length, count)
    best = torch.zeros(int(chart.max()) + 1 if len(chart) else 0, dtype=total.dtype, device=loop.device)
    best.scatter_reduce_(0, chart, total[loop], "amax")
    name = torch.full_like(best, count, dtype=torch.int64)
    wins = total[loop] == best[chart]
    name.scatter_reduce_(0, chart[wins], loop[wins], "amin")
    return loop == name[chart]


def _settle(point: Tensor, net: _Net, moving: Tensor, rounds: int) -> None:
    """Moves marked points to the weighted mean of their neighbours, in place; holes move with them."""
    near = torch.zeros_like(moving)
    near[net.other[moving[net.source]]] = True
    near[: int(net.corner.max()) + 1] = False  # holes beside what moves
    keep = (moving | near)[net.source]
    names, index = torch.unique(net.source[keep], return_inverse=True)
    if not len(names):
        return
    start = run_starts(index, len(names))
    is_hole = names > int(net.corner.max())
    shares = [is_hole.double(), torch.where(is_hole, 1.0, _STEP).double()]  # first the holes find their middle
    settle_points(point, names, start, net.other[keep], net.weight[keep], shares[:1] + shares[1:] * (rounds - 1))


def _bad(flat: Tensor, chart: Tensor, density: float) -> Tensor:
    return _narrow(flat) | overlapping(flat, chart, density) if density > 0 else _narrow(flat)


def _still_bad(flat: Tensor, chart: Tensor, bad: Tensor, density: float) -> Tensor:
    """Bad faces of the charts that had some: nothing has moved in the others."""
    touched = torch.zeros(int(chart.max()) + 1, dtype=torch.bool, device=flat.device)
    touched[chart[bad]] = True
    here = touched[chart].nonzero()[:, 0]
    local = torch.unique(chart[here], return_inverse=True)[1]
    return torch.zeros_like(bad).index_copy(0, here, _bad(flat[here], local, density))


def overlapping(flat: Tensor, chart: Tensor, density: float) -> Tensor:
    """bool [F]: the faces [F, 3, 2] that lie over another of their chart."""
    corners, height, width = side_by_side(flat * density, chart, 2)
    return covered_faces(corners.float(), height, width)


def uppermost(flat: Tensor, chart: Tensor, density: float) -> Tensor:
    """bool [F]: of every two faces [F, 3, 2] of a chart that lie over each other the first."""
    corners, height, width = side_by_side(flat * density, chart, 2)
    return upper_faces(corners.float(), height, width)


def _narrow(flat: Tensor) -> Tensor:
    a, b, c = flat.unbind(1)
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    longest = (flat.roll(-1, 1) - flat).square().sum(2).amax(1)
    return -doubled < NARROW * longest
