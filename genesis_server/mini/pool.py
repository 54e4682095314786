# SPDX-License-Identifier: Apache-2.0
"""A ring of training objects on the device: no stored data set, every object is seen for a while and then replaced
(docs/spec/mini.md 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Pool:
    """Rows of several tensors, filled in a ring.

    Args:
        capacity: rows kept.
        device: where they are kept.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.size = self._next = 0
        self._columns: dict[str, Tensor] = {}

    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Append rows, over the oldest ones once the ring is full; the first call decides names, shapes and dtypes."""
        if not self._columns:
            for name, value in rows.items():
                self._columns[name] = torch.empty(self.capacity, *value.shape[1:], dtype=value.dtype, device=self.device)
        count = len(next(iter(rows.values())))
        places = (self._next + torch.arange(count, device=self.device)) % self.capacity
        for name, value in rows.items():
            self._columns[name].index_copy_(0, places, value)
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int) -> dict[str, Tensor]:
        """Random rows, with replacement."""
        rows = torch.randint(self.size, (count,), device=self.device)
        return {name: column.index_select(0, rows) for name, column in self._columns.items()}

    def column(self, name: str) -> Tensor:
        """All rows of one column, unordered."""
        return self._columns[name][: self.size]
