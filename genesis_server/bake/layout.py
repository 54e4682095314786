# SPDX-License-Identifier: Apache-2.0
"""Flatten charts and lay them into one square atlas (docs/spec/geometry.md 16.4, 18.2, 19.6).

A chart is projected along its axis, scaled to its area in space, turned to its smallest rectangle, and packed as a bitmap, so
that concave charts interlock. Packing happens on at most `PACK_SIZE` cells per side: larger textures get the same layout, whose
padding grows with them exactly as required.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.exact_sum import exact_sum
from native_ext.place_bitmaps import Bitmaps, Placement, cut_bitmaps, place_bitmaps
from native_ext.rasterize import cover

PACK_SIZE = 1024  # at this size the required padding is 4 texels; above, max(4, size / 256) keeps the same share
PADDING = 4
WIDE_PADDING = 6  # where there is room: at 1024, mip level 3 mixes 8 texels
_ROOMY = 0.66  # of the square that the first try fills; the best one fills a few percent more
MIN_ALTITUDE = 0.004  # texels: a flat face thinner than this gets a chart of its own ...
WIDENED_ALTITUDE = 0.5  # ... and is widened to this: rounding to float32 cannot turn or flatten it
_TURNS = 24  # directions tried for the smallest rectangle of a chart, within a quarter turn
_MAX_SCALE = 4.0  # a chart seen this steeply would blow up without gaining detail
_OVERLAP_SIDE = 1200  # charts are tested for overlap as if they filled a square of this many cells; an atlas gives them fewer
_CELLS_PER_FACE = 40  # ... and no more than this for each face
_AT_ONCE = 8  # orders that are tried together: on as many threads, or side by side on a GPU
_TRIES = (1, 24)  # orders of the charts that are tried at one density: at least, at most, ...
_TRIES_FOR_ALL = 500  # ... and about this many divided by the charts, of each of which a place must be found
_SWAPPED = 0.3  # of the charts change their place in the order from one try to the next ...
_SWAP = 0.25  # ... by this much of the logarithm of their area, to either side together
_BOLD = 1.05  # times the density that the first try promises: where the search begins ...
_SURE = 1.02  # ... or of many charts, whose orders hardly differ ...
_SHRINK = 0.994  # ... and how it goes down from there ...
_HOPELESS = 1.02  # times the side: charts of that height will not fit in another order
_HOPE = 1.008  # ... in larger steps where even a little more than the height promises is far
_SEARCHES = 6  # at most, with other orders, ...
_ENOUGH = 0.65  # ... until the charts fill this share of the square; each begins ...
_AGAIN = 1.015  # ... with this many times the density of the best one before
_INTERLOCK = 0.9  # bitmaps need about this share of the space of their rectangles
_BULKY, _WASTE = 0.1, 0.003  # shares of the whole area
_SICKLE = 0.66  # of its rectangle, that a chart fills: less is one
_SLABS = 64  # across a chart, whose lengths are compared: ...
_STEP_SLABS = 3  # ... so many on either side of a cut ...
_STEP = 0.62  # ... that differ by this share of the longest
_STEP_FACES = 500  # with fewer, slabs hold too few
_MANY_CHARTS = 200  # more are placed on half cells: whole ones would widen the padding by a fifth ...
_TOO_MANY_CHARTS = 400  # ... but so many would take four times as long
_BARELY = 0.01  # cells
_MAX_SHRINKS = 100
_SMALLEST_CHART = 3  # cells that a tiny chart covers per axis


def project_charts(corners: Tensor, chart: Tensor) -> Tensor:
    """Every chart flat: orthographic along its axis, not mirrored.

    Args:
        corners: float64 [F, 3, 3], the faces' corners in space.
        chart: int64 [F].

    Returns:
        float64 [F, 3, 2], x right and y down in model units; the charts lie on top of each other.
    """
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = torch.nn.functional.normalize(exact_sum(chart, cross, int(chart.max()) + 1), dim=1, eps=1e-300)
    helper = torch.zeros_like(axis)
    helper.scatter_(1, axis.abs().argmin(1, keepdim=True), 1.0)
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, axis), dim=1)
    up = torch.linalg.cross(axis, right)
    return torch.stack([(corners * right[chart, None]).sum(2), -(corners * up[chart, None]).sum(2)], 2)


def scale_to_areas(flat: Tensor, areas: Tensor, chart: Tensor) -> Tensor:
    """Flat charts [F, 3, 2], each scaled to its area in space, so that all have the same density; areas float32 [F]."""
    count = int(chart.max()) + 1
    projected = exact_sum(chart, _doubled_area(flat).abs(), count)
    scale = (2 * exact_sum(chart, areas, count) / projected.clamp_min(1e-300)).sqrt().clamp_max(_MAX_SCALE)
    return flat * scale[chart, None, None]


def altitudes(flat: Tensor) -> Tensor:
    """Shortest altitude of each flat triangle [F, 3, 2], negative where it is flipped (y down, not mirrored)."""
    edges = flat.roll(-1, 1) - flat
    return -_doubled_area(flat) / edges.norm(dim=2).amax(1).clamp_min(1e-300)


def side_by_side(flat: Tensor, chart: Tensor, margin: int) -> tuple[Tensor, int, int]:
    """Flat charts [F, 3, 2] in cells, set apart on a canvas of the returned height and width."""
    low, high = bounds(flat, chart, int(chart.max()) + 1)
    corners, _, height, width = _spread(flat, chart, low, torch.ceil(high - low).long() + 2 * margin, margin)
    return corners, height, width


def flat_areas(flat: Tensor) -> Tensor:
    """Area of each flat triangle [F, 3, 2], negative where it is flipped."""
    return -_doubled_area(flat) / 2


def overlap_density(areas: Tensor) -> float:
    """Cells per unit of length of a grid fine enough to find overlaps that the texture would show, from the faces' areas."""
    side = min(_OVERLAP_SIDE, math.sqrt(_CELLS_PER_FACE * len(areas)))
    return side / math.sqrt(max(float(areas.double().sum()), 1e-12))


