# SPDX-License-Identifier: Apache-2.0
"""Borders of flat charts that cross themselves give way, so that no texel belongs to two faces (docs/spec/geometry.md 16, 21).

Where all faces are the right way round, a chart lies over itself only where its border crosses itself or winds around a point.
That is looked for exactly: the grids of `unfold.overlapping` see only what covers the middle of a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.bake.layout import altitudes
from native_ext.exact_sum import exact_sum
from native_ext.segment_crossings import crossing_segments

_ROUNDS, _ROUNDS_PER_RING = 16, 5  # first the border's own points move, then those around them with them
_ROUNDING = 1e-6  # radians
_INWARD = 0.5  # of the way to the middle of its faces that a point goes per round


@dataclass(frozen=True)
class _Border:
    """Where charts end.

    Attributes:
        ends: int64 [n, 2], numbers of the ends of every edge that one face has alone; side: int64 [n], three times that face
            and the side of it.
        fans: int64 [m], faces with a point of the border.
    """

    ends: Tensor
    side: Tensor
    fans: Tensor


def uncrossed(flat: Tensor, corner: Tensor, chart: Tensor, lowest: Tensor, rounds: int = _ROUNDS) -> tuple[Tensor, Tensor]:
    """Flat charts whose borders do not cross, as far as their points may move inward for that.

    Args:
        flat: float64 [F, 3, 2], y down, no face flipped.
        corner: int64 [F, 3], as of `unfold.wedges`.
        chart: int64 [F].
        lowest: float64 [F], altitude that each face keeps.
        rounds: steps inward, at most.

    Returns:
        float64 [F, 3, 2] and bool [F], faces at whose border the chart still crosses itself.
    """
    crossing = crossing_faces(flat, corner, chart)
    if bool(crossing.any()):
        touched = torch.zeros(int(chart.max()) + 1, dtype=torch.bool, device=flat.device)
        touched[chart[crossing]] = True
        here = touched[chart].nonzero()[:, 0]
        names, local = (torch.unique(part[here], return_inverse=True)[1] for part in (corner, chart))
        moved, left = _drawn_in(flat[here], names, local, lowest[here], crossing[here], rounds)
        flat, crossing = flat.index_copy(0, here, moved), crossing.index_copy(0, here, left)
    return flat, crossing


def _drawn_in(
    flat: Tensor, corner: Tensor, chart: Tensor, lowest: Tensor, crossing: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    lowest, border = torch.minimum(lowest, altitudes(flat)), _border(corner)
    point = torch.zeros(int(corner.max()) + 1, 2, dtype=flat.dtype, device=flat.device)
    point[corner] = flat
    for step in range(rounds):
        if not bool(crossing.any()):
            break
        moving = torch.zeros(len(point), dtype=torch.bool, device=flat.device)
        moving[corner[crossing]] = True
        for _ in range(step // _ROUNDS_PER_RING):
            moving[corner[moving[corner].any(1)]] = True
        around = moving[corner].any(1).nonzero()[:, 0]
        names, index = torch.unique(corner[around], return_inverse=True)
        before = point[corner[around]]
        middle = exact_sum(index.reshape(-1), before.mean(1).repeat_interleave(3, 0), len(names))
        inward = _INWARD * (middle / torch.bincount(index.reshape(-1))[:, None] - point[names])
        point[names] += torch.where(moving[names, None], inward, 0.0)
        spoiled = altitudes(point[corner[around]]) < lowest[around]
        point[corner[around[spoiled]]] = before[spoiled]
        if bool((altitudes(point[corner[around]]) < lowest[around]).any()):
            point[corner[around]] = before
            break  # those that went back have spoiled others
        crossing = _crossing(point, corner, chart, border)
    return point[corner], crossing


def crossing_faces(flat: Tensor, corner: Tensor, chart: Tensor) -> Tensor:
    """bool [F], faces [F, 3, 2] with an edge of their chart's border that crosses another one, or that ends where the faces
    around a point take more than a whole turn, as around a hole turned inside out."""
    if not len(flat):
        return torch.zeros(0, dtype=torch.bool, device=flat.device)
    point = torch.zeros(int(corner.max()) + 1, 2, dtype=flat.dtype, device=flat.device)
    point[corner] = flat
    return _crossing(point, corner, chart, _border(corner))


def _crossing(point: Tensor, corner: Tensor, chart: Tensor, border: _Border) -> Tensor:
    face, found = border.side // 3, torch.zeros(len(corner), dtype=torch.bool, device=corner.device)
    if not len(face):
        return found
    ends = point[border.ends]
    ends = (ends - ends.reshape(-1, 2).amin(0)) / (ends[:, 0] - ends[:, 1]).norm(dim=1).mean()
    ends[..., 0] += (chart[face] * (torch.ceil(ends[..., 0].amax()) + 2))[:, None]  # charts set apart
    wound = _angles(point, corner[border.fans], len(point)) > 2 * math.pi + _ROUNDING
    found[face[crossing_segments(ends[:, 0], ends[:, 1], border.ends) | wound[border.ends].any(1)]] = True
    return found


def _border(corner: Tensor) -> _Border:
    ends = torch.stack([corner, corner.roll(-1, 1)], 2).reshape(-1, 2)
    count = int(corner.max()) + 1
    lone = (~torch.isin(ends[:, 0] * count + ends[:, 1], ends[:, 1] * count + ends[:, 0])).nonzero()[:, 0]
    rim = torch.zeros(count, dtype=torch.bool, device=corner.device)
    rim[ends[lone].reshape(-1)] = True
    return _Border(ends[lone], lone, rim[corner].any(1).nonzero()[:, 0])


def _angles(point: Tensor, corner: Tensor, count: int) -> Tensor:
    """float64 [count], sum of the angles that faces have at each point."""
    flat = point[corner]
    one, two = (torch.view_as_complex((flat.roll(-step, 1) - flat).contiguous()) for step in (1, 2))
    return exact_sum(corner.reshape(-1), (one * two.conj()).angle().abs().reshape(-1), count)
