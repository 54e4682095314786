# SPDX-License-Identifier: Apache-2.0
"""Move points of a graph towards the weighted mean of their neighbours, again and again.

`p_i += share_i (sum_j w_ij p_j / sum_j w_ij - p_i)`, all at once from where they were in the round before, each in the order of
its neighbours: the same on every run.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from native_ext.segment_sum import segment_sum

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_SHARE = 5  # of the arguments of `_move`


@wp.kernel
def _move(
    point: wp.array(dtype=wp.vec2d),
    names: wp.array(dtype=wp.int64),
    start: wp.array(dtype=wp.int64),
    other: wp.array(dtype=wp.int64),
    weight: wp.array(dtype=wp.float64),
    share: wp.array(dtype=wp.float64),
    moved: wp.array(dtype=wp.vec2d),
):
    i = wp.tid()
    here = point[names[i]]
    total = wp.vec2d(wp.float64(0.0), wp.float64(0.0))
    whole = wp.float64(0.0)
    at = start[i]
    while at < start[i + 1]:
        total += point[other[at]] * weight[at]
        whole += weight[at]
        at += wp.int64(1)
    moved[i] = here + (total / whole - here) * share[i]


@wp.kernel
def _store(names: wp.array(dtype=wp.int64), moved: wp.array(dtype=wp.vec2d), point: wp.array(dtype=wp.vec2d)):
    i = wp.tid()
    point[names[i]] = moved[i]


def settle_points(point: Tensor, names: Tensor, start: Tensor, other: Tensor, weight: Tensor, shares: list[Tensor]) -> None:
    """Moves the named points, in place.

    Args:
        point: float64 [P, 2].
        names: int64 [n], each once.
        start: int64 [n + 1], where the neighbours of each named point begin in `other`; all have some.
        other: int64 [E], points.
        weight: float64 [E], positive.
        shares: float64 [n] for every round, how much of the way each goes.
    """
    if not len(names) or not shares:
        return
    wp.init()
    moved = torch.empty(len(names), 2, dtype=torch.float64, device=point.device)
    with wp.ScopedStream(wp.stream_from_torch(point.device) if point.is_cuda else None):
        point_wp, moved_wp = (wp.from_torch(part, dtype=wp.vec2d) for part in (point, moved))
        names_wp, *graph = (wp.from_torch(part.contiguous()) for part in (names, start, other, weight))
        on = wp.device_from_torch(point.device)
        parts = [point_wp, names_wp, *graph, names_wp, moved_wp]
        parts[_SHARE] = wp.from_torch(shares[0])
        move = wp.launch(_move, len(names), parts, device=on, record_cmd=True)
        store = wp.launch(_store, len(names), [names_wp, moved_wp, point_wp], device=on, record_cmd=True)
        for share in shares:
            move.set_param_at_index(_SHARE, wp.from_torch(share))
            move.launch()
            store.launch()


def settle_points_reference(
    point: Tensor, names: Tensor, start: Tensor, other: Tensor, weight: Tensor, shares: list[Tensor]
) -> None:
    """The same in plain tensor operations."""
    whole = segment_sum(weight[:, None], start)
    for share in shares:
        mean = segment_sum(point[other] * weight[:, None], start) / whole
        point[names] += share[:, None] * (mean - point[names])