def pack_atlas(flat: Tensor, chart: Tensor, rim: Tensor, texture_size: int, check: Callable[[], None] = lambda: None) -> Tensor:
    """Places the flat charts in the unit square, as large as they fit.

    Args:
        flat: float64 [F, 3, 2], flat charts.
        chart: int64 [F].
        rim: int64 [n], the faces at the charts' borders.
        texture_size: texels per side.
        check: called between the attempts; what it raises ends the work.

    Returns:
        float64 [F, 3, 2], uv in 0..1.

    Raises:
        GenesisError: BAD_MESH when even tiny charts with their padding do not fit a texture of `PACK_SIZE`; in a smaller
            texture they then come closer together.
    """
    side = min(texture_size, PACK_SIZE)
    low, high = bounds(flat, chart, int(chart.max()) + 1)
    # then closer together than the padding: seams show in mip-maps, of which so small a texture hardly has any
    finer = partial(pack_atlas, flat, chart, rim, 2 * side, check) if side < PACK_SIZE else None
    if finer and low.shape[0] * (PADDING + _SMALLEST_CHART) ** 2 > side**2:
        return finer()
    size = (high - low).cpu()
    finely = 2 if _MANY_CHARTS < len(low) <= _TOO_MANY_CHARTS else 1
    cells = finely * side
    area = float(flat_areas(flat).sum()) / cells**2
    few = len(low) <= _MANY_CHARTS
    for padding in (WIDE_PADDING, PADDING) if few else (PADDING,):  # many never leave room for the wide one
        task = _Task(flat, chart, rim, low, high, finely * padding, cells, check)
        density = _expected_density(high - low, cells, task.padding)
        density *= math.sqrt(cells / _placed(task.cut(density), cells, _Orders(size, 0).best[None])[0].height)
        if area * density**2 >= _ROOMY:
            break
    found = _largest(task, density * (_BOLD if few else _SURE), 0.0, _Orders(size, 0))
    for seed in range(1, _SEARCHES if few and found else 0):
        if area * found[0] ** 2 >= _ENOUGH:
            break
        found = _largest(task, found[0] * _AGAIN, found[0], _Orders(size, seed)) or found
    if found:
        return found[1]
    if finer:
        return finer()
    raise GenesisError(
        ErrorCode.BAD_MESH, f"{low.shape[0]} charts with their padding do not fit into one texture.", "Use fewer faces."
    )


