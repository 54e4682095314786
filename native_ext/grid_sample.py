# SPDX-License-Identifier: Apache-2.0
"""Values of a sparse voxel set at arbitrary points (docs/spec/geometry.md 10 and 18.8).

Trilinear: with `g = floor(q - 1/2)` and the eight cells `c = g + {0,1}^3`, `w_c = prod(1 - |q - c - 1/2|)` for active cells,
0 for the others; the value is `sum(w f) / max(sum(w), 1e-12)`. Points are in voxel units: cell c covers [c, c+1).
The sum of weights comes back too, so that "no data" can be told from black; `sample_grid_or_nearest` fills that gap.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from native_ext.voxel_lookup import VoxelLookup

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

NO_DATA_WEIGHT = 1e-3  # below this sum of weights a value is unknown (docs/spec/geometry.md 18.8)
_RING_LIMIT = 8  # cells searched around a point, one by one; farther away ...
_BLOCK = 8  # ... cubes of this many cells per axis are
_Eight_rows = wp.types.vector(length=8, dtype=wp.int32)
_Eight_weights = wp.types.vector(length=8, dtype=wp.float32)
_POINTS_AT_ONCE = 1 << 20  # bounds the temporaries of the differentiable sum


def sample_grid(
    feats: Tensor,
    coords: Tensor,
    resolution: int | tuple[int, int, int],
    points: Tensor,
    find: VoxelLookup | None = None,
) -> tuple[Tensor, Tensor]:
    """Trilinear samples with weights renormalised over the active cells.

    Args:
        feats: float [N, C]; gradients flow to it, where it wants them.
        coords: integer [N, 3] active cells.
        resolution: cells per axis, one number or three.
        points: float [P, 3] in voxel units.
        find: the lookup of `coords` where the caller has it already.

    Returns:
        Values float32 [P, C] (0 where no cell is active) and the sum of weights float32 [P], 0..1.
    """
    find = find or VoxelLookup(coords, resolution)
    if not feats.requires_grad:
        return _trilinear_kernel(feats.float(), find, points.float())
    parts = [_trilinear(feats.float(), find, part) for part in points.float().split(_POINTS_AT_ONCE)]
    values, weights = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(weights)


def sample_grid_or_nearest(
    feats: Tensor, coords: Tensor, resolution: int, points: Tensor, find: VoxelLookup | None = None
) -> tuple[Tensor, Tensor]:
    """As `sample_grid`, but points without data take the value of the nearest active voxel, however far.

    Returns:
        Values float32 [P, C] and bool [P], true where the trilinear sample had data. N = 0 gives zeros.
    """
    find = find or VoxelLookup(coords, resolution)
    values, weight = sample_grid(feats, coords, resolution, points, find)
    known = weight >= NO_DATA_WEIGHT
    missing = torch.nonzero(~known)[:, 0]
    if len(missing) and len(coords):
        rows = nearest_voxel(coords, resolution, points[missing], find)
        values = values.index_copy(0, missing, feats.float()[rows])
    return values, known


def nearest_voxel(
    coords: Tensor, resolution: int | tuple[int, int, int], points: Tensor, find: VoxelLookup | None = None
) -> Tensor:
    """Row of the active voxel whose centre is nearest to each point; the smallest row on ties.

    Args:
        coords: integer [N, 3], N >= 1.
        resolution: cells per axis.
        points: float [P, 3] in voxel units.

    Returns:
        int64 [P].
    """
    wp.init()
    find = find or VoxelLookup(coords, resolution)
    points = points.float().contiguous()
    row = torch.empty(len(points), dtype=torch.int32, device=points.device)
    with wp.ScopedStream(wp.stream_from_torch(points.device) if points.is_cuda else None):
        wp.launch(
            _search_rings,
            dim=len(points),
            inputs=[
                wp.from_torch(points, dtype=wp.vec3),
                wp.from_torch(find.keys),
                wp.from_torch(find.rows.int()),
                wp.from_torch(_table(find)),
                wp.vec3i(*find.sides.tolist()),
                wp.from_torch(row),
            ],
            device=wp.device_from_torch(points.device),
        )
    row = row.long()
    far = torch.nonzero(row < 0)[:, 0]
    if len(far):
        row[far] = _nearest_far(coords, find, points[far])
    return row


def _nearest_far(coords: Tensor, find: VoxelLookup, points: Tensor) -> Tensor:
    """The same for points that may be anywhere, by blocks of voxels."""
    blocks, sides = coords.long() // _BLOCK, tuple((side + _BLOCK - 1) // _BLOCK for side in find.sides.tolist())
    key = (blocks[:, 0] * sides[1] + blocks[:, 1]) * sides[2] + blocks[:, 2]
    key, order = torch.sort(key, stable=True)
    key, uses = torch.unique_consecutive(key, return_counts=True)
    start = torch.cat([uses.new_zeros(1), torch.cumsum(uses, 0)]).int()
    row = torch.empty(len(points), dtype=torch.int32, device=points.device)
    with wp.ScopedStream(wp.stream_from_torch(points.device) if points.is_cuda else None):
        wp.launch(
            _search_blocks,
            dim=len(points),
            inputs=[
                wp.from_torch(points.contiguous(), dtype=wp.vec3),
                wp.from_torch((coords[order].float() + 0.5).contiguous(), dtype=wp.vec3),
                wp.from_torch(order.int()),
                wp.from_torch(key),
                wp.from_torch(start),
                wp.vec3i(*sides),
                wp.from_torch(row),
            ],
            device=wp.device_from_torch(points.device),
        )
    return row.long()


def _trilinear_kernel(feats: Tensor, find: VoxelLookup, points: Tensor) -> tuple[Tensor, Tensor]:
    """The sum below in one pass over the points, without temporaries."""
    wp.init()
    device = points.device
    values = torch.zeros(len(points), feats.shape[1], dtype=torch.float32, device=device)
    weight_sum = torch.zeros(len(points), dtype=torch.float32, device=device)
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        wp.launch(
            _sum_corners,
            dim=len(points),
            inputs=[
                wp.from_torch(points.contiguous(), dtype=wp.vec3),
                wp.from_torch(feats.contiguous()),
                wp.from_torch(find.keys),
                wp.from_torch(find.rows.int()),
                wp.from_torch(_table(find)),
                wp.vec3i(*find.sides.tolist()),
                wp.from_torch(values),
                wp.from_torch(weight_sum),
            ],
            device=wp.device_from_torch(device),
        )
    return values, weight_sum


def _table(find: VoxelLookup) -> Tensor:
    return find.table if find.table is not None else find.rows.new_zeros(0, dtype=torch.int32)


def _trilinear(feats: Tensor, find: VoxelLookup, points: Tensor) -> tuple[Tensor, Tensor]:
    base = torch.floor(points - 0.5)
    fraction = points - 0.5 - base
    base = base.long()
    total = torch.zeros(len(points), feats.shape[1], dtype=torch.float32, device=points.device)
    weight_sum = torch.zeros(len(points), dtype=torch.float32, device=points.device)
    for corner in range(8):
        step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=points.device)
        row = find(base + step)
        weight = torch.where(step.bool(), fraction, 1 - fraction).prod(1)
        hit = torch.nonzero(row >= 0)[:, 0]  # rows of missing cells are never read: NaN there must not leak
        weight = weight[hit]
        total = total.index_add(0, hit, feats[row[hit]] * weight[:, None])
        weight_sum.index_add_(0, hit, weight)
    return total / weight_sum.clamp(min=1e-12)[:, None], weight_sum


@wp.func
def _row(keys: wp.array(dtype=wp.int64), rows: wp.array(dtype=int), table: wp.array(dtype=int), key: wp.int64) -> int:
    if table.shape[0] > 0:
        return table[int(key)]
    place = wp.lower_bound(keys, key)
    if place < keys.shape[0]:
        if keys[place] == key:
            return rows[place]
    return -1


@wp.kernel
def _sum_corners(
    points: wp.array(dtype=wp.vec3),
    feats: wp.array2d(dtype=float),
    keys: wp.array(dtype=wp.int64),
    rows: wp.array(dtype=int),
    table: wp.array(dtype=int),
    sides: wp.vec3i,
    values: wp.array2d(dtype=float),
    weight_sum: wp.array(dtype=float),
):
    i = wp.tid()
    q = points[i] - wp.vec3(0.5, 0.5, 0.5)
    g = wp.vec3(wp.floor(q[0]), wp.floor(q[1]), wp.floor(q[2]))
    t = q - g
    found = _Eight_rows()
    weight = _Eight_weights()
    total = float(0.0)
    for corner in range(8):
        cx = corner & 1
        cy = (corner >> 1) & 1
        cz = (corner >> 2) & 1
        x = int(g[0]) + cx
        y = int(g[1]) + cy
        z = int(g[2]) + cz
        row = int(-1)
        if x >= 0 and y >= 0 and z >= 0 and x < sides[0] and y < sides[1] and z < sides[2]:
            key = (wp.int64(x) * wp.int64(sides[1]) + wp.int64(y)) * wp.int64(sides[2]) + wp.int64(z)
            row = _row(keys, rows, table, key)
        found[corner] = row
        if row >= 0:
            w = wp.where(cx == 1, t[0], 1.0 - t[0]) * wp.where(cy == 1, t[1], 1.0 - t[1])
            weight[corner] = w * wp.where(cz == 1, t[2], 1.0 - t[2])
            total += weight[corner]
    for c in range(feats.shape[1]):
        value = float(0.0)
        for corner in range(8):
            if found[corner] >= 0:  # rows of missing cells are never read: NaN there must not leak
                value += weight[corner] * feats[found[corner], c]
        values[i, c] = value / wp.max(total, 1.0e-12)
    weight_sum[i] = total


@wp.kernel
def _search_rings(
    points: wp.array(dtype=wp.vec3),
    keys: wp.array(dtype=wp.int64),
    rows: wp.array(dtype=wp.int32),
    table: wp.array(dtype=int),
    sides: wp.vec3i,
    nearest: wp.array(dtype=wp.int32),
):
    """Rings of growing Chebyshev radius around the point's cell; a ring r cannot hold a centre nearer than r - 1/2."""
    i = wp.tid()
    p = points[i]
    cx = int(wp.floor(p[0]))
    cy = int(wp.floor(p[1]))
    cz = int(wp.floor(p[2]))
    best = float(1.0e30)
    found = int(-1)
    for r in range(_RING_LIMIT + 1):
        if found >= 0 and float(r) - 0.5 > best:
            break
        for x in range(wp.max(cx - r, 0), wp.min(cx + r + 1, sides[0])):
            for y in range(wp.max(cy - r, 0), wp.min(cy + r + 1, sides[1])):
                step = int(1)
                if wp.abs(x - cx) < r and wp.abs(y - cy) < r:
                    step = wp.max(2 * r, 1)  # inside the ring's walls only its two caps are new
                z = int(cz - r)
                while z <= cz + r:
                    if z >= 0 and z < sides[2]:
                        key = (wp.int64(x) * wp.int64(sides[1]) + wp.int64(y)) * wp.int64(sides[2]) + wp.int64(z)
                        row = _row(keys, rows, table, key)
                        if row >= 0:
                            d = wp.length(p - wp.vec3(float(x) + 0.5, float(y) + 0.5, float(z) + 0.5))
                            if d < best or (d == best and row < found):
                                best = d
                                found = row
                    z += step
    if found >= 0 and best > float(_RING_LIMIT) + 0.5:
        found = int(-1)
    nearest[i] = found


