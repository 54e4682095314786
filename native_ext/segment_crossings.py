# SPDX-License-Identifier: Apache-2.0
"""Which of many short segments in the plane cross others.

Segments (a, b) and (c, d) cross where c and d lie on different sides of one and a and b on different sides of the other:
`o(a,b,c) o(a,b,d) < 0` and `o(c,d,a) o(c,d,b) < 0` with `o(p,q,r) = (q - p) x (r - p)`. Only those that come into the same cell
of a grid are compared.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})


@wp.func
def _side(p: wp.vec2d, q: wp.vec2d, r: wp.vec2d) -> wp.float64:
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


@wp.kernel
def _compare(
    a: wp.array(dtype=wp.vec2d),
    b: wp.array(dtype=wp.vec2d),
    ends: wp.array2d(dtype=wp.int64),
    key: wp.array(dtype=wp.int64),
    segment: wp.array(dtype=wp.int64),
    crosses: wp.array(dtype=wp.bool),
):
    at = wp.tid()
    i = segment[at]
    other = at + 1
    while other < key.shape[0] and key[other] == key[at]:
        j = segment[other]
        other += 1
        if ends[i, 0] != ends[j, 0] and ends[i, 0] != ends[j, 1] and ends[i, 1] != ends[j, 0] and ends[i, 1] != ends[j, 1]:
            if _side(a[i], b[i], a[j]) * _side(a[i], b[i], b[j]) < wp.float64(0.0):
                if _side(a[j], b[j], a[i]) * _side(a[j], b[j], b[i]) < wp.float64(0.0):
                    crosses[i] = True
                    crosses[j] = True


def crossing_segments(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """bool [n], segments that cross another one.

    Args:
        a, b: float64 [n, 2], ends in units of a cell, about as large as most segments are long; longer ones are looked at in
            pieces.
        ends: int64 [n, 2], numbers of the ends; segments that share one do not cross.
    """
    wp.init()
    crosses = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    if not len(a):
        return crosses
    pieces = torch.ceil((b - a).abs().amax(1)).long().clamp_min(1)
    segment = torch.arange(len(a), device=a.device).repeat_interleave(pieces)
    step = torch.arange(len(segment), device=a.device) - (torch.cumsum(pieces, 0) - pieces)[segment]
    near, far = (torch.lerp(a[segment], b[segment], ((step + k) / pieces[segment])[:, None].to(a.dtype)) for k in (0, 1))
    low, high = torch.floor(torch.minimum(near, far)).long(), torch.floor(torch.maximum(near, far)).long()
    origin, width = low.amin(0), int(high[:, 0].max() - low[:, 0].min()) + 1
    places = []
    for x, y in ((low, low), (high, low), (low, high), (high, high)):  # a piece comes into four cells at most
        places.append((y[:, 1] - origin[1]) * width + x[:, 0] - origin[0])
    # a cell may name a piece twice: a segment is not compared with itself, since it shares its ends
    key, order = torch.sort(torch.cat(places), stable=True)
    segment = segment.repeat(4)[order]
    with wp.ScopedStream(wp.stream_from_torch(a.device) if a.is_cuda else None):
        plane = [wp.from_torch(part.contiguous(), dtype=wp.vec2d) for part in (a, b)]
        lists = [wp.from_torch(part.contiguous()) for part in (ends, key, segment, crosses)]
        wp.launch(_compare, dim=len(key), inputs=[*plane, *lists], device=wp.device_from_torch(a.device))
    return crosses
