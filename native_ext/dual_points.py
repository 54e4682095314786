# SPDX-License-Identifier: Apache-2.0
"""Dual vertices of a mesh's grid cells: quadratic error functions minimised in their boxes (docs/spec/geometry.md 3.2-3.5).

Formula, with x relative to the cell's centre: minimise `x'Ax - 2b'x + c`, the sum over a cell's crossings and faces of
`(n.x - n.v0)^2`, over its boundary edges of `w |(I - uu')(x - o)|^2`, plus `l m |x - mean(q)|^2` over its m crossings q.
Outside the box the best of the minima on its 6 faces, 12 edges and 8 corners is taken, the first one on ties. Double
precision; each cell sums its records in their order, so the result does not depend on scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

from native_ext.segment_sum import run_starts

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})


@dataclass(frozen=True)
class Records:
    """What each cell has to sum: items grouped by cell, in a fixed order.

    Attributes:
        item: int32 [M], item numbers.
        start: int64 [N + 1], the first record of every cell.
    """

    item: Tensor
    start: Tensor


def group(row: Tensor, item: Tensor, cells: int) -> Records:
    """Records of items int64 [M] by cell rows int64 [M]; items keep their order within a cell."""
    order = torch.sort(row, stable=True).indices
    return Records(item[order].int(), run_starts(row, cells))


def solve_dual_points(
    coords: Tensor,
    cell_size: Tensor,
    corners: Tensor,
    crossings: Records,
    crossing_point: Tensor,
    crossing_triangle: Tensor,
    overlaps: Records,
    segments: Records,
    segment_ends: Tensor,
    boundary_weight: float,
    regularisation: float,
) -> Tensor:
    """Offsets of the dual vertices from the cells' low corners.

    Args:
        coords: int64 [N, 3].
        cell_size: float64 [3].
        corners: float64 [F, 3, 3], triangles relative to the grid's low corner.
        crossings: crossings that touch each cell; crossing_point float64 [M, 3], crossing_triangle int32 [M].
        overlaps: triangles that overlap each cell.
        segments: boundary edges that pass each cell; segment_ends float64 [B, 2, 3].
        boundary_weight, regularisation: weights of the last two terms.

    Returns:
        float64 [N, 3] in units of the grid's space, 0 to cell_size.
    """
    wp.init()
    out = torch.empty((len(coords), 3), dtype=torch.float64, device=coords.device)
    if len(coords) == 0:
        return out
    with wp.ScopedStream(wp.stream_from_torch(coords.device) if coords.is_cuda else None):
        wp.launch(
            _solve,
            dim=len(coords),
            inputs=[
                wp.from_torch(coords.int().contiguous(), dtype=wp.vec3i),
                wp.vec3d(*cell_size.tolist()),
                wp.from_torch(corners.reshape(-1, 3).contiguous(), dtype=wp.vec3d),
                wp.from_torch(crossings.item),
                wp.from_torch(crossings.start),
                wp.from_torch(crossing_point.contiguous(), dtype=wp.vec3d),
                wp.from_torch(crossing_triangle.int().contiguous()),
                wp.from_torch(overlaps.item),
                wp.from_torch(overlaps.start),
                wp.from_torch(segments.item),
                wp.from_torch(segments.start),
                wp.from_torch(segment_ends.reshape(-1, 3).contiguous(), dtype=wp.vec3d),
                wp.float64(boundary_weight),
                wp.float64(regularisation),
                wp.from_torch(out, dtype=wp.vec3d),
            ],
            device=wp.device_from_torch(coords.device),
        )
    return out


def walk_segments(ends: Tensor, cell_size: Tensor, shortest: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Cells that line segments pass (Amanatides & Woo, 1987); on ties z goes first, then y.

    Args:
        ends: float64 [B, 2, 3] relative to the grid's low corner; segments shorter than `shortest` pass nothing.
        cell_size: float64 [3].

    Returns:
        segment int64 [P] and cell int64 [P, 3], possibly outside the grid, in the order of the walk.
    """
    wp.init()
    device, count = ends.device, torch.zeros(len(ends), dtype=torch.int64, device=ends.device)
    if len(ends) == 0:
        return count, torch.zeros(0, 3, dtype=torch.int64, device=device)
    cell = torch.zeros(1, 3, dtype=torch.int32, device=device)
    common = [
        wp.from_torch(ends.reshape(-1, 3).contiguous(), dtype=wp.vec3d),
        wp.vec3d(*cell_size.tolist()),
        wp.float64(shortest),
    ]
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):

        def launch(writing: int, start: Tensor) -> None:
            arrays = [wp.from_torch(start), wp.from_torch(count), wp.from_torch(cell, dtype=wp.vec3i)]
            wp.launch(_walk, dim=len(ends), inputs=[*common, writing, *arrays], device=wp.device_from_torch(device))

        launch(0, torch.zeros_like(count))
        start = torch.cumsum(count, 0) - count
        cell = torch.empty(int(count.sum()), 3, dtype=torch.int32, device=device)
        launch(1, start)
    return torch.repeat_interleave(torch.arange(len(ends), device=device), count), cell.long()


