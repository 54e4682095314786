# SPDX-License-Identifier: Apache-2.0
"""The triangles of a flexible dual grid in two passes over its cells, for millions of them; `dual_grid_mesh` is the reference.

The first pass looks up the three other cells around every flagged edge and counts quads, a prefix sum places them, and the
second writes two triangles each, on the diagonal that the split weights or the flatter pair of normals choose.
"""

from __future__ import annotations

from typing import Literal

import torch
import warp as wp
from torch import Tensor

from native_ext.dual_grid_mesh import TIE
from native_ext.voxel_hash import VoxelHash, find_row

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_RULES = {"ref": 0, "angle": 1, "weight": 2}
_TIE = wp.constant(wp.float64(TIE))


def dual_grid_faces(
    coords: Tensor,
    intersected: Tensor,
    resolution: int,
    vertices: Tensor,
    rule: Literal["ref", "angle", "weight"],
    weight: Tensor | None = None,
) -> Tensor:
    """Two triangles for every flagged edge whose four cells are active, by cell, then axis.

    Args:
        coords: int32 [N, 3], unique cells.
        intersected: bool [N, 3].
        resolution: cells per axis.
        vertices: float32 [N, 3], for the rule "angle".
        rule: diagonal: 0-2 always; the flatter one, 0-2 on ties; by split weights, 1-3 on ties.
        weight: float32 [N], for the rule "weight".

    Returns:
        int32 [2 Q, 3].

    Raises:
        ValueError: a cell outside the grid.
    """
    wp.init()
    device, count = coords.device, len(coords)
    if count == 0:
        return torch.zeros(0, 3, dtype=torch.int32, device=device)
    low, high = int(coords.min()), int(coords.max())
    if low < 0 or high >= resolution:
        raise ValueError(f"cells from {low} to {high} leave the grid of {resolution}")
    wide = coords.long()
    table = VoxelHash((wide[:, 0] * resolution + wide[:, 1]) * resolution + wide[:, 2])
    others = torch.empty(3 * count, 3, dtype=torch.int32, device=device)
    quads = torch.zeros(count, dtype=torch.int32, device=device)
    cells = wp.from_torch(coords.int().contiguous(), dtype=wp.vec3i)
    flags = wp.from_torch(intersected.to(torch.uint8).contiguous())
    ring = wp.from_torch(others, dtype=wp.vec3i)
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        where = wp.device_from_torch(device)
        found = [cells, flags, wp.int64(resolution), *table.arrays(), ring, wp.from_torch(quads)]
        wp.launch(_find_quads, dim=count, inputs=found, device=where)
        end = torch.cumsum(quads, 0)
        faces = torch.empty(2 * int(end[-1]), 3, dtype=torch.int32, device=device)
        points = wp.from_torch(vertices.float().contiguous(), dtype=wp.vec3)
        shares = wp.from_torch((vertices[:, 0] if weight is None else weight).float().contiguous())
        inputs = [ring, wp.from_torch(quads), wp.from_torch(end), points, shares, _RULES[rule]]
        wp.launch(_write_faces, dim=count, inputs=[*inputs, wp.from_torch(faces, dtype=wp.vec3i)], device=where)
    return faces


@wp.func
def _at(c: wp.vec3i, x: int, y: int, z: int, side: wp.int64, slots: wp.array(dtype=wp.int64), rows: wp.array(dtype=int)) -> int:
    i = wp.int64(c[0] + x)
    j = wp.int64(c[1] + y)
    k = wp.int64(c[2] + z)
    if i >= side or j >= side or k >= side:
        return -1
    return find_row((i * side + j) * side + k, slots, rows)


@wp.kernel
def _find_quads(
    cells: wp.array(dtype=wp.vec3i),
    flags: wp.array2d(dtype=wp.uint8),
    side: wp.int64,
    slots: wp.array(dtype=wp.int64),
    rows: wp.array(dtype=int),
    ring: wp.array(dtype=wp.vec3i),
    quads: wp.array(dtype=int),
):
    i = wp.tid()
    c = cells[i]
    nowhere = wp.vec3i(-1, -1, -1)
    count = int(0)
    for axis in range(3):
        others = nowhere
        if flags[i, axis] != wp.uint8(0):
            if axis == 0:
                others = wp.vec3i(
                    _at(c, 0, 0, 1, side, slots, rows),
                    _at(c, 0, 1, 1, side, slots, rows),
                    _at(c, 0, 1, 0, side, slots, rows),
                )
            elif axis == 1:
                others = wp.vec3i(
                    _at(c, 1, 0, 0, side, slots, rows),
                    _at(c, 1, 0, 1, side, slots, rows),
                    _at(c, 0, 0, 1, side, slots, rows),
                )
            else:
                others = wp.vec3i(
                    _at(c, 0, 1, 0, side, slots, rows),
                    _at(c, 1, 1, 0, side, slots, rows),
                    _at(c, 1, 0, 0, side, slots, rows),
                )
            if others[0] >= 0 and others[1] >= 0 and others[2] >= 0:
                count += 1
            else:
                others = nowhere
        ring[3 * i + axis] = others
    quads[i] = count


@wp.func
def _alignment(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, d: wp.vec3d, e: wp.vec3d, f: wp.vec3d) -> wp.float64:
    """Cosine between the normals of two triangles; 0 where one has none."""
    return wp.dot(wp.normalize(wp.cross(b - a, c - a)), wp.normalize(wp.cross(e - d, f - d)))


@wp.kernel
def _write_faces(
    ring: wp.array(dtype=wp.vec3i),
    quads: wp.array(dtype=int),
    end: wp.array(dtype=wp.int64),
    points: wp.array(dtype=wp.vec3),
    weight: wp.array(dtype=float),
    rule: int,
    faces: wp.array(dtype=wp.vec3i),
):
    i = wp.tid()
    at = wp.int64(2) * (end[i] - wp.int64(quads[i]))
    for axis in range(3):
        o = ring[3 * i + axis]
        if o[0] >= 0:
            first = bool(True)
            if rule == 1:
                p = wp.vec3d(points[i])
                q = wp.vec3d(points[o[0]])
                r = wp.vec3d(points[o[1]])
                s = wp.vec3d(points[o[2]])
                first = _alignment(p, q, r, p, r, s) >= _alignment(p, q, s, s, q, r) - _TIE
            if rule == 2:
                first = weight[i] * weight[o[1]] > weight[o[0]] * weight[o[2]]
            if first:
                faces[at] = wp.vec3i(i, o[0], o[1])
                faces[at + wp.int64(1)] = wp.vec3i(i, o[1], o[2])
            else:
                faces[at] = wp.vec3i(i, o[0], o[2])
                faces[at + wp.int64(1)] = wp.vec3i(o[2], o[0], o[1])
            at += wp.int64(2)
