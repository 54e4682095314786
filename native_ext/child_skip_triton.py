# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `child_skip`; formula there. A program owns a few fine rows and adds in place."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_TILE_VALUES = 4096


def add_child_skip_(h: Tensor, x: Tensor, slots: Tensor) -> Tensor:
    """See `native_ext.child_skip.add_child_skip_`."""
    count, channels = h.shape
    width = x.shape[1] // 8
    block = triton.next_power_of_2(channels)
    rows = max(1, _TILE_VALUES // block)
    if count:
        _add_kernel[(triton.cdiv(count, rows),)](
            h, x, slots, count, CHANNELS=channels, WIDTH=width, REPEATS=channels // width, ROWS=rows, BLOCK=block, num_warps=4
        )
    return h


@triton.jit(do_not_specialize=["count"])
def _add_kernel(
    h,
    x,
    slots,
    count,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    REPEATS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    slot = tl.load(slots + row, mask=row < count, other=0)
    exists = (row < count)[:, None] & (column < CHANNELS)
    place = row[:, None] * CHANNELS + column
    skip = tl.load(x + slot[:, None] * WIDTH + column // REPEATS, mask=exists, other=0.0).to(tl.float32)
    total = tl.load(h + place, mask=exists, other=0.0).to(tl.float32) + skip
    tl.store(h + place, total.to(h.dtype.element_ty), mask=exists)
