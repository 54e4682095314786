# SPDX-License-Identifier: Apache-2.0
"""From cell coordinates to row numbers of a sparse voxel set (docs/spec/geometry.md 8).

Formula: `key = (x * ny + y) * nz + z` in 64 bits. The keys are sorted once; small grids get a dense table instead, which
answers several times faster. Coordinates outside the grid are rejected before a key is formed, so they alias nothing.
Duplicate cells: the smallest row wins.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DENSE_CELLS_MAX = 1 << 26  # 256 MiB of int32; above, binary search


class VoxelLookup:
    """Rows by cell, on the device of `coords`.

    Args:
        coords: integer [N, 3] cells x, y, z, all inside the grid.
        resolution: cells per axis, one number or three.

    Raises:
        ValueError: a cell outside the grid.
    """

    def __init__(self, coords: Tensor, resolution: int | tuple[int, int, int]) -> None:
        sides = (resolution,) * 3 if isinstance(resolution, int) else tuple(int(side) for side in resolution)
        self.sides = torch.tensor(sides, dtype=torch.int64, device=coords.device)
        self.cells = sides[0] * sides[1] * sides[2]
        wide = coords.long()
        if len(wide) and not bool(((wide >= 0) & (wide < self.sides)).all()):
            raise ValueError(f"cells {wide.amin(0).tolist()} to {wide.amax(0).tolist()} leave the grid of {sides}")
        keys, self.rows = torch.sort(self.key(wide), stable=True)
        first = torch.ones_like(keys, dtype=torch.bool)
        first[1:] = keys[1:] != keys[:-1]
        self.keys, self.rows = keys[first], self.rows[first]
        self.table: Tensor | None = None  # int32 [cells], -1 where nothing is
        if self.cells <= _DENSE_CELLS_MAX:
            self.table = torch.full((self.cells,), -1, dtype=torch.int32, device=coords.device)
            self.table[self.keys] = self.rows.int()

    def key(self, cells: Tensor) -> Tensor:
        """int64 [...] linear key of int64 cells [..., 3] inside the grid."""
        return (cells[..., 0] * self.sides[1] + cells[..., 1]) * self.sides[2] + cells[..., 2]

    def __call__(self, cells: Tensor) -> Tensor:
        """Rows int64 [...] of integer cells [..., 3]; -1 where the cell is not active or outside the grid."""
        wide = cells.long()
        inside = ((wide >= 0) & (wide < self.sides)).all(-1)
        if len(self.keys) == 0:
            return torch.full_like(inside, -1, dtype=torch.int64)
        wanted = torch.where(inside, self.key(wide), 0)
        if self.table is not None:
            found = self.table[wanted].long()
        else:
            place = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
            found = torch.where(self.keys[place] == wanted, self.rows[place], -1)
        return torch.where(inside, found, -1)
