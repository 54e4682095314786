# SPDX-License-Identifier: Apache-2.0
"""Triangles in a texture: which face each texel belongs to, and where in that face it lies (docs/spec/geometry.md 17.4, 19.1).

Edge function of a triangle (a, b, c) at a texel centre p: `e_a = cross(b - p, c - p)` and cyclic; p is inside when all three
share the sign of their sum, and `e / sum(e)` are the barycentric weights. Differences are taken before products, so the
values stay exact to a few ulp of the triangle's size, wherever it lies in the texture. Of several faces at one texel the
smallest number wins, whatever the order of threads.

With `reach > 0` texels whose centre is in no triangle, but within that distance of one, belong to the nearest triangle, at the
point of it nearest to the centre; then bilinear taps next to a chart's border meet true surface values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_NO_FACE = 2**31 - 1
_NO_KEY = 2**63 - 1
_DISTANCE_STEPS = 1 << 20  # distances are compared as integers of this many steps per texel: exact atomics, no ties by float
_STRICT = 1e-3  # in overdraw counts, this far inside (texels): faces that share an edge do not overlap there


@dataclass(frozen=True)
class Raster:
    """Per texel (row r, column c; its centre is at `(c + 0.5, r + 0.5)`).

    Attributes:
        face: int32 [H, W], face number, -1 where there is none.
        barycentric: float32 [H, W, 3], weights of the face's corners, >= 0 and summing to 1; zeros where there is no face.
    """

    face: Tensor
    barycentric: Tensor


@wp.func
def _edges(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2) -> wp.vec3:
    pa = a - p
    pb = b - p
    pc = c - p
    return wp.vec3(pb[0] * pc[1] - pb[1] * pc[0], pc[0] * pa[1] - pc[1] * pa[0], pa[0] * pb[1] - pa[1] * pb[0])


@wp.func
def _inside(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2, margin: float) -> bool:
    e = _edges(a, b, c, p)
    sign = wp.sign(e[0] + e[1] + e[2])
    if e[0] + e[1] + e[2] == 0.0:
        return False
    return (
        sign * e[0] >= margin * wp.length(c - b)
        and sign * e[1] >= margin * wp.length(a - c)
        and sign * e[2] >= margin * wp.length(b - a)
    )


@wp.func
def _on_segment(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> float:
    ab = b - a
    length2 = wp.dot(ab, ab)
    if length2 == 0.0:
        return 0.0
    return wp.clamp(wp.dot(p - a, ab) / length2, 0.0, 1.0)


@wp.func
def _nearest_weights(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2) -> wp.vec3:
    """Weights of the triangle's point nearest to p; never NaN, also for a triangle without area."""
    if _inside(a, b, c, p, 0.0):
        e = _edges(a, b, c, p)
        return e / (e[0] + e[1] + e[2])
    t = _on_segment(a, b, p)
    best = wp.vec3(1.0 - t, t, 0.0)
    near = wp.length_sq(a + t * (b - a) - p)
    t = _on_segment(b, c, p)
    d = wp.length_sq(b + t * (c - b) - p)
    if d < near:
        near = d
        best = wp.vec3(0.0, 1.0 - t, t)
    t = _on_segment(c, a, p)
    d = wp.length_sq(c + t * (a - c) - p)
    if d < near:
        best = wp.vec3(t, 0.0, 1.0 - t)
    return best


@wp.func
def _first(low: float, size: int) -> int:
    return wp.clamp(int(wp.ceil(low - 0.5)), 0, size)


@wp.func
def _last(high: float, size: int) -> int:
    return wp.clamp(int(wp.floor(high - 0.5)) + 1, 0, size)


@wp.kernel
def _claim_centres(corners: wp.array2d(dtype=wp.vec2), owner: wp.array2d(dtype=int)):
    f = wp.tid()
    a = corners[f, 0]
    b = corners[f, 1]
    c = corners[f, 2]
    low = wp.min(wp.min(a, b), c)
    high = wp.max(wp.max(a, b), c)
    for row in range(_first(low[1], owner.shape[0]), _last(high[1], owner.shape[0])):
        for col in range(_first(low[0], owner.shape[1]), _last(high[0], owner.shape[1])):
            if _inside(a, b, c, wp.vec2(float(col) + 0.5, float(row) + 0.5), 0.0):
                wp.atomic_min(owner, row, col, f)


