# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `neighbours.refine_neighbours`: one pass over the fine rows instead of ten per tap."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 256


def refine(coarse: Tensor, parent: Tensor, child: Tensor, row_of_slot: Tensor) -> Tensor:
    """int32 `[27, N]`.

    Args:
        coarse: int32 `[27, M]`, contiguous.
        parent, child: int64 `[N]`.
        row_of_slot: int32 `[8 M + 1]`, fine row of each child slot, -1 where there is none.
    """
    count = parent.shape[0]
    table = torch.empty((27, count), dtype=torch.int32, device=parent.device)
    if count:
        grid = (triton.cdiv(count, _ROWS),)
        _refine_kernel[grid](coarse, parent, child, row_of_slot, table, count, coarse.shape[1], ROWS=_ROWS, num_warps=4)
    return table


@triton.jit(do_not_specialize=["count", "parents"])
def _refine_kernel(coarse, parent, child, row_of_slot, table, count, parents, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < count
    above = tl.load(parent + row, mask=exists, other=0)
    which = tl.load(child + row, mask=exists, other=0).to(tl.int32)
    for tap in range(27):
        # position of the neighbour along each axis in fine cells, seen from the parent's corner: -1, 0, 1 or 2
        x = (which & 1) + tap // 9 - 1
        y = (which >> 1 & 1) + tap // 3 % 3 - 1
        z = (which >> 2 & 1) + tap % 3 - 1
        parent_tap = ((x >> 1) + 1) * 9 + ((y >> 1) + 1) * 3 + (z >> 1) + 1
        slot = (x & 1) + (y & 1) * 2 + (z & 1) * 4
        neighbour = tl.load(coarse + parent_tap.to(tl.int64) * parents + above, mask=exists, other=-1).to(tl.int64)
        hit = exists & (neighbour >= 0)
        found = tl.load(row_of_slot + neighbour * 8 + slot, mask=hit, other=-1)
        tl.store(table + tap * count.to(tl.int64) + row, found, mask=exists)
