# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of `tap_order`: which taps a row has, and everything about a tile, in one pass each.

The reference needs some 250 small launches per level, which took longer to queue than the convolutions to run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 256


def tap_bits(by_tap: Tensor) -> Tensor:
    """int32 `[M]`, bit v set where tap v has a row; `by_tap` int32 `[27, M]`, contiguous."""
    count = by_tap.shape[1]
    bits = torch.empty(count, dtype=torch.int32, device=by_tap.device)
    _bits_kernel[(triton.cdiv(count, _ROWS),)](by_tap, bits, count, ROWS=_ROWS, num_warps=4)
    return bits


def tiles(by_tap: Tensor, rows: Tensor, source: Tensor, has: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sources, taps and number of active taps of every tile; see `native_ext.tap_order.TapOrder`.

    Args:
        by_tap: int32 `[27, M]`, contiguous.
        rows: int32 `[T * tile]`, -1 for empty places.
        source: int32 `[T * tile]`, input row of each place; anything for empty ones.
        has: int32 `[T * tile]`, taps of each place, 0 for empty ones.
    """
    count = len(rows) // tile
    sources = torch.empty(count, 27, tile, dtype=torch.int32, device=rows.device)
    taps = torch.empty(count, 27, dtype=torch.int32, device=rows.device)
    active = torch.empty(count, dtype=torch.int32, device=rows.device)
    _tile_kernel[(count,)](by_tap, rows, source, has, sources, taps, active, by_tap.shape[1], TILE=tile, num_warps=4)
    return sources, taps, active


@triton.jit(do_not_specialize=["count"])
def _bits_kernel(by_tap, bits, count, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < count
    found = tl.zeros((ROWS,), dtype=tl.int32)
    for tap in range(27):
        here = tl.load(by_tap + tap * count.to(tl.int64) + row, mask=exists, other=-1)
        found |= (here >= 0).to(tl.int32) << tap
    tl.store(bits + row, found, mask=exists)


@triton.jit(do_not_specialize=["count"])
def _tile_kernel(by_tap, rows, source, has, sources, taps, active, count, TILE: tl.constexpr):
    tile = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, TILE)
    place = tile * TILE + lane
    exists = tl.load(rows + place) >= 0
    above = tl.load(source + place)
    mine = tl.load(has + place)
    used = 0
    for tap in range(27):
        used += tl.max(mine >> tap & 1, axis=0)
    first = 0  # next slot for a tap that some row has
    later = used  # and for one that none has
    for tap in range(27):
        some = tl.max(mine >> tap & 1, axis=0)
        slot = tl.where(some > 0, first, later)
        tl.store(taps + tile * 27 + slot, tap)
        found = tl.load(by_tap + tap * count.to(tl.int64) + above, mask=exists, other=-1)
        tl.store(sources + (tile * 27 + slot) * TILE + lane, found)
        first += some
        later += 1 - some
    tl.store(active + tile, used)
