# SPDX-License-Identifier: Apache-2.0
"""Relax flat triangles towards their true shapes, as rigidly as possible (Sorkine and Alexa 2007, in the plane).

Every triangle, turned by the rotation that fits it best to where it lies (for corners r around their middle and p around c,
complex numbers, `u = sum (p - c) conj(r)`, `r u / |u|`), tells its corners where they should be; a point moves to the mean of
what its triangles tell, weighted by their areas. The borders are free. Steps carry momentum (Nesterov 1983), without which a
bend would take as many steps as there are triangles across it.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from native_ext.segment_sum import run_starts, segment_sum

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_TINY = 1e-300
_MOMENTUM = 4  # of the arguments of `_follow`


@wp.kernel
def _tell(
    point: wp.array(dtype=wp.vec2d),
    corner: wp.array2d(dtype=int),
    shape: wp.array2d(dtype=wp.vec2d),
    told: wp.array2d(dtype=wp.vec2d),
):
    f = wp.tid()
    a = point[corner[f, 0]]
    b = point[corner[f, 1]]
    c = point[corner[f, 2]]
    middle = (a + b + c) / wp.float64(3.0)
    real = wp.float64(0.0)
    imaginary = wp.float64(0.0)
    for k in range(3):
        p = point[corner[f, k]] - middle
        r = shape[f, k]
        real += p[0] * r[0] + p[1] * r[1]
        imaginary += p[1] * r[0] - p[0] * r[1]
    length = wp.max(wp.sqrt(real * real + imaginary * imaginary), wp.float64(_TINY))
    real /= length
    imaginary /= length
    for k in range(3):
        r = shape[f, k]
        told[f, k] = middle + wp.vec2d(r[0] * real - r[1] * imaginary, r[0] * imaginary + r[1] * real)


@wp.kernel
def _follow(
    told: wp.array(dtype=wp.vec2d),
    weight: wp.array(dtype=wp.float64),
    order: wp.array(dtype=wp.int64),
    start: wp.array(dtype=wp.int64),
    momentum: wp.float64,
    before: wp.array(dtype=wp.vec2d),
    point: wp.array(dtype=wp.vec2d),
):
    w = wp.tid()
    total = wp.vec2d(wp.float64(0.0), wp.float64(0.0))
    whole = wp.float64(0.0)
    at = start[w]
    while at < start[w + 1]:
        k = order[at]
        share = weight[k / wp.int64(3)]
        total += told[k] * share
        whole += share
        at += wp.int64(1)
    mean = total / wp.max(whole, wp.float64(_TINY))
    point[w] = mean + (mean - before[w]) * momentum
    before[w] = mean


def own_shapes(corners: Tensor) -> Tensor:
    """Triangles laid flat, each around its middle; float64 [F, 3, 3] to [F, 3, 2], y down, not mirrored."""
    a, b, c = corners.unbind(1)
    along = torch.nn.functional.normalize(b - a, dim=1, eps=_TINY)
    forward = ((c - a) * along).sum(1)
    aside = (c - a - forward[:, None] * along).norm(dim=1)
    zero = torch.zeros_like(forward)
    base = (b - a).norm(dim=1)
    flat = torch.stack([torch.stack(p, 1) for p in ((zero, zero), (base, zero), (forward, -aside))], 1)
    return flat - flat.mean(1, keepdim=True)


def relax_flat(flat: Tensor, corner: Tensor, shape: Tensor, steps: int) -> Tensor:
    """Flat triangles nearer to their true shapes.

    Args:
        flat: float64 [F, 3, 2], y down; a point begins in the middle of where its corners are.
        corner: int64 [F, 3], the point of every corner, numbered from 0; points that several charts share must be several.
        shape: float64 [F, 3, 2], the true shapes, as of `own_shapes`.
        steps: how often every point moves.

    Returns:
        float64 [F, 3, 2]. May hold flipped or overlapping triangles where `flat` had none.
    """
    if not len(flat) or not steps:
        return flat
    wp.init()
    order, start, point = _gathered(flat, corner)
    before, told = point.clone(), torch.empty_like(flat, dtype=torch.float64)
    weight = _areas(shape)
    v2 = wp.vec2d
    stream = wp.stream_from_torch(flat.device) if flat.is_cuda else None
    with wp.ScopedDevice(wp.device_from_torch(flat.device)), wp.ScopedStream(stream):
        point_wp, before_wp, told_wp = (wp.from_torch(part, dtype=v2) for part in (point, before, told.view(-1, 2)))
        face_told, shape_wp = wp.from_torch(told, dtype=v2), wp.from_torch(shape.contiguous(), dtype=v2)
        corner_wp, weight_wp = wp.from_torch(corner.int().contiguous()), wp.from_torch(weight)
        runs = [wp.from_torch(order), wp.from_torch(start)]
        tell = wp.launch(_tell, len(flat), [point_wp, corner_wp, shape_wp, face_told], record_cmd=True)
        parts = [told_wp, weight_wp, *runs, 0.0, before_wp, point_wp]
        follow = wp.launch(_follow, len(point), parts, record_cmd=True)
        for step in range(steps):
            tell.launch()
            follow.set_param_at_index(_MOMENTUM, _momentum(step, steps))
            follow.launch()
    return point[corner]


def relax_flat_reference(flat: Tensor, corner: Tensor, shape: Tensor, steps: int) -> Tensor:
    """The same in plain tensor operations."""
    order, start, point = _gathered(flat, corner)
    before = point.clone()
    weight = _areas(shape).repeat_interleave(3)[:, None]
    whole = segment_sum(weight[order], start)
    r = torch.view_as_complex(shape.contiguous())
    for step in range(steps):
        at = point[corner]
        middle = at.mean(1, keepdim=True)
        u = (torch.view_as_complex((at - middle).contiguous()) * r.conj()).sum(1, keepdim=True)
        told = middle + torch.view_as_real(r * (u / u.abs().clamp_min(_TINY)))
        mean = segment_sum((told.reshape(-1, 2) * weight)[order], start) / whole.clamp_min(_TINY)
        point, before = mean + (mean - before) * _momentum(step, steps), mean
    return point[corner]


def _gathered(flat: Tensor, corner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Corners [3 F] in the order of their points, where those of each begin [P + 1], and the points: their corners' means."""
    names = corner.reshape(-1)
    order = torch.sort(names, stable=True).indices
    start = run_starts(names, int(names.max()) + 1)
    return order, start, segment_sum(flat.reshape(-1, 2).double()[order], start) / start.diff()[:, None]


def _momentum(step: int, steps: int) -> float:
    return step / (step + 3.0) if step + 1 < steps else 0.0  # the last step settles


def _areas(shape: Tensor) -> Tensor:
    a, b, c = shape.unbind(1)
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs() / 2