@wp.kernel
def _walk(
    ends: wp.array(dtype=wp.vec3d),
    step: wp.vec3d,
    shortest: wp.float64,
    writing: int,
    start: wp.array(dtype=wp.int64),
    count: wp.array(dtype=wp.int64),
    cells: wp.array(dtype=wp.vec3i),
):
    i = wp.tid()
    o = ends[2 * i]
    along = ends[2 * i + 1] - o
    length = wp.length(along)
    number = wp.int64(0)
    if length >= shortest:
        u = along / length
        far = wp.float64(1.0e300)
        t = wp.vec3d(far, far, far)
        delta = wp.vec3d(far, far, far)
        cell = wp.vec3i(0, 0, 0)
        move = wp.vec3i(0, 0, 0)
        for k in range(3):
            cell[k] = int(wp.floor(o[k] / step[k]))
            if u[k] > wp.float64(0.0):
                move[k] = 1
                t[k] = (wp.float64(cell[k] + 1) * step[k] - o[k]) / u[k]
                delta[k] = step[k] / u[k]
            if u[k] < wp.float64(0.0):
                move[k] = -1
                t[k] = (wp.float64(cell[k]) * step[k] - o[k]) / u[k]
                delta[k] = -step[k] / u[k]
        going = int(1)
        while going == 1:
            if writing == 1:
                cells[start[i] + number] = cell
            number += wp.int64(1)
            k = int(2)
            if t[1] < t[2]:
                k = 1
            if t[0] < t[k]:
                k = 0
            if t[k] > length:
                going = 0
            else:
                cell[k] = cell[k] + move[k]
                t[k] = t[k] + delta[k]
    count[i] = number


@wp.struct
class Quadric:
    a: wp.mat33d
    b: wp.vec3d


@wp.func
def _with_plane(q: Quadric, corners: wp.array(dtype=wp.vec3d), f: int, centre: wp.vec3d) -> Quadric:
    v = corners[3 * f]
    n = wp.cross(corners[3 * f + 1] - v, corners[3 * f + 2] - v)
    length = wp.length(n)
    if length > wp.float64(0.0):
        n = n / length
        q.a = q.a + wp.outer(n, n)
        q.b = q.b + wp.dot(n, v - centre) * n
    return q


@wp.func
def _value(q: Quadric, x: wp.vec3d) -> wp.float64:
    return wp.dot(x, q.a @ x) - wp.float64(2.0) * wp.dot(q.b, x)


@wp.func
def _inside(x: wp.vec3d, half: wp.vec3d) -> bool:
    return wp.abs(x[0]) <= half[0] and wp.abs(x[1]) <= half[1] and wp.abs(x[2]) <= half[2]