@wp.kernel
def _claim_near(
    corners: wp.array2d(dtype=wp.vec2), owner: wp.array2d(dtype=int), reach: float, key: wp.array2d(dtype=wp.int64)
):
    f = wp.tid()
    a = corners[f, 0]
    b = corners[f, 1]
    c = corners[f, 2]
    low = wp.min(wp.min(a, b), c) - wp.vec2(reach, reach)
    high = wp.max(wp.max(a, b), c) + wp.vec2(reach, reach)
    for row in range(_first(low[1], owner.shape[0]), _last(high[1], owner.shape[0])):
        for col in range(_first(low[0], owner.shape[1]), _last(high[0], owner.shape[1])):
            if owner[row, col] == _NO_FACE:
                p = wp.vec2(float(col) + 0.5, float(row) + 0.5)
                w = _nearest_weights(a, b, c, p)
                distance = wp.length(w[0] * a + w[1] * b + w[2] * c - p)
                if distance <= reach:
                    steps = wp.int64(distance * float(_DISTANCE_STEPS))
                    wp.atomic_min(key, row, col, (steps << wp.int64(32)) + wp.int64(f))


@wp.kernel
def _resolve(
    corners: wp.array2d(dtype=wp.vec2),
    key: wp.array2d(dtype=wp.int64),
    near: int,
    owner: wp.array2d(dtype=int),
    barycentric: wp.array2d(dtype=wp.vec3),
):
    row, col = wp.tid()
    f = owner[row, col]
    if f == _NO_FACE:
        f = -1
        if near == 1 and key[row, col] != wp.int64(_NO_KEY):
            f = int(key[row, col] & wp.int64(0x7FFFFFFF))
        owner[row, col] = f
    if f >= 0:
        barycentric[row, col] = _nearest_weights(
            corners[f, 0], corners[f, 1], corners[f, 2], wp.vec2(float(col) + 0.5, float(row) + 0.5)
        )


@wp.kernel
def _cover_near(corners: wp.array2d(dtype=wp.vec2), reach: float, canvas: wp.array2d(dtype=wp.uint8)):
    f = wp.tid()
    a = corners[f, 0]
    b = corners[f, 1]
    c = corners[f, 2]
    low = wp.min(wp.min(a, b), c) - wp.vec2(reach, reach)
    high = wp.max(wp.max(a, b), c) + wp.vec2(reach, reach)
    for row in range(_first(low[1], canvas.shape[0]), _last(high[1], canvas.shape[0])):
        for col in range(_first(low[0], canvas.shape[1]), _last(high[0], canvas.shape[1])):
            if canvas[row, col] == wp.uint8(0):
                p = wp.vec2(float(col) + 0.5, float(row) + 0.5)
                w = _nearest_weights(a, b, c, p)
                if wp.length(w[0] * a + w[1] * b + w[2] * c - p) <= reach:
                    canvas[row, col] = wp.uint8(1)


@wp.kernel
def _count_cover(corners: wp.array2d(dtype=wp.vec2), count: wp.array2d(dtype=int)):
    f = wp.tid()
    a = corners[f, 0]
    b = corners[f, 1]
    c = corners[f, 2]
    low = wp.min(wp.min(a, b), c)
    high = wp.max(wp.max(a, b), c)
    for row in range(_first(low[1], count.shape[0]), _last(high[1], count.shape[0])):
        for col in range(_first(low[0], count.shape[1]), _last(high[0], count.shape[1])):
            if _inside(a, b, c, wp.vec2(float(col) + 0.5, float(row) + 0.5), _STRICT):
                wp.atomic_add(count, row, col, 1)


@wp.func
def _downward(a: wp.vec2, b: wp.vec2, c: wp.vec2):
    """The corners of a triangle, uppermost first."""
    upper = a
    middle = b
    lower = c
    if middle[1] < upper[1]:
        upper = b
        middle = a
    if lower[1] < middle[1]:
        lower = middle
        middle = c
        if middle[1] < upper[1]:
            middle = upper
            upper = c
    return upper, middle, lower


