# SPDX-License-Identifier: Apache-2.0
"""Sums of rows by index that are the same on every run (docs/spec/geometry.md 18.15, 20.5).

Adding floats in the order in which a GPU's threads arrive gives another last bit each time. Here values are turned into 64-bit
integers first, `round(v 2^k)` with the largest k at which no sum can overflow; integers may be added in any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BITS = 62
_PIECE = 1 << 22  # rows that are turned into integers at a time, in three times their memory


def exact_sum(index: Tensor, values: Tensor, count: int) -> Tensor:
    """Row sums by index.

    Args:
        index: int64 [n], 0 to count - 1.
        values: float [n] or [n, C], finite.
        count: rows of the result.

    Returns:
        float64 [count] or [count, C], exact to `n max|values| / 2^61`.
    """
    total = torch.zeros((count, *values.shape[1:]), dtype=torch.int64, device=values.device)
    if values.numel() == 0:
        return total.double()
    largest = max(abs(float(end)) for end in values.aminmax())
    if largest == 0:
        return total.double()
    shift = _BITS - math.ceil(math.log2(largest)) - math.ceil(math.log2(len(values) + 1))
    factor = torch.tensor(shift, device=values.device)
    for rows, part in zip(index.split(_PIECE), values.split(_PIECE), strict=True):
        total.index_add_(0, rows, torch.round(torch.ldexp(part.double(), factor)).long())
    return torch.ldexp(total.double(), -factor)
