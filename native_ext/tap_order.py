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
_NOWHERE = 1 << 12


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


@dataclass(frozen=True)
class Places:
    """Which output row goes to which place of a `TapOrder`: what of it is dear to find and cheap to keep.

    Attributes:
        rows: int32 `[tiles * TILE]`, as in a `TapOrder`.
        source: int32 `[tiles * TILE]`, the input row that each place stands for, anything where there is no output row.
        bits: int32 `[M]`, which taps an input row has.
        group: int32 `[tiles]`.
        groups: number of groups.
        count: number of output rows.
    """

    rows: Tensor
    source: Tensor
    bits: Tensor
    group: Tensor
    groups: int
    count: int


def order_by_taps(neighbours: Tensor, parent: Tensor | None = None, group: Tensor | None = None, groups: int = 1) -> TapOrder:
    """The order of output rows for a neighbour table; nothing here waits for the device.

    Args:
        neighbours: int32 `[M, 27]` of `native_ext.neighbours.neighbour_table`.
        parent, group, groups: as of `place_children`; without them the output rows are the table's own.
    """
    places = place_rows(neighbours) if parent is None else place_children(neighbours, parent, group, groups)
    return fill_tiles(places, neighbours)


def place_rows(neighbours: Tensor) -> Places:
    """The rows of a table themselves, sorted by which taps they have."""
    bits, order = _sorted_by_taps(neighbours)
    count = len(order)
    tiles = -(-count // TILE)
    rows = torch.nn.functional.pad(order.int(), (0, tiles * TILE - count), value=-1)
    return Places(rows, rows.clamp(min=0), bits, torch.zeros(tiles, dtype=torch.int32, device=rows.device), 1, count)


def place_children(neighbours: Tensor, parent: Tensor, group: Tensor, groups: int) -> Places:
    """Children of a table's rows, first by group, then by the taps of their parents.

    Only the parents are sorted, a fraction of the children; a table of (group, parent) says who has a child there.

    Args:
        parent: int64 `[N]`, the input row that each output row stands for.
        group: int64 `[N]` in 0..groups-1; a parent has at most one child in each.
    """
    bits, order = _sorted_by_taps(neighbours)
    count, device = len(parent), parent.device
    child = torch.full((len(bits) * groups,), -1, dtype=torch.int32, device=device)
    child[parent * groups + group] = torch.arange(count, dtype=torch.int32, device=device)
    child = child[order * groups + torch.arange(groups, device=device)[:, None]]
    exists = child >= 0
    sizes = exists.sum(1)
    tiles_of = (sizes + TILE - 1) // TILE
    ends = tiles_of.cumsum(0)
    tiles = -(-count // TILE) + groups - 1  # every group may leave its last tile partly empty
    skipped = (ends - tiles_of) * TILE - (sizes.cumsum(0) - sizes)  # places left empty before a group
    place = exists.view(-1).cumsum(0, dtype=torch.int32).view(exists.shape) + (skipped - 1)[:, None]  # rows one by one are slow
    # what does not exist is written behind the end, to many places, because writes to a single one would queue up
    nowhere = tiles * TILE + torch.arange(len(bits), device=device) % _NOWHERE
    place = torch.where(exists, place, nowhere).view(-1)
    rows = torch.full((tiles * TILE + _NOWHERE,), -1, dtype=torch.int32, device=device)
    source = torch.zeros_like(rows)
    rows[place] = child.view(-1)
    source[place] = order.int().repeat(groups)
    tile_group = torch.searchsorted(ends, torch.arange(tiles, device=device), right=True).clamp_(max=groups - 1).int()
    return Places(rows[: tiles * TILE], source[: tiles * TILE], bits, tile_group, groups, count)


def fill_tiles(places: Places, neighbours: Tensor) -> TapOrder:
    """The order in which those places are convolved."""
    by_tap = neighbours.t().contiguous()
    has = torch.where(places.rows >= 0, places.bits[places.source], 0)
    make = _kernels().tiles if has_kernel(by_tap) else make_tiles
    sources, taps, active = make(by_tap, places.rows, places.source, has, TILE)
    return TapOrder(places.rows, sources, taps, active, places.group, places.groups, places.count)


def _sorted_by_taps(neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Taps of each row, int32 `[M]`, and the rows in that order, int64 `[M]`."""
    by_tap = neighbours.t().contiguous()
    bits = _kernels().tap_bits(by_tap) if has_kernel(by_tap) else tap_bits(by_tap)
    return bits, torch.sort(bits, stable=True).indices


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
        source: int32 `[T * tile]`, input row of each place; anything for empty ones.
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
