# SPDX-License-Identifier: Apache-2.0
"""Output rows are sorted by what they have in common, and every one has one place."""

import torch

from native_ext.neighbours import TAPS, neighbour_table
from native_ext.tap_order import TILE, order_by_taps, tap_bits


def table_of(share: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(11, 11, 11, generator=generator) < share).nonzero()
    return neighbour_table(torch.nn.functional.pad(cells, (1, 0)).int())


def test_rows_are_sorted_by_their_taps() -> None:
    table = table_of(0.3)
    order, bits = order_by_taps(table), tap_bits(table.t().contiguous()).tolist()
    assert order.rows[: len(table)].tolist() == sorted(range(len(table)), key=lambda row: bits[row])
    assert (order.rows[len(table) :] == -1).all()


def test_children_are_sorted_by_group_then_by_the_taps_of_their_parents() -> None:
    table = table_of(0.3)
    parent, child = (torch.rand(len(table), 8, generator=torch.Generator().manual_seed(1)) < 0.4).nonzero(as_tuple=True)
    mixed = torch.randperm(len(parent), generator=torch.Generator().manual_seed(2))  # an encoder's children lie in any order
    parent, child = parent[mixed], child[mixed]
    order, bits = order_by_taps(table, parent, child, 8), tap_bits(table.t().contiguous()).tolist()
    tiles = order.rows.view(-1, TILE)
    for group in range(8):
        expected = [row for row in range(len(parent)) if child[row] == group]
        expected.sort(key=lambda row: (bits[parent[row]], parent[row]))
        assert [row for row in tiles[order.group == group].flatten().tolist() if row >= 0] == expected


def test_a_tile_knows_the_sources_of_its_rows() -> None:
    table = table_of(0.5)
    parent, child = (torch.rand(len(table), 8, generator=torch.Generator().manual_seed(1)) < 0.4).nonzero(as_tuple=True)
    order = order_by_taps(table, parent, child, 8)
    for tile, rows in enumerate(order.rows.view(-1, TILE)):
        for slot in range(TAPS):
            tap = order.taps[tile, slot]
            expected = torch.where(rows >= 0, table[parent[rows.clamp(min=0)], tap.long()], -1)
            assert torch.equal(order.sources[tile, slot], expected)
            assert slot < order.active[tile] or (expected == -1).all()


def test_nobody_has_children() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    order = order_by_taps(table_of(0.3), nothing, nothing, 8)
    assert order.count == 0 and (order.rows == -1).all() and (order.active == 0).all()
