# SPDX-License-Identifier: Apache-2.0
"""Who lies across each side of a triangle mesh, found by walking around vertices instead of sorting edges.

Side `3 f + i` is the edge of face f from its corner i to corner i+1. The faces around each vertex come from one sort of the
corners; every answer then takes a handful of look-ups in one thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

OPEN, CROWDED = -1, -2  # in place of a side: no other face on the edge, or more than one


@dataclass(frozen=True)
class Fans:
    """Sides around every vertex: `side[start[v] : start[v+1]]` start in v, ascending. int32 [3F], int32 [V + 1]."""

    side: Tensor
    start: Tensor


def fans_of(faces: Tensor, vertices: int) -> Fans:
    """The sides that start in each vertex."""
    corner = faces.reshape(-1)
    start = torch.zeros(vertices + 1, dtype=torch.int32, device=faces.device)
    start[1:] = torch.cumsum(torch.bincount(corner, minlength=vertices), 0)
    if faces.is_cuda:
        return Fans(torch.sort(corner, stable=True).indices.int(), start)
    wp.init()
    side = torch.empty(len(corner), dtype=torch.int32)
    arrays = [wp.from_torch(t) for t in (corner.int().contiguous(), start.clone(), side)]
    wp.launch(_count_out, dim=1, inputs=arrays, device="cpu")  # one core counts faster than it sorts
    return Fans(side, start)


def twin_sides(faces: Tensor, fans: Fans) -> Tensor:
    """int32 [3F], the only other side on the edge of each side, whichever way it runs, or `OPEN`, or `CROWDED`."""
    wp.init()
    twin = torch.empty(3 * len(faces), dtype=torch.int32, device=faces.device)
    _launch(_find_twins, len(twin), faces, fans, [wp.from_torch(twin)])
    return twin


def later_duplicates(faces: Tensor, fans: Fans, turned: bool = True) -> Tensor:
    """bool [F], faces with the three vertices of a face with a smaller number; `turned` or wound alike only."""
    wp.init()
    later = torch.zeros(len(faces), dtype=torch.int32, device=faces.device)
    _launch(_find_duplicates, len(faces), faces, fans, [int(turned), wp.from_torch(later)])
    return later.bool()


def torn_vertices(faces: Tensor, fans: Fans, mate: Tensor) -> Tensor:
    """bool [V], vertices whose faces do not form one fan over the given links.

    Args:
        mate: int32 [3F], the side that each side is linked to, running the other way; -1 for none.
    """
    wp.init()
    torn = torch.zeros(len(fans.start) - 1, dtype=torch.int32, device=faces.device)
    _launch(_find_torn, len(torn), faces, fans, [wp.from_torch(mate), wp.from_torch(torn)])
    return torn.bool()


@wp.kernel
def _count_out(corner: wp.array(dtype=int), free: wp.array(dtype=int), side: wp.array(dtype=int)):
    for s in range(corner.shape[0]):
        v = corner[s]
        side[free[v]] = s
        free[v] = free[v] + 1


def _launch(kernel: wp.Kernel, threads: int, faces: Tensor, fans: Fans, inputs: list) -> None:
    if threads == 0:
        return
    with wp.ScopedStream(wp.stream_from_torch(faces.device) if faces.is_cuda else None):
        corner = wp.from_torch(faces.int().contiguous().reshape(-1))
        arrays = [corner, wp.from_torch(fans.side), wp.from_torch(fans.start), *inputs]
        wp.launch(kernel, dim=threads, inputs=arrays, device=wp.device_from_torch(faces.device))


@wp.func
def turn_side(s: int, steps: int) -> int:
    """The side `steps` on around the face of side s."""
    return s - s % 3 + (s + steps) % 3


@wp.kernel
def _find_twins(corner: wp.array(dtype=int), side: wp.array(dtype=int), start: wp.array(dtype=int), twin: wp.array(dtype=int)):
    s = wp.tid()
    a = corner[s]
    b = corner[turn_side(s, 1)]
    found = int(-1)
    count = int(0)
    for at in range(start[a], start[a + 1]):
        t = side[at]
        if t // 3 != s // 3:
            if corner[turn_side(t, 1)] == b:
                found = t
                count += 1
            elif corner[turn_side(t, 2)] == b:
                found = turn_side(t, 2)
                count += 1
    if count > 1:
        found = -2
    twin[s] = found


@wp.kernel
def _find_duplicates(
    corner: wp.array(dtype=int),
    side: wp.array(dtype=int),
    start: wp.array(dtype=int),
    turned: int,
    later: wp.array(dtype=int),
):
    f = wp.tid()
    a = corner[3 * f]
    b = corner[3 * f + 1]
    c = corner[3 * f + 2]
    for at in range(start[a], start[a + 1]):
        t = side[at]
        if t // 3 < f:
            n = corner[turn_side(t, 1)]
            p = corner[turn_side(t, 2)]
            if (n == b and p == c) or (turned != 0 and n == c and p == b):
                later[f] = 1


@wp.kernel
def _find_torn(
    corner: wp.array(dtype=int),
    side: wp.array(dtype=int),
    start: wp.array(dtype=int),
    mate: wp.array(dtype=int),
    torn: wp.array(dtype=int),
):
    v = wp.tid()
    degree = start[v + 1] - start[v]
    if degree == 0:
        return
    first = side[start[v]]
    opens = int(0)
    for at in range(start[v], start[v + 1]):
        if mate[turn_side(side[at], 2)] < 0:
            opens += 1
            first = side[at]
    walked = int(1)
    at_side = mate[first]
    while at_side >= 0 and walked <= degree:
        at_side = turn_side(at_side, 1)
        if at_side == first:
            break
        walked += 1
        at_side = mate[at_side]
    if opens > 1 or walked != degree:
        torn[v] = 1
