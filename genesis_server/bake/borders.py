# SPDX-License-Identifier: Apache-2.0
"""Borders of flat charts that cross themselves give way, so that no texel belongs to two faces (docs/spec/geometry.md 16, 21).

Where all faces are the right way round, a chart lies over itself only where its border crosses itself or winds around a point.
That is looked for exactly: the grids of `unfold.overlapping` see only what covers the middle of a cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genesis_server.bake.layout import altitudes, side_by_side
from native_ext.exact_sum import exact_sum
from native_ext.segment_crossings import crossing_segments

_ROUNDS, _ROUNDS_PER_RING = 16, 5  # first the border's own points move, then those around them with them
_ROUNDING = 1e-6  # radians
_INWARD = 0.5  # of the way to the middle of its faces that a point goes per round


def uncrossed(flat: Tensor, corner: Tensor, chart: Tensor, lowest: Tensor) -> tuple[Tensor, Tensor]:
    """Flat charts whose borders do not cross, as far as their points may move inward for that.

    Args:
        flat: float64 [F, 3, 2], y down, no face flipped.
        corner: int64 [F, 3], as of `unfold.wedges`.
        chart: int64 [F].
        lowest: float64 [F], altitude that each face keeps.

    Returns:
        float64 [F, 3, 2] and bool [F], faces at whose border the chart still crosses itself.
    """
    crossing = crossing_faces(flat, corner, chart)
    if bool(crossing.any()):
        touched = torch.zeros(int(chart.max()) + 1, dtype=torch.bool, device=flat.device)
        touched[chart[crossing]] = True
        here = touched[chart].nonzero()[:, 0]
        names, local = (torch.unique(part[here], return_inverse=True)[1] for part in (corner, chart))
        moved, left = _drawn_in(flat[here], names, local, lowest[here], crossing[here])
        flat, crossing = flat.index_copy(0, here, moved), crossing.index_copy(0, here, left)
    return flat, crossing


def _drawn_in(flat: Tensor, corner: Tensor, chart: Tensor, lowest: Tensor, crossing: Tensor) -> tuple[Tensor, Tensor]:
    lowest = torch.minimum(lowest, altitudes(flat))
    for step in range(_ROUNDS):
        if not bool(crossing.any()):
            break
        point = torch.zeros(int(corner.max()) + 1, 2, dtype=flat.dtype, device=flat.device)
        point[corner] = flat
        moving = torch.zeros(len(point), dtype=torch.bool, device=flat.device)
        moving[corner[crossing]] = True
        for _ in range(step // _ROUNDS_PER_RING):
            moving[corner[moving[corner].any(1)]] = True
        around = moving[corner].any(1).nonzero()[:, 0]
        names, index = torch.unique(corner[around], return_inverse=True)
        middle = exact_sum(index.reshape(-1), flat[around].mean(1).repeat_interleave(3, 0), len(names))
        inward = _INWARD * (middle / torch.bincount(index.reshape(-1))[:, None] - point[names])
        point[names] += torch.where(moving[names, None], inward, 0.0)
        spoiled = around[altitudes(point[corner[around]]) < lowest[around]]
        point[corner[spoiled]] = flat[spoiled]
        if bool((altitudes(point[corner[around]]) < lowest[around]).any()):
            break  # those that went back have spoiled others
        flat = point[corner]
        crossing = crossing_faces(flat, corner, chart)
    return flat, crossing


def crossing_faces(flat: Tensor, corner: Tensor, chart: Tensor) -> Tensor:
    """bool [F], faces [F, 3, 2] with an edge of their chart's border that crosses another one, or that ends where the faces
    around a point take more than a whole turn, as around a hole turned inside out."""
    count = int(corner.max()) + 1
    ends = torch.stack([corner, corner.roll(-1, 1)], 2).reshape(-1, 2)
    lone = (~torch.isin(ends[:, 0] * count + ends[:, 1], ends[:, 1] * count + ends[:, 0])).nonzero()[:, 0]
    face = lone // 3
    length = (flat - flat.roll(-1, 1)).norm(dim=2).reshape(-1)[lone]
    places = side_by_side(flat / length.mean(), chart, 2)[0]
    a, b = places.reshape(-1, 2)[lone], places.roll(-1, 1).reshape(-1, 2)[lone]
    found = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    wound = _angles(flat, corner, count) > 2 * math.pi + _ROUNDING
    found[face[crossing_segments(a, b, ends[lone]) | wound[ends[lone]].any(1)]] = True
    return found


def _angles(flat: Tensor, corner: Tensor, count: int) -> Tensor:
    """float64 [count], sum of the angles that faces have at each point."""
    one, two = (torch.view_as_complex((flat.roll(-step, 1) - flat).contiguous()) for step in (1, 2))
    return exact_sum(corner.reshape(-1), (one * two.conj()).angle().abs().reshape(-1), count)