@dataclass(frozen=True)
class _Task:
    """Charts [F, 3, 2] to be packed with so much padding into a square of so many cells per side; see `pack_atlas`."""

    flat: Tensor
    chart: Tensor
    rim: Tensor
    low: Tensor
    high: Tensor
    padding: int
    cells: int
    check: Callable[[], None]

    def cut(self, density: float) -> _CutCharts:
        return _cut_out(self.flat * density, self.chart, self.rim, self.low * density, self.high * density, self.padding)


def _largest(task: _Task, density: float, least: float, orders: _Orders) -> tuple[float, Tensor] | None:
    """The first density at which the charts fit, from the given one down to `least`, and their uv there; None if none is."""
    tries = min(max(_TRIES_FOR_ALL // len(task.low), _TRIES[0]), _TRIES[1])
    for _ in range(_MAX_SHRINKS):
        if density <= least:
            break
        cut, lowest = task.cut(density), math.inf
        for _ in range(0, tries, _AT_ONCE):
            task.check()
            several = orders.several(min(tries, _AT_ONCE))
            placements = _placed(cut, task.cells, several)
            heights = [placement.height for placement in placements]
            best = heights.index(min(heights))
            if placements[best].fits and heights[best] <= task.cells:
                return density, _laid_out(cut, task.chart, placements[best]) / task.cells
            if heights[best] <= lowest:
                lowest, orders.best = heights[best], several[best]
            if lowest > _HOPELESS * task.cells:
                break
        density *= min(_SHRINK, _HOPE * math.sqrt(task.cells / lowest))
    return None


def _expected_density(size: Tensor, side: int, padding: int) -> float:
    """Density at which the charts' padded rectangles [C, 2] would fill the square, allowing for interlocking."""
    a = float(size.prod(1).sum()) * _INTERLOCK
    b = float(size.sum()) * (padding + 1) * _INTERLOCK
    c = size.shape[0] * (padding + 1) ** 2 * _INTERLOCK - side**2
    return (math.sqrt(b * b - 4 * a * min(c, -1.0)) - b) / (2 * a)


class _Orders:
    """Orders in which charts may be placed: large ones first, give or take.

    `best`, float64 [C], is what the next ones vary: charts with a higher value are placed earlier. The same on every run.
    """

    def __init__(self, size: Tensor, seed: int) -> None:
        self.best = size.double().prod(1).clamp_min(1e-300).log()
        self._random = torch.Generator().manual_seed(seed)

    def several(self, count: int) -> Tensor:
        """The best and others near it, float64 [count, C]."""
        draw, change = torch.rand(2, count - 1, len(self.best), generator=self._random, dtype=torch.float64)
        return torch.cat([self.best[None], self.best + _SWAP * (change - 0.5) * (draw < _SWAPPED)])


@dataclass(frozen=True)
class _CutCharts:
    """Charts as bitmaps with half of their padding around them.

    Attributes:
        local: float64 [F, 3, 2], corners in cells of the chart's own box.
        boxes: int64 [C, 4], column, row, width and height in the canvas.
        bitmaps: of the charts.
    """

    local: Tensor
    boxes: Tensor
    bitmaps: Bitmaps


def _cut_out(flat: Tensor, chart: Tensor, rim: Tensor, low: Tensor, high: Tensor, padding: int) -> _CutCharts:
    # no cell is near two charts only if they are further apart than twice the reach less a cell's diagonal
    reach = (padding + math.sqrt(2)) / 2
    # the first centre within reach is just so, which covers fewest columns and rows
    size = torch.floor(high - low + 2 * reach + _BARELY).long().clamp_min(1)
    corners, boxes, height, width = _spread(flat, chart, low, size, reach - 0.5 + _BARELY)
    canvas = cover(corners.float(), height, width, reach, rim)
    return _CutCharts(corners - boxes[chart, None, :2].double(), boxes, cut_bitmaps(canvas, boxes))


def _placed(cut: _CutCharts, side: int, orders: Tensor) -> list[Placement]:
    """The charts in strips of width `side` and 3/2 of its height, those with a high value in `orders` [T, C] first; their
    heights tell how much more they need where they do not fit."""
    boxes, most = cut.boxes, 3 * side // 2
    longest = cut.bitmaps.side
    if longest > side:
        return [Placement(boxes[:, :2], boxes[:, 0], side * longest**2 // side**2 + 1, False)] * len(orders)
    found = place_bitmaps(cut.bitmaps, torch.argsort(orders, dim=1, descending=True, stable=True), side, most)
    return [one if one.fits else replace(one, height=most) for one in found]


def _laid_out(cut: _CutCharts, chart: Tensor, placement: Placement) -> Tensor:
    turned = _quarter_turned(cut.local, placement.turn[chart], cut.boxes[chart, 2:].double())
    return turned + placement.position[chart, None].double()


def _quarter_turned(local: Tensor, turn: Tensor, size: Tensor) -> Tensor:
    x, y = local.unbind(2)
    w, h = size[:, :1], size[:, 1:]
    turned = torch.stack([torch.stack(p, 2) for p in ((x, y), (h - y, x), (w - x, h - y), (y, w - x))])
    return turned[turn, torch.arange(turn.shape[0], device=turn.device)]


def _spread(flat: Tensor, chart: Tensor, low: Tensor, size: Tensor, margin: float) -> tuple[Tensor, Tensor, int, int]:
    """Sets the charts side by side in rows, each in a box of `size` [C, 2] and so far from its corner: corners [F, 3, 2] in
    cells, boxes [C, 4], and the canvas' height and width."""
    size = size.cpu()
    order = torch.argsort(size[:, 1], descending=True, stable=True)
    width = max(int(size[:, 0].max()), math.isqrt(int(size.prod(1).sum())) + 1)
    right = torch.cumsum(size[order, 0], 0)
    boxes = torch.empty(len(size), 4, dtype=torch.int64)
    boxes[:, 2:] = size
    first = y = 0
    while first < len(size):  # row by row
        begin = int(right[first - 1]) if first else 0
        last = int(torch.searchsorted(right, begin + width, right=True))
        row = order[first:last]
        boxes[row, 0], boxes[row, 1] = right[first:last] - size[row, 0] - begin, y
        first, y = last, y + int(size[order[first], 1])
    boxes = boxes.to(chart.device)
    corners = flat - low[chart, None] + (boxes[chart, None, :2] + margin)
    return corners, boxes, y, width


def bulky_charts(flat: Tensor, chart: Tensor) -> Tensor:
    """Numbers of the charts that leave room unused: large ones, and those that fill little of their rectangle."""
    low, high = bounds(flat, chart, int(chart.max()) + 1)
    area = exact_sum(chart, _doubled_area(flat).abs(), low.shape[0]) / 2
    room = (high - low).prod(1)
    sickle = (area < _SICKLE * room) & (room - area > _WASTE * area.sum())
    return (sickle | (area > _BULKY * area.sum())).nonzero()[:, 0]


def steps_cut(flat: Tensor, areas: Tensor, chart: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
    """Where upright charts are cut best: where they suddenly become narrower, as at the inner corner of an L.

    Args:
        flat: float64 [F, 3, 2], every chart in its smallest rectangle.
        areas: float [F].
        chart: int64 [F].
        names: int64 [n], the charts to cut.

    Returns:
        bool [F], faces of named charts on the far side of their cut; int64 [m], those of the charts that have no such place.
    """
    count = int(chart.max()) + 1
    low, high = bounds(flat, chart, count)
    place = (flat.mean(1) - low[chart]) / (high - low).clamp_min(1e-300)[chart]
    slab = (place * _SLABS).long().clamp(0, _SLABS - 1)
    steps = []
    for axis in (0, 1):
        width = exact_sum(chart * _SLABS + slab[:, axis], areas, count * _SLABS).view(count, _SLABS)
        total = torch.cat([torch.zeros_like(width[:, :1]), torch.cumsum(width, 1)], 1)
        mean = (total[:, _STEP_SLABS:] - total[:, :-_STEP_SLABS]) / _STEP_SLABS  # of the slabs from here on
        steps.append((mean[:, _STEP_SLABS:] - mean[:, :-_STEP_SLABS]).abs() / mean.amax(1, keepdim=True).clamp_min(1e-300))
    best, cut = torch.cat(steps, 1).max(1)
    kind, at = cut // steps[0].shape[1], cut % steps[0].shape[1] + _STEP_SLABS
    wanted = torch.zeros(count, dtype=torch.bool, device=chart.device).index_fill(0, names, True)
    clear = (best >= _STEP) & (torch.bincount(chart, minlength=count) >= _STEP_FACES)
    beyond = slab.gather(1, kind[chart, None])[:, 0] >= at[chart]
    return beyond & (wanted & clear)[chart], names[~clear[names]]


def _doubled_area(flat: Tensor) -> Tensor:
    a, b, c = flat.unbind(1)
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def bounds(flat: Tensor, chart: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest coordinates [C, 2] of flat charts [F, 3, 2]."""
    where = chart[:, None].expand(-1, 2)
    low = torch.full((count, 2), math.inf, dtype=flat.dtype, device=flat.device)
    high = torch.full((count, 2), -math.inf, dtype=flat.dtype, device=flat.device)
    low.scatter_reduce_(0, where, flat.amin(1), "amin")
    high.scatter_reduce_(0, where, flat.amax(1), "amax")
    return low, high


def turn_to_rectangles(flat: Tensor, chart: Tensor, rim: Tensor) -> Tensor:
    """Turns every flat chart [F, 3, 2] so that the bounding rectangle of its faces of `rim`, int64 [n], is smallest."""
    theta = _best_turns(flat[rim].reshape(-1, 2), chart[rim].repeat_interleave(3), int(chart.max()) + 1)[0]
    cosine, sine = torch.cos(theta)[chart, None], torch.sin(theta)[chart, None]
    x, y = flat.unbind(2)
    return torch.stack([x * cosine + y * sine, y * cosine - x * sine], 2)


def smallest_rectangles(points: Tensor, chart: Tensor, count: int) -> Tensor:
    """Sides [count, 2] of the smallest rectangles around the points [P, 2] of each chart, int64 [P]."""
    return _best_turns(points, chart, count)[1]


def _best_turns(points: Tensor, chart: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Angle [count] of the first axis of every chart's smallest rectangle, and its sides [count, 2]."""
    theta = torch.arange(_TURNS, device=points.device) * (math.pi / 2 / _TURNS)
    across = torch.stack([theta.cos(), theta.sin()], 1).to(points.dtype)
    along = torch.stack([-across[:, 1], across[:, 0]], 1)
    where = (torch.arange(_TURNS, device=points.device)[:, None] * count + chart).reshape(-1)
    sides = []
    x, y = points.T.contiguous()
    for direction in (across, along):
        reach = (direction[:, :1] * x + direction[:, 1:] * y).reshape(-1)
        low, high = torch.full((2, _TURNS * count), math.inf, dtype=points.dtype, device=points.device)
        low.scatter_reduce_(0, where, reach, "amin")
        high.scatter_reduce_(0, where, -reach, "amin")
        sides.append((-high - low).view(_TURNS, count))
    size = torch.stack(sides, 2)
    best = size.prod(2).min(0).values
    first = (size.prod(2) <= best * (1 + 1e-6)).int().argmax(0)
    return theta[first].to(points.dtype), size[first, torch.arange(count, device=points.device)]


def widen_slivers(flat: Tensor, chart: Tensor) -> Tensor:
    """Lays out the triangle of a one-face chart [F, 3, 2] anew where it is too thin to survive rounding."""
    texel = float((_doubled_area(flat).abs().sum() / 2 * 1.5).sqrt()) / PACK_SIZE
    alone = torch.bincount(chart)[chart] == 1
    thin = alone & (altitudes(flat) < MIN_ALTITUDE * texel)
    if not bool(thin.any()):
        return flat
    base = (flat[thin].roll(-1, 1) - flat[thin]).norm(dim=2).amax(1).clamp_min(WIDENED_ALTITUDE * texel)
    zero = torch.zeros_like(base)
    height = torch.full_like(base, WIDENED_ALTITUDE * texel)
    fresh = torch.stack([torch.stack([zero, height], 1), torch.stack([base, height], 1), torch.stack([base / 2, zero], 1)], 1)
    result = flat.clone()
    result[thin] = fresh
    return result
