# SPDX-License-Identifier: Apache-2.0
"""Iron folds out of flat charts, so that rough surfaces need few charts (docs/spec/geometry.md 16.1, 19.6).

Vertices that a network predicted wobble by parts of a voxel, and faces as small as the wobble lean over backwards: seen along
their chart's axis they are flipped. Around flipped and very narrow faces the vertices inside the chart move to the middle of
their neighbours in the plane, as in Tutte's embedding, which has no flips; the chart's border stays where it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = 0.02  # twice the area over the longest edge squared: about an aspect of 50
_ROUNDS = 60  # a fold of a few edges' size is flat after ten; what is left is cut out of its chart
_INNER_ROUNDS = 20  # then vertices on the chart's border move too
_STEP = 0.8  # of the way: a whole step can swing


def unfold(flat: Tensor, faces: Tensor, chart: Tensor) -> Tensor:
    """Flat charts with fewer flips.

    Args:
        flat: float64 [F, 3, 2], y down; unflipped faces have negative area. Corners of one vertex in one chart agree.
        faces: int [F, 3], vertices.
        chart: int64 [F].

    Returns:
        float64 [F, 3, 2]; charts without flipped or narrow faces are as they were.
    """
    key = (chart[:, None] * (int(faces.max()) + 1) + faces.long()).reshape(-1)
    _, wedge = torch.unique(key, return_inverse=True)
    corner = wedge.reshape(-1, 3)
    count = int(wedge.max()) + 1
    point = torch.zeros(count, 2, dtype=flat.dtype, device=flat.device)
    point[wedge] = flat.reshape(-1, 2)
    fixed = _border(corner, count)
    active = torch.arange(len(corner), device=flat.device)
    bad = active[_narrow(point[corner])]
    for step in range(_ROUNDS):
        if not len(bad):
            break
        marked = torch.zeros(count, dtype=torch.bool, device=flat.device)
        marked[corner[bad].reshape(-1)] = True
        if step < _INNER_ROUNDS:
            marked &= ~fixed
        near = marked[corner].any(1).nonzero()[:, 0]  # every face around a vertex that moves
        a = corner[near]
        ends = torch.cat([a, a.roll(-1, 1)], 0).reshape(-1), torch.cat([a.roll(-1, 1), a], 0).reshape(-1)
        keep = marked[ends[0]]
        source, other = ends[0][keep], ends[1][keep]
        names, index = torch.unique(source, return_inverse=True)
        total = torch.zeros(len(names), 2, dtype=flat.dtype, device=flat.device).index_add_(0, index, point[other])
        uses = torch.bincount(index, minlength=len(names))[:, None]
        point[names] += _STEP * (total / uses - point[names])
        bad = near[_narrow(point[corner[near]])]
    return point[corner]


def _narrow(flat: Tensor) -> Tensor:
    a, b, c = flat.unbind(1)
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    longest = (flat.roll(-1, 1) - flat).square().sum(2).amax(1)
    return -doubled < NARROW * longest


def _border(corner: Tensor, count: int) -> Tensor:
    """bool [W]: wedges on an edge that only one face of the chart has."""
    start, end = corner.reshape(-1), corner.roll(-1, 1).reshape(-1)
    key = torch.minimum(start, end) * count + torch.maximum(start, end)
    _, inverse, uses = torch.unique(key, return_inverse=True, return_counts=True)
    border = torch.zeros(count, dtype=torch.bool, device=corner.device)
    lone = uses[inverse] == 1
    border[start[lone]] = True
    border[end[lone]] = True
    return border
