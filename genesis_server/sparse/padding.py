# SPDX-License-Identifier: Apache-2.0
"""Rows of several samples as one dense batch `[B, L, ...]` and back, for attention (docs/spec/networks.md 3.6).

Samples of equal length (a single one above all) are only viewed. Ragged batches are copied to slots of their own, so
neither direction needs atomic additions in its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.sparse.rows import take_rows
from genesis_server.sparse.tensor import Level

_LENGTH_MULTIPLE = 8  # masks of other lengths are copied by the memory-efficient attention kernel


@dataclass(frozen=True)
class Padding:
    """How the rows of a level lie in a dense batch.

    Attributes:
        batch, length: B and L.
        slots: int64 `[N]`, place of each row in `B*L`, or None where rows already are that batch.
        mask: bool `[B, 1, 1, L]`, True for places that hold a row, or None for all.
    """

    batch: int
    length: int
    slots: Tensor | None
    mask: Tensor | None

    def pad(self, rows: Tensor) -> Tensor:
        """`[N, ...]` to `[B, L, ...]`, zero where there is no row."""
        if self.slots is not None:
            rows = rows.new_zeros(self.batch * self.length, *rows.shape[1:]).index_copy(0, self.slots, rows)
        return rows.unflatten(0, (self.batch, self.length))

    def unpad(self, batch: Tensor) -> Tensor:
        """`[B, L, ...]` to `[N, ...]`."""
        rows = batch.flatten(0, 1)
        return rows if self.slots is None else take_rows(rows, self.slots)


def padding_of(level: Level) -> Padding:
    """The padding of a level, made once."""
    return level.derived("padding", lambda: _make(level))


def _make(level: Level) -> Padding:
    sizes = level.batch_sizes
    longest = max(sizes, default=0)
    if min(sizes, default=0) == longest:
        return Padding(len(sizes), longest, None, None)
    length = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    device = level.coords.device
    lengths = torch.tensor(sizes, device=device)
    starts = lengths.cumsum(0) - lengths
    slots = torch.arange(len(level.coords), device=device) + (
        torch.arange(len(sizes), device=device) * length - starts
    ).index_select(0, level.batch_index)
    # a sample without rows keeps one key, or its softmax would be over nothing
    mask = torch.arange(length, device=device) < lengths.clamp(min=1)[:, None]
    return Padding(len(sizes), length, slots, mask[:, None, None])