@wp.func
def _crossing(upper: wp.vec2, lower: wp.vec2, y: float) -> float:
    """Where an edge is at height y: the same for both of its faces."""
    return upper[0] + (y - upper[1]) * (lower[0] - upper[0]) / (lower[1] - upper[1])


@wp.func
def _columns(upper: wp.vec2, middle: wp.vec2, lower: wp.vec2, row: int, width: int, margin: float) -> wp.vec2i:
    """First column and the one after the last whose centres in a row lie in a triangle, and so far from its sides along the
    row; only for rows whose centres it has: those from its uppermost corner up to, but without, its lowest one."""
    y = float(row) + 0.5
    one = _crossing(upper, lower, y)
    two = _crossing(middle, lower, y)
    if y < middle[1]:
        two = _crossing(upper, middle, y)
    return wp.vec2i(
        _first(wp.min(one, two) + margin, width),
        _first(wp.max(one, two) - margin, width),
    )


@wp.kernel
def _add_spans(corners: wp.array2d(dtype=wp.vec2), margin: float, steps: wp.array2d(dtype=int)):
    f = wp.tid()
    upper, middle, lower = _downward(corners[f, 0], corners[f, 1], corners[f, 2])
    for row in range(_first(upper[1], steps.shape[0]), _first(lower[1], steps.shape[0])):
        span = _columns(upper, middle, lower, row, steps.shape[1] - 1, margin)
        if span[0] < span[1]:
            wp.atomic_add(steps, row, span[0], 1)
            wp.atomic_add(steps, row, span[1], -1)


@wp.kernel
def _mark_covered(
    corners: wp.array2d(dtype=wp.vec2),
    count: wp.array2d(dtype=int),
    crowded: wp.array(dtype=wp.bool),
    owner: wp.array2d(dtype=int),
    covered: wp.array(dtype=wp.bool),
):
    f = wp.tid()
    upper, middle, lower = _downward(corners[f, 0], corners[f, 1], corners[f, 2])
    for row in range(_first(upper[1], count.shape[0]), _first(lower[1], count.shape[0])):
        if crowded[row]:
            span = _columns(upper, middle, lower, row, count.shape[1] - 1, _STRICT)
            for col in range(span[0], span[1]):
                if count[row, col] > 1:
                    covered[f] = True
                    if owner.shape[0] > 0:
                        wp.atomic_min(owner, row, col, f)


@wp.kernel
def _mark_first(
    corners: wp.array2d(dtype=wp.vec2),
    faces: wp.array(dtype=wp.int64),
    owner: wp.array2d(dtype=int),
    first: wp.array(dtype=wp.bool),
):
    f = int(faces[wp.tid()])
    upper, middle, lower = _downward(corners[f, 0], corners[f, 1], corners[f, 2])
    for row in range(_first(upper[1], owner.shape[0]), _first(lower[1], owner.shape[0])):
        span = _columns(upper, middle, lower, row, owner.shape[1] - 1, _STRICT)
        for col in range(span[0], span[1]):
            if owner[row, col] == f:
                first[f] = True


def rasterize(corners: Tensor, height: int, width: int, reach: float = 0.0) -> Raster:
    """Face and barycentric weights of every texel.

    Args:
        corners: float32 [F, 3, 2], x (column) and y (row) of the face's corners in texels, either winding.
        height, width: size of the texture.
        reach: texels this far (in texels) outside all faces still belong to the nearest one.

    Returns:
        The raster, on the device of `corners`.
    """
    wp.init()
    device = corners.device
    points = wp.from_torch(corners.contiguous().float(), dtype=wp.vec2)
    owner = torch.full((height, width), _NO_FACE, dtype=torch.int32, device=device)
    barycentric = torch.zeros((height, width, 3), dtype=torch.float32, device=device)
    key = torch.full((height, width) if reach > 0 else (0, 0), _NO_KEY, dtype=torch.int64, device=device)
    on = wp.device_from_torch(device)
    owner_wp, key_wp = wp.from_torch(owner), wp.from_torch(key)
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        wp.launch(_claim_centres, dim=corners.shape[0], inputs=[points, owner_wp], device=on)
        if reach > 0:
            wp.launch(_claim_near, dim=corners.shape[0], inputs=[points, owner_wp, float(reach), key_wp], device=on)
        wp.launch(
            _resolve,
            dim=(height, width),
            inputs=[points, key_wp, int(reach > 0), owner_wp, wp.from_torch(barycentric, dtype=wp.vec3)],
            device=on,
        )
    return Raster(owner, barycentric)


