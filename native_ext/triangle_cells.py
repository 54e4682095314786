# SPDX-License-Identifier: Apache-2.0
"""Which active cells of a grid each triangle overlaps (docs/spec/geometry.md 3.2).

Formula (Schwarz & Seidel, "Fast parallel surface and solid voxelization on GPUs", 2010), for a box with low corner P and edges
h: the triangle's plane separates no two opposite corners, `(n.P + n.(s - v0)) (n.P + n.(h - s - v0)) <= 0` with s_i = h_i where
n_i > 0, and in each coordinate plane no edge function `m.P - m.v + max(m, 0).h` is negative.

Large triangles are taken apart like an octree: blocks of cells are tested first, with a margin, then their parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.grid_crossings import spread
from native_ext.voxel_lookup import VoxelLookup

_BLOCK = 64  # cells per axis of the first blocks
_SPLIT = 4  # parts per axis of a block
_SMALL = 64  # a triangle with no more candidate cells is tested cell by cell
_MARGIN = 1e-3  # of a cell, by which blocks are larger than they are
_PAIRS_AT_ONCE = 1 << 22  # bounds the temporaries


def triangle_cells(vertices: Tensor, faces: Tensor, find: VoxelLookup, cell_size: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of triangles and active cells whose closed boxes they overlap.

    Args:
        vertices: float32 [V, 3] relative to the grid's low corner.
        faces: int [F, 3].
        find: rows of the active cells.
        cell_size: float32 [3].

    Returns:
        triangle int64 [P] and row int64 [P], ascending by triangle within each of small and large triangles.
    """
    triangles = vertices.double()[faces.long()]
    step = cell_size.double()
    low = torch.trunc(triangles.amin(1) / step).long().clamp(min=0)
    high = torch.minimum(torch.trunc(triangles.amax(1) / step + 1).long(), find.sides)
    extent = (high - low).clamp(min=0)
    count = extent.prod(1)
    parts = []
    small = torch.nonzero((count > 0) & (count <= _SMALL))[:, 0]
    for chunk in small.split(_PAIRS_AT_ONCE // _SMALL):
        owner, rank = spread(count[chunk])
        triangle = chunk[owner]
        parts.append(_overlapping(triangles, triangle, low[triangle] + _unravel(rank, extent[triangle]), find, step))
    large = torch.nonzero(count > _SMALL)[:, 0]
    for chunk in large.split(_PAIRS_AT_ONCE // 512):
        triangle, block = _blocks(triangles, chunk, low, high, step)
        for part, start in zip(triangle.split(_PAIRS_AT_ONCE // _SMALL), block.split(_PAIRS_AT_ONCE // _SMALL), strict=True):
            owner, cell = _refine(part, start)
            keep = ((cell >= low[owner]) & (cell < high[owner])).all(1)
            parts.append(_overlapping(triangles, owner[keep], cell[keep], find, step))
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64, device=faces.device)
        return empty, empty
    triangle, row = zip(*parts, strict=True)
    return torch.cat(triangle), torch.cat(row)


def _unravel(rank: Tensor, extent: Tensor) -> Tensor:
    """Cell offsets [n, 3] of ranks in boxes [n, 3], z fastest."""
    z = rank % extent[:, 2]
    rest = rank // extent[:, 2]
    return torch.stack([rest // extent[:, 1], rest % extent[:, 1], z], 1)


def _refine(triangle: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    part = torch.arange(_SPLIT**3, device=block.device)
    offset = torch.stack([part // _SPLIT**2, part // _SPLIT % _SPLIT, part % _SPLIT], 1)
    cell = (block[:, None] * _SPLIT + offset).view(-1, 3)
    return triangle.repeat_interleave(_SPLIT**3), cell


def _blocks(triangles: Tensor, chosen: Tensor, low: Tensor, high: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of triangles and blocks of `_SPLIT` cells per axis that may overlap."""
    first, last = low[chosen] // _BLOCK, (high[chosen] - 1) // _BLOCK
    owner, rank = spread((last - first + 1).prod(1))
    triangle, block = chosen[owner], first[owner] + _unravel(rank, (last - first + 1)[owner])
    width = _BLOCK
    while True:
        box_low, box_high = block * width, (block + 1) * width
        near = ((box_low < high[triangle]) & (box_high > low[triangle])).all(1)
        triangle, block = triangle[near], block[near]
        hit = _overlap(triangles[triangle], (block * width - _MARGIN) * step, (width + 2 * _MARGIN) * step)
        triangle, block = triangle[hit], block[hit]
        if width == _SPLIT:
            return triangle, block
        triangle, block = _refine(triangle, block)
        width //= _SPLIT


def _overlapping(triangles: Tensor, triangle: Tensor, cell: Tensor, find: VoxelLookup, step: Tensor) -> tuple[Tensor, Tensor]:
    row = find(cell)
    active = row >= 0
    triangle, cell, row = triangle[active], cell[active], row[active]
    hit = _overlap(triangles[triangle], cell * step, step)
    return triangle[hit], row[hit]


def _overlap(corners: Tensor, low: Tensor, size: Tensor) -> Tensor:
    """bool [n], triangles [n, 3, 3] against boxes with low corners [n, 3] and common edges [3]."""
    edges = corners.roll(-1, 1) - corners
    normal = torch.linalg.cross(edges[:, 0], edges[:, 1])
    start = corners[:, 0]
    critical = torch.where(normal > 0, size, torch.zeros_like(size))
    above = (normal * (low + critical - start)).sum(1)
    below = (normal * (low + size - critical - start)).sum(1)
    hit = above * below <= 0
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        turn = torch.where(normal[:, k] < 0, -1.0, 1.0).double()[:, None]
        m_i, m_j = -edges[:, :, j] * turn, edges[:, :, i] * turn
        reach = m_i.clamp(min=0) * size[i] + m_j.clamp(min=0) * size[j]
        inside = m_i * (low[:, None, i] - corners[:, :, i]) + m_j * (low[:, None, j] - corners[:, :, j]) + reach >= 0
        hit &= inside.all(1)
    return hit