@wp.func
def _minimise(q: Quadric, half: wp.vec3d) -> wp.vec3d:
    zero = wp.float64(0.0)
    det = wp.determinant(q.a)
    if det != zero:
        x = wp.inverse(q.a) @ q.b
        if _inside(x, half):
            return x
    best = wp.float64(1.0e300)
    winner = wp.vec3d(zero, zero, zero)
    for face in range(6):
        k = face // 2
        i = (k + 1) % 3
        j = (k + 2) % 3
        x = wp.vec3d(zero, zero, zero)
        x[k] = half[k] * wp.float64(2 * (face % 2) - 1)
        det2 = q.a[i, i] * q.a[j, j] - q.a[i, j] * q.a[i, j]
        if det2 != zero:
            r = q.b[i] - q.a[i, k] * x[k]
            s = q.b[j] - q.a[j, k] * x[k]
            x[i] = (r * q.a[j, j] - s * q.a[i, j]) / det2
            x[j] = (s * q.a[i, i] - r * q.a[i, j]) / det2
            if _inside(x, half):
                value = _value(q, x)
                if value < best:
                    best = value
                    winner = x
    for edge in range(12):
        k = edge // 4
        i = (k + 1) % 3
        j = (k + 2) % 3
        x = wp.vec3d(zero, zero, zero)
        x[i] = half[i] * wp.float64(2 * (edge % 2) - 1)
        x[j] = half[j] * wp.float64(2 * (edge // 2 % 2) - 1)
        if q.a[k, k] != zero:
            x[k] = (q.b[k] - q.a[k, i] * x[i] - q.a[k, j] * x[j]) / q.a[k, k]
            if _inside(x, half):
                value = _value(q, x)
                if value < best:
                    best = value
                    winner = x
    for corner in range(8):
        x = wp.vec3d(
            half[0] * wp.float64(2 * (corner % 2) - 1),
            half[1] * wp.float64(2 * (corner // 2 % 2) - 1),
            half[2] * wp.float64(2 * (corner // 4) - 1),
        )
        value = _value(q, x)
        if value < best:
            best = value
            winner = x
    return winner


@wp.kernel
def _solve(
    coords: wp.array(dtype=wp.vec3i),
    step: wp.vec3d,
    corners: wp.array(dtype=wp.vec3d),
    crossing: wp.array(dtype=int),
    crossing_start: wp.array(dtype=wp.int64),
    point: wp.array(dtype=wp.vec3d),
    triangle: wp.array(dtype=int),
    overlap: wp.array(dtype=int),
    overlap_start: wp.array(dtype=wp.int64),
    segment: wp.array(dtype=int),
    segment_start: wp.array(dtype=wp.int64),
    ends: wp.array(dtype=wp.vec3d),
    boundary_weight: wp.float64,
    regularisation: wp.float64,
    out: wp.array(dtype=wp.vec3d),
):
    i = wp.tid()
    half = step * wp.float64(0.5)
    c = coords[i]
    low = wp.vec3d(wp.float64(c[0]) * step[0], wp.float64(c[1]) * step[1], wp.float64(c[2]) * step[2])
    centre = low + half
    identity = wp.identity(n=3, dtype=wp.float64)
    q = Quadric()
    at = crossing_start[i]
    while at < crossing_start[i + 1]:
        n = crossing[at]
        q = _with_plane(q, corners, triangle[n], centre)
        q.a = q.a + regularisation * identity
        q.b = q.b + regularisation * (point[n] - centre)
        at += wp.int64(1)
    at = overlap_start[i]
    while at < overlap_start[i + 1]:
        q = _with_plane(q, corners, overlap[at], centre)
        at += wp.int64(1)
    at = segment_start[i]
    while at < segment_start[i + 1]:
        n = segment[at]
        o = ends[2 * n]
        u = wp.normalize(ends[2 * n + 1] - o)
        m = boundary_weight * (identity - wp.outer(u, u))
        q.a = q.a + m
        q.b = q.b + m @ (o - centre)
        at += wp.int64(1)
    out[i] = _minimise(q, half) + half
