# SPDX-License-Identifier: Apache-2.0
"""The surface between inside and outside corners of a grid, by manifold dual contouring (docs/spec/geometry.md 15).

Every cell gets one vertex per patch of surface in it (Nielson, "Dual marching cubes", 2004; Schaefer, Ju & Warren, "Manifold
dual contouring", 2007), every grid edge whose ends differ one quad between the vertices of its four cells. On a face whose
corners alternate the two inside corners are kept apart, whichever cell looks at it, so that the patches of neighbours fit.

Corners of a cell are numbered 4 x + 2 y + z; its edges, four along each axis, by the low corner of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from native_ext.segment_sum import run_starts, segment_sum
from native_ext.voxel_lookup import VoxelLookup

CORNERS = tuple((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1))
# (axis, low corner) of the twelve edges
EDGES = tuple((axis, corner) for axis in range(3) for corner in CORNERS if corner[axis] == 0)
_ROUNDS_MAX = 4096  # of growth; a grid has no more cells per axis


@dataclass(frozen=True)
class Contour:
    """Where inside meets outside.

    Attributes:
        cells: int64 [N, 3] with corners on both sides, ascending.
        crossed: int64 [E, 4], edges with different ends: axis, then the low corner x y z; ascending by corner, then axis.
        rising: bool [E], true where the low end is inside.
        patch_cell: int64 [P], cell row of every vertex.
        incident_patch, incident_edge: int64 [4 E], each edge beside the four vertices around it, in the order of `quads`.
        quads: int64 [E, 4] patches, wound so that normals point outside.
    """

    cells: Tensor
    crossed: Tensor
    rising: Tensor
    patch_cell: Tensor
    incident_patch: Tensor
    incident_edge: Tensor
    quads: Tensor


def grow_cells(cells: Tensor, sides: int, inside: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """All cells of the surfaces that pass the given ones: a face with different corners leads on to its other cell.

    Args:
        cells: int64 [n, 3], where to begin.
        sides: cells per axis; the surface must not reach the outermost ones.
        inside: bool [m] for int64 corners [m, 3]; asked once for each corner.

    Returns:
        Cells with corners on both sides, int64 [N, 3], and inside bool [N, 8] of their corners; ascending.
    """
    steps = torch.tensor(CORNERS, device=cells.device)
    keys = torch.unique(_key(cells, sides))
    corner_keys = torch.zeros(0, dtype=torch.int64, device=cells.device)
    corner_inside = torch.zeros(0, dtype=torch.bool, device=cells.device)
    all_keys, all_corners, fresh = keys, None, keys
    for _ in range(_ROUNDS_MAX):
        wanted = _key(_cell(fresh, sides)[:, None] + steps, sides + 1)
        unknown = torch.unique(wanted)
        unknown = unknown[~_contains(corner_keys, unknown)]
        answer = inside(_cell(unknown, sides + 1))
        corner_keys, order = torch.sort(torch.cat([corner_keys, unknown]))
        corner_inside = torch.cat([corner_inside, answer])[order]
        corners = corner_inside[torch.searchsorted(corner_keys, wanted)]
        all_corners = corners if all_corners is None else torch.cat([all_corners, corners])
        ahead = _across(fresh, corners, sides)
        known, order = torch.sort(all_keys)
        fresh = ahead[~_contains(known, ahead)]
        if len(fresh) == 0:
            break
        all_keys = torch.cat([all_keys, fresh])
    count = all_corners.sum(1)
    mixed = torch.nonzero((count > 0) & (count < 8))[:, 0]
    mixed = mixed[torch.sort(all_keys[mixed]).indices]
    return _cell(all_keys[mixed], sides), all_corners[mixed]


def contour(cells: Tensor, corners: Tensor, sides: int) -> Contour:
    """Vertices and quads of the surface through cells.

    Args:
        cells: int64 [N, 3] ascending, and corners bool [N, 8], as `grow_cells` returns them.
        sides: cells per axis.
    """
    device = cells.device
    table = torch.from_numpy(_PATCH_OF_EDGE).to(device)
    pattern = (corners.long() * (1 << torch.arange(8, device=device))).sum(1)
    patches = table[pattern].amax(1) + 1
    first = torch.cumsum(patches, 0) - patches
    patch_cell = torch.repeat_interleave(torch.arange(len(cells), device=device), patches)
    find = VoxelLookup(cells, sides)
    crossed, rising, quads = [], [], []
    for axis in range(3):
        # every crossed edge along an axis is the first edge (low corner 000) of exactly one cell
        low, high = corners[:, 0], corners[:, 4 >> axis]
        row = torch.nonzero(low != high)[:, 0]
        ring = []
        for b, d in ((0, 0), (-1, 0), (-1, -1), (0, -1)):  # clockwise around the axis, seen from its far end
            step = [0, 0, 0]
            step[(axis + 1) % 3], step[(axis + 2) % 3] = b, d
            at = find(cells[row] + torch.tensor(step, device=device))
            corner = [-value for value in step]
            ring.append(first[at] + table[pattern[at], EDGES.index((axis, tuple(corner)))])
        ring = torch.stack(ring, 1)
        up = low[row]
        crossed.append(torch.cat([torch.full((len(row), 1), axis, device=device), cells[row]], 1))
        rising.append(up)
        quads.append(torch.where(up[:, None], ring, ring.flip(1)))
    crossed, rising, quads = torch.cat(crossed), torch.cat(rising), torch.cat(quads)
    order = torch.sort(_key(crossed[:, 1:], sides + 1) * 3 + crossed[:, 0]).indices
    crossed, rising, quads = crossed[order], rising[order], quads[order]
    edge = torch.arange(len(quads), device=device).repeat_interleave(4)
    return Contour(cells, crossed, rising, patch_cell, quads.reshape(-1), edge, quads)


def mean_points(shape: Contour, points: Tensor) -> Tensor:
    """float64 [P, 3], mean over each vertex's edges of points float64 [E, 3]."""
    order = torch.sort(shape.incident_patch, stable=True).indices
    starts = run_starts(shape.incident_patch, len(shape.patch_cell))
    total = segment_sum(points[shape.incident_edge[order]], starts)
    return total / (starts[1:] - starts[:-1])[:, None]


