# SPDX-License-Identifier: Apache-2.0
"""Rows of a sparse convolution in tiles whose rows have the same neighbours, so that whole tiles skip whole taps.

Voxels of a surface have 10 to 17 of their 27 neighbours, but any 128 of them in storage order have all 27 between them,
and a tile has to walk every tap that one of its rows has. Sorted by which taps they have, 128 rows share 17 to 24
(measured on bumpy spheres of 3,000 to 950,000 voxels).

A tile also belongs to one *group*: the output channels it is for. A plain convolution has one group. Where only some of
eight children of a voxel are wanted (docs/spec/networks.md 3.11, up block), each child slot is a group of its own, and
what nobody asked for is never computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from native_ext.fast import has_kernel
from native_ext.neighbours import TAPS

TILE = 128  # rows; kernels take tiles of this size or halves


@dataclass(frozen=True)
class TapOrder:
    """Output rows in tiles.

    Attributes:
        rows: int32 `[tiles * TILE]`, the output row of each place, -1 for places that stay empty.
        sources: int32 `[tiles, 27, TILE]`, the input row per tap of the tile and place, -1 for none.
        taps: int32 `[tiles, 27]`, the taps of a tile, those that a row has first.
        active: int32 `[tiles]`, how many of them some row has.
        group: int32 `[tiles]`.
        groups: number of groups.
        count: number of output rows.
    """

    rows: Tensor
    sources: Tensor
    taps: Tensor
    active: Tensor
    group: Tensor
    groups: int
    count: int


def order_by_taps(neighbours: Tensor, parent: Tensor | None = None, group: Tensor | None = None, groups: int = 1) -> TapOrder:
    """The order of output rows for a neighbour table; nothing here waits for the device.

    Args:
        neighbours: int32 `[M, 27]` of `native_ext.neighbours.neighbour_table`.
        parent: int64 `[N]`, the input row that each output row stands for; None for the rows themselves.
        group: int64 `[N]` in 0..groups-1, or None for one group.
    """
    by_tap = neighbours.t().contiguous()
    bits = _kernels().tap_bits(by_tap) if has_kernel(by_tap) else tap_bits(by_tap)
    key = bits if parent is None else bits[parent]
    if group is not None:
        key = key | group.int() << TAPS
    key, order = torch.sort(key, stable=True)
    count, device = len(key), key.device
    tiles = -(-count // TILE) + groups - 1  # every group may leave its last tile partly empty
    place = torch.arange(count, device=device)
    tile_group = torch.zeros(tiles, dtype=torch.int32, device=device)
    if group is not None:
        which = key >> TAPS
        sizes = (which == torch.arange(groups, device=device)[:, None]).sum(1)
        tiles_of = (sizes + TILE - 1) // TILE
        skipped = (tiles_of.cumsum(0) - tiles_of) * TILE - (sizes.cumsum(0) - sizes)
        place = place + skipped[which]
        tile_group.scatter_(0, place // TILE, which.int())
    rows = torch.full((tiles * TILE,), -1, dtype=torch.int32, device=device)
    rows[place] = order.int()
    has = torch.zeros(tiles * TILE, dtype=torch.int32, device=device)
    has[place] = (key & ((1 << TAPS) - 1)).int()
    source = rows.clamp(min=0).long()
    source = source if parent is None else parent[source]
    make = _kernels().tiles if has_kernel(by_tap) else make_tiles
    sources, taps, active = make(by_tap, rows, source, has, TILE)
    return TapOrder(rows, sources, taps, active, tile_group, groups, count)


def tap_bits(by_tap: Tensor) -> Tensor:
    """int32 `[M]`, bit v set where tap v of `[27, M]` has a row."""
    bits = torch.zeros(by_tap.shape[1], dtype=torch.int32, device=by_tap.device)
    for tap in range(TAPS):
        bits |= (by_tap[tap] >= 0).int() << tap
    return bits


def make_tiles(by_tap: Tensor, rows: Tensor, source: Tensor, has: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """`sources`, `taps` and `active` of a `TapOrder`.

    Args:
        by_tap: int32 `[27, M]`.
        rows: int32 `[T * tile]`, -1 for empty places.
        source: int64 `[T * tile]`, input row of each place; anything for empty ones.
        has: int32 `[T * tile]`, taps of each place, 0 for empty ones.
    """
    has, source = has.view(-1, tile), source.view(-1, tile)
    found = torch.stack([(has >> tap & 1).any(1) for tap in range(TAPS)], dim=1)
    taps = torch.sort((~found).int(), dim=1, stable=True).indices
    table = by_tap.view(-1)
    sources = torch.empty(len(taps), TAPS, tile, dtype=torch.int32, device=rows.device)
    for slot in range(TAPS):
        sources[:, slot] = table[taps[:, slot, None] * by_tap.shape[1] + source]
    return sources.masked_fill_((rows < 0).view(-1, 1, tile), -1), taps.int(), found.sum(1, dtype=torch.int32)


def _kernels() -> ModuleType:
    from native_ext import tap_order_triton

    return tap_order_triton
