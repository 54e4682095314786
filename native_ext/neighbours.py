# SPDX-License-Identifier: Apache-2.0
"""Neighbour tables of sparse voxel sets: which row is the neighbour in each of the 27 directions.

Formula (docs/spec/networks.md 3.9): tap `v = (i*3 + j)*3 + k` of row n points at the row whose coordinates are
`(b, x+i-1, y+j-1, z+k-1)`, or is -1. Tap `26-v` mirrors tap `v`, so one search fills both. Keys are 64-bit.

Tables are stored tap-major in memory (`table.t()` is contiguous): every consumer reads one tap of many rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.fast import has_kernel

TAPS = 27
CENTRE = 13

# A dense index grid answers look-ups several times faster than a binary search; it is worth its memory up to this
# many cells per voxel (a shell in a cube of side R has about 3/R of its cells active) and this many cells in all.
_GRID_CELLS_PER_VOXEL = 256
_GRID_CELLS_MAX = 1 << 27


def neighbour_table(coords: Tensor) -> Tensor:
    """Table of the 3x3x3 neighbourhood of every voxel.

    Args:
        coords: integer `[N, 4]` unique rows `(b, x, y, z)`, non-negative, in any order.

    Returns:
        int32 `[N, 27]`, row numbers, -1 where there is no voxel. Column 13 is the identity.
    """
    count = coords.shape[0]
    table = torch.full((TAPS, count), -1, dtype=torch.int32, device=coords.device)
    if count == 0:
        return table.t()
    rows = torch.arange(count, dtype=torch.int32, device=coords.device)
    table[CENTRE] = rows
    keys, strides, cells = _padded_keys(coords)
    find = _grid_finder(keys, rows, cells) if _grid_pays(cells, count) else _search_finder(keys)
    for tap in range(CENTRE):
        i, j, k = tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1
        found = find(keys + (i * strides[0] + j * strides[1] + k))
        table[tap] = found
        hit = found >= 0
        table[TAPS - 1 - tap][found[hit].long()] = rows[hit]
    return table.t()


def refine_neighbours(coarse: Tensor, parent: Tensor, child: Tensor) -> Tensor:
    """Table of a subdivided level from the table of the level above: no search, two gathers per tap.

    Args:
        coarse: int32 `[M, 27]`, the parents' table.
        parent: int64 `[N]`, parent row of each fine voxel.
        child: int64 `[N]`, child index `x%2 + 2*(y%2) + 4*(z%2)` of each fine voxel.

    Returns:
        int32 `[N, 27]` as of `neighbour_table` on the fine coordinates.
    """
    count, device = parent.shape[0], parent.device
    row_of_slot = torch.full((coarse.shape[0] * 8 + 1,), -1, dtype=torch.int32, device=device)
    row_of_slot[parent * 8 + child] = torch.arange(count, dtype=torch.int32, device=device)
    if has_kernel(coarse):
        from native_ext import neighbours_triton

        return neighbours_triton.refine(coarse.t().contiguous(), parent, child, row_of_slot).t()
    parent_tap, child_slot = _refinement_tables(device)
    by_tap = coarse.t().contiguous().reshape(-1)
    nowhere = coarse.shape[0] * 8
    table = torch.empty((TAPS, count), dtype=torch.int32, device=device)
    for tap in range(TAPS):
        above = by_tap[parent_tap[tap][child] * coarse.shape[0] + parent].long()
        slot = torch.where(above >= 0, above * 8 + child_slot[tap][child], nowhere)
        table[tap] = row_of_slot[slot]
    return table.t()


def _padded_keys(coords: Tensor) -> tuple[Tensor, tuple[int, int], int]:
    """64-bit keys of the cells in a grid with one empty cell around: offsets never wrap into another row or sample."""
    wide = coords.long()
    batches, *sides = (wide.max(dim=0).values + 1).tolist()
    nx, ny, nz = (side + 2 for side in sides)
    b, x, y, z = wide.unbind(1)
    keys = ((b * nx + x + 1) * ny + y + 1) * nz + z + 1
    return keys, (ny * nz, nz), batches * nx * ny * nz


def _grid_pays(cells: int, count: int) -> bool:
    return cells <= min(_GRID_CELLS_MAX, max(1 << 20, count * _GRID_CELLS_PER_VOXEL))


def _grid_finder(keys: Tensor, rows: Tensor, cells: int):
    grid = torch.full((cells,), -1, dtype=torch.int32, device=keys.device)
    grid[keys] = rows
    return lambda wanted: grid[wanted]


def _search_finder(keys: Tensor):
    ordered, order = torch.sort(keys)
    order = order.to(torch.int32)

    def find(wanted: Tensor) -> Tensor:
        place = torch.searchsorted(ordered, wanted).clamp_(max=ordered.shape[0] - 1)
        return torch.where(ordered[place] == wanted, order[place], -1)

    return find


def _refinement_tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """For every (tap, child): the parent's tap that holds the neighbour, and which child of it the neighbour is."""
    tap = torch.arange(TAPS).view(TAPS, 1)
    child = torch.arange(8).view(1, 8)
    parent_tap = torch.zeros(TAPS, 8, dtype=torch.int64)
    child_slot = torch.zeros(TAPS, 8, dtype=torch.int64)
    for axis, step in enumerate((9, 3, 1)):
        position = (child >> axis & 1) + tap // step % 3 - 1  # -1, 0, 1 or 2 in units of the fine grid
        parent_tap += step * (torch.div(position, 2, rounding_mode="floor") + 1)
        child_slot += (position % 2) << axis
    return parent_tap.to(device), child_slot.to(device)
