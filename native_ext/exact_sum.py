# SPDX-License-Identifier: Apache-2.0
"""Sums of rows by index that are the same on every run (docs/spec/geometry.md 18.15, 20.5).

Adding floats in the order in which a GPU's threads arrive gives another last bit each time. Here values are turned into 64-bit
integers first, `round(v 2^k)` with the largest k at which no sum can overflow; integers may be added in any order. On the CPU
long sums are one pass of a kernel, to the same bits.
"""

from __future__ import annotations

import math

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_BITS = 62
_PIECE = 1 << 22  # rows that are turned into integers at a time, in three times their memory
_LONG = 1 << 14  # values; fewer are added sooner than a kernel is launched


@wp.kernel
def _add(
    index: wp.array(dtype=wp.int64),
    values: wp.array2d(dtype=wp.float64),
    scale: wp.float64,
    total: wp.array2d(dtype=wp.int64),
):
    i = wp.tid()
    row = index[i]
    for c in range(values.shape[1]):
        wp.atomic_add(total, int(row), c, wp.int64(wp.rint(values[i, c] * scale)))


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
    largest = float(torch.stack(values.aminmax()).abs().max())
    if largest == 0:
        return total.double()
    shift = _BITS - math.ceil(math.log2(largest)) - math.ceil(math.log2(len(values) + 1))
    factor = torch.tensor(shift, device=values.device)
    if values.device.type == "cpu" and values.numel() >= _LONG:
        wp.init()
        parts = [index.contiguous(), values.double().reshape(len(values), -1).contiguous(), 2.0**shift, total.view(count, -1)]
        given = [wp.from_torch(part) if isinstance(part, Tensor) else part for part in parts]
        wp.launch(_add, dim=len(values), inputs=given, device="cpu")
    else:
        for rows, part in zip(index.split(_PIECE), values.split(_PIECE), strict=True):
            total.index_add_(0, rows, torch.round(torch.ldexp(part.double(), factor)).long())
    return torch.ldexp(total.double(), -factor)
