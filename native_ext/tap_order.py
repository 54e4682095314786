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

import torch
from torch import Tensor

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
    bits = torch.zeros(by_tap.shape[1], dtype=torch.int32, device=by_tap.device)
    for tap in range(TAPS):
        bits |= (by_tap[tap] >= 0).int() << tap
    key = bits if parent is None else bits[parent]
    if group is not None:
        key = key.long() | group << TAPS
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
    has = has.view(tiles, TILE)
    found = torch.stack([(has >> tap & 1).any(1) for tap in range(TAPS)], dim=1)
    taps = torch.sort((~found).int(), dim=1, stable=True).indices
    return TapOrder(
        rows,
        _sources(by_tap, rows, parent, taps),
        taps.int(),
        found.sum(1, dtype=torch.int32),
        tile_group,
        groups,
        count,
    )


def _sources(by_tap: Tensor, rows: Tensor, parent: Tensor | None, taps: Tensor) -> Tensor:
    """int32 `[tiles, 27, TILE]`."""
    empty = rows < 0
    source = rows.clamp(min=0).long()
    source = (source if parent is None else parent[source]).view(-1, TILE)
    table = by_tap.view(-1)
    sources = torch.empty(len(taps), TAPS, TILE, dtype=torch.int32, device=rows.device)
    for slot in range(TAPS):
        sources[:, slot] = table[taps[:, slot, None] * by_tap.shape[1] + source]
    return sources.masked_fill_(empty.view(-1, 1, TILE), -1)