def feature_points(shape: Contour, points: Tensor, normals: Tensor, draw: float) -> Tensor:
    """Vertices float64 [P, 3] that minimise `sum (n.(x - q))^2 + draw |x - mean(q)|^2` over their edges.

    Args:
        points, normals: float64 [E, 3], q and n of every edge; n = 0 adds only to the mean.
        draw: weight of the mean per edge.
    """
    order = torch.sort(shape.incident_patch, stable=True).indices
    starts = run_starts(shape.incident_patch, len(shape.patch_cell))
    middle = mean_points(shape, points)
    edge, patch = shape.incident_edge[order], shape.incident_patch[order]
    n = normals[edge]
    height = (n * (points[edge] - middle[patch])).sum(1, keepdim=True)
    products = torch.stack([n[:, i] * n[:, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], 1)
    total = segment_sum(torch.cat([products, n * height], 1), starts)
    xx, xy, xz, yy, yz, zz = total[:, :6].unbind(1)
    ridge = draw * (starts[1:] - starts[:-1])
    return middle + _solve_symmetric(xx + ridge, xy, xz, yy + ridge, yz, zz + ridge, total[:, 6:])


def _solve_symmetric(xx: Tensor, xy: Tensor, xz: Tensor, yy: Tensor, yz: Tensor, zz: Tensor, right: Tensor) -> Tensor:
    """Solutions [P, 3] of positive definite systems by cofactors; a batch of millions is no matter for a library."""
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    x, y, z = right.unbind(1)
    solution = torch.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], 1)
    return solution / (xx * a + xy * b + xz * c)[:, None]


def _key(cells: Tensor, sides: int) -> Tensor:
    return (cells[..., 0] * sides + cells[..., 1]) * sides + cells[..., 2]


def _cell(keys: Tensor, sides: int) -> Tensor:
    return torch.stack([keys // (sides * sides), keys // sides % sides, keys % sides], -1)


def _contains(ordered: Tensor, wanted: Tensor) -> Tensor:
    if len(ordered) == 0:
        return torch.zeros(len(wanted), dtype=torch.bool, device=wanted.device)
    return ordered[torch.searchsorted(ordered, wanted).clamp(max=len(ordered) - 1)] == wanted


def _across(keys: Tensor, corners: Tensor, sides: int) -> Tensor:
    """Keys of the cells beyond faces with different corners."""
    found = []
    for axis, step in enumerate((sides * sides, sides, 1)):
        for end in (0, 1):
            face = [number for number, corner in enumerate(CORNERS) if corner[axis] == end]
            count = corners[:, face].sum(1)
            found.append(keys[(count > 0) & (count < 4)] + (2 * end - 1) * step)
    return torch.unique(torch.cat(found))


def _patch_table() -> np.ndarray:
    """int64 [256, 12], patch of each crossed edge by the pattern of inside corners, -1 for the others."""
    table = np.full((256, 12), -1, np.int64)
    ends = []
    for axis, corner in EDGES:
        high = list(corner)
        high[axis] = 1
        ends.append((CORNERS.index(corner), CORNERS.index(tuple(high))))
    for pattern in range(256):
        inside = [pattern >> number & 1 for number in range(8)]
        crossed = [number for number, (a, b) in enumerate(ends) if inside[a] != inside[b]]
        parent = {number: number for number in crossed}

        def root(number: int, parent: dict[int, int] = parent) -> int:
            while parent[number] != number:
                number = parent[number]
            return number

        for axis in range(3):
            for end in (0, 1):
                face = {number for number, corner in enumerate(CORNERS) if corner[axis] == end}
                mine = [number for number in crossed if set(ends[number]) <= face]
                if len(mine) == 2:
                    parent[root(mine[0])] = root(mine[1])
                elif len(mine) == 4:  # alternating: the two edges at each inside corner belong together
                    for corner in face:
                        if inside[corner]:
                            one, two = (number for number in mine if corner in ends[number])
                            parent[root(one)] = root(two)
        names = {}
        for number in crossed:
            table[pattern, number] = names.setdefault(root(number), len(names))
    return table


_PATCH_OF_EDGE = _patch_table()
