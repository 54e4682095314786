# SPDX-License-Identifier: Apache-2.0
"""Where a triangle mesh crosses the lines of a grid (docs/spec/geometry.md 3.1).

Formula: for axis a with b = (a+1) % 3, d = (a+2) % 3, each triangle is cut at the rows `y = (j+1) h_d` and each cut at the
columns `x = (i+1) h_b`; the crossing is (x, y, z) in (b, d, a), in cell `k = trunc(z / h_a)`, and touches the four cells
(i+s, j+t, k). Rows and columns are half open. Everything is in double precision, in the order (axis, triangle, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crossings:
    """M crossings of a mesh with grid lines.

    Attributes:
        point: float64 [M, 3], x y z relative to the grid's low corner.
        triangle: int64 [M].
        axis: int64 [M], direction of the grid line.
        cell: int64 [M, 3], the cell whose owned edge is crossed.
    """

    point: Tensor
    triangle: Tensor
    axis: Tensor
    cell: Tensor

    def touched(self) -> Tensor:
        """int64 [M, 4, 3], the cells around each crossing, the owner first."""
        turn = torch.arange(3, device=self.axis.device)
        b, d = (turn == ((self.axis[:, None] + step) % 3) for step in (1, 2))
        steps = torch.stack([torch.zeros_like(b), b, d, b | d], 1).long()
        return self.cell[:, None] + steps


def grid_crossings(vertices: Tensor, faces: Tensor, size: tuple[int, int, int], cell_size: Tensor) -> Crossings:
    """All crossings of a mesh with the lines of a grid.

    Args:
        vertices: float32 [V, 3] relative to the grid's low corner.
        faces: int [F, 3].
        size: cells per axis.
        cell_size: float32 [3], edge lengths of a cell.
    """
    triangles = vertices.double()[faces.long()]
    parts = [_along(triangles, axis, size, cell_size) for axis in range(3)]
    joined = (torch.cat([getattr(part, name) for part in parts]) for name in ("point", "triangle", "axis", "cell"))
    return Crossings(*joined)


def spread(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Owner and rank of every item, where owner i has counts[i] items: int64 [sum], int64 [sum]."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - first[owner]


def _along(triangles: Tensor, a: int, size: tuple[int, int, int], cell_size: Tensor) -> Crossings:
    b, d = (a + 1) % 3, (a + 2) % 3
    step = cell_size.double()
    order = torch.sort(triangles[:, :, d], dim=1, stable=True).indices
    corners = triangles.gather(1, order[..., None].expand(-1, -1, 3))[:, :, [b, d, a]]
    start, middle, end = _line(corners[:, :, 1], step[d], size[d]).unbind(1)
    triangle, rank = spread(end - start)
    row = start[triangle] + rank
    lower = row < middle[triangle]
    first, second, third = corners[triangle].unbind(1)
    apex, other = torch.where(lower[:, None], first, third), torch.where(lower[:, None], third, first)
    y = _coordinate(row, cell_size[d])
    one, two = _cut(apex, second, y), _cut(apex, other, y)
    swap = (two[:, 0] < one[:, 0])[:, None]
    left, right = torch.where(swap, two, one), torch.where(swap, one, two)
    low, high = _line(left[:, 0], step[b], size[b]), _line(right[:, 0], step[b], size[b])
    cut, rank = spread(high - low)
    column = low[cut] + rank
    x, left, right = _coordinate(column, cell_size[b]), left[cut], right[cut]
    share = (x - left[:, 0]) / (right[:, 0] - left[:, 0])
    z = left[:, 1] * (1 - share) + right[:, 1] * share
    layer = torch.trunc(z / step[a]).long()
    inside = (layer >= 0) & (layer < size[a])
    point = torch.empty(len(cut), 3, dtype=torch.float64, device=triangles.device)
    cell = torch.empty(len(cut), 3, dtype=torch.int64, device=triangles.device)
    for axis, coordinate, index in ((b, x, column), (d, y[cut], row[cut]), (a, z, layer)):
        point[:, axis], cell[:, axis] = coordinate, index
    point, cell, triangle = point[inside], cell[inside], triangle[cut][inside]
    return Crossings(point, triangle, torch.full_like(triangle, a), cell)


def _line(coordinate: Tensor, step: Tensor, count: int) -> Tensor:
    return torch.trunc(coordinate / step).long().clamp(0, count - 1)


def _coordinate(index: Tensor, step: Tensor) -> Tensor:
    """Position of the grid line after a row or column: a product in single precision, as the published grids have it."""
    return ((index + 1).float() * step).double()


def _cut(start: Tensor, end: Tensor, y: Tensor) -> Tensor:
    """float64 [n, 2], (b, a) of the point of an edge at d = y; the start of an edge that is flat in d."""
    rise = end[:, 1] - start[:, 1]
    flat = rise == 0
    share = torch.where(flat, torch.zeros_like(y), (y - start[:, 1]) / torch.where(flat, torch.ones_like(rise), rise))[:, None]
    return start[:, ::2] * (1 - share) + end[:, ::2] * share  # this form decides which side a line through an edge falls on