def cover(corners: Tensor, height: int, width: int, reach: float, rim: Tensor) -> Tensor:
    """uint8 [H, W], 1 where a texel's centre is no further from a face than `reach`; arguments as for `rasterize`.

    `rim`: int64 [n], faces that do not have others at all of their sides; only these reach where there is none.
    """
    wp.init()
    steps = torch.zeros((height, width + 1), dtype=torch.int32, device=corners.device)
    corners = corners.contiguous().float()
    device = wp.device_from_torch(corners.device)
    with wp.ScopedStream(wp.stream_from_torch(corners.device) if corners.is_cuda else None):
        inputs = [wp.from_torch(corners, dtype=wp.vec2), -_STRICT, wp.from_torch(steps)]
        wp.launch(_add_spans, dim=len(corners), inputs=inputs, device=device)
        canvas = (torch.cumsum(steps, 1, dtype=torch.int32, out=steps)[:, :-1] > 0).to(torch.uint8)
        if len(rim):
            border = wp.from_torch(corners[rim], dtype=wp.vec2)
            wp.launch(_cover_near, dim=len(rim), inputs=[border, float(reach), wp.from_torch(canvas)], device=device)
    return canvas


def overdraw(corners: Tensor, height: int, width: int) -> Tensor:
    """How many faces strictly contain each texel centre; more than one means that faces overlap.

    Args:
        corners: float32 [F, 3, 2] as for `rasterize`.
        height, width: size of the texture.

    Returns:
        int32 [H, W]. Centres within a thousandth of a texel of an edge do not count.
    """
    wp.init()
    device = corners.device
    count = torch.zeros((height, width), dtype=torch.int32, device=device)
    points = wp.from_torch(corners.contiguous().float(), dtype=wp.vec2)
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        wp.launch(
            _count_cover, dim=corners.shape[0], inputs=[points, wp.from_torch(count)], device=wp.device_from_torch(device)
        )
    return count


def covered_faces(corners: Tensor, height: int, width: int) -> Tensor:
    """Which faces lie over others, seen at the texel centres.

    Faces are counted by where each of their rows begins and ends, several times faster than texel by texel.

    Args:
        corners, height, width: as for `overdraw`; faces that share an edge have its ends bit for bit.

    Returns:
        bool [F], faces that share a centre with another.
    """
    return _layers(corners, height, width, False)[0]


def upper_faces(corners: Tensor, height: int, width: int) -> Tensor:
    """bool [F], of the faces that lie over each other at a texel centre the one with the smallest number; see above."""
    return _layers(corners, height, width, True)[1]


def _layers(corners: Tensor, height: int, width: int, order: bool) -> tuple[Tensor, Tensor]:
    wp.init()
    covered, first = torch.zeros(2, len(corners), dtype=torch.bool, device=corners.device)
    steps = torch.zeros((height, width + 1), dtype=torch.int32, device=corners.device)
    points, steps_wp = wp.from_torch(corners.contiguous().float(), dtype=wp.vec2), wp.from_torch(steps)
    device = wp.device_from_torch(corners.device)
    with wp.ScopedStream(wp.stream_from_torch(corners.device) if corners.is_cuda else None):
        wp.launch(_add_spans, dim=len(corners), inputs=[points, _STRICT, steps_wp], device=device)
        count = torch.cumsum(steps, 1, dtype=torch.int32, out=steps)
        crowded = count.amax(1) > 1
        if not bool(crowded.any()):
            return covered, first
        owner = torch.full(count.shape if order else (0, 0), _NO_FACE, dtype=torch.int32, device=corners.device)
        owner_wp = wp.from_torch(owner)
        inputs = [points, steps_wp, wp.from_torch(crowded), owner_wp, wp.from_torch(covered)]
        wp.launch(_mark_covered, dim=len(corners), inputs=inputs, device=device)
        if order:
            faces = covered.nonzero()[:, 0]
            inputs = [points, wp.from_torch(faces), owner_wp, wp.from_torch(first)]
            wp.launch(_mark_first, dim=len(faces), inputs=inputs, device=device)
    return covered, first