@wp.kernel
def _search_blocks(
    points: wp.array(dtype=wp.vec3),
    centres: wp.array(dtype=wp.vec3),
    rows: wp.array(dtype=int),
    keys: wp.array(dtype=wp.int64),
    start: wp.array(dtype=int),
    sides: wp.vec3i,
    nearest: wp.array(dtype=int),
):
    """Rings of growing Chebyshev radius around the point's block; ring r holds no centre nearer than `(r - 1) _BLOCK`."""
    i = wp.tid()
    p = points[i]
    cx = wp.clamp(int(wp.floor(p[0] / float(_BLOCK))), 0, sides[0] - 1)
    cy = wp.clamp(int(wp.floor(p[1] / float(_BLOCK))), 0, sides[1] - 1)
    cz = wp.clamp(int(wp.floor(p[2] / float(_BLOCK))), 0, sides[2] - 1)
    best = float(1.0e30)
    found = int(-1)
    r = int(0)
    last = wp.max(sides[0], wp.max(sides[1], sides[2]))
    while r < last and float((r - 1) * _BLOCK) <= best:
        for x in range(wp.max(cx - r, 0), wp.min(cx + r + 1, sides[0])):
            for y in range(wp.max(cy - r, 0), wp.min(cy + r + 1, sides[1])):
                step = int(1)
                if wp.abs(x - cx) < r and wp.abs(y - cy) < r:
                    step = wp.max(2 * r, 1)  # inside the ring's walls only its two caps are new
                z = int(cz - r)
                while z <= cz + r:
                    if z >= 0 and z < sides[2]:
                        key = (wp.int64(x) * wp.int64(sides[1]) + wp.int64(y)) * wp.int64(sides[2]) + wp.int64(z)
                        place = wp.lower_bound(keys, key)
                        if place < keys.shape[0]:
                            if keys[place] == key:
                                for k in range(start[place], start[place + 1]):
                                    d = wp.length(p - centres[k])
                                    if d < best or (d == best and rows[k] < found):
                                        best = d
                                        found = rows[k]
                    z += step
        r += 1
    nearest[i] = found
