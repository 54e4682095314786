# SPDX-License-Identifier: Apache-2.0
"""Taking rows that are all different: the gradient is a copy, where `index_select` has to add atomically."""

from __future__ import annotations

import torch
from torch import Tensor


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.count, *grad.shape[1:]).index_copy(0, rows, grad), None


def take_coords(coords: Tensor, rows: Tensor) -> Tensor:
    """`coords[rows]` for int32 `[N, 4]`; on a GPU the four as one value, where a gather of rows spends a block of threads."""
    if not coords.is_cuda:
        return coords[rows]
    return coords.view(torch.complex128)[:, 0][rows].unsqueeze(1).view(torch.int32)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]` for int64 `rows` without repetition; the gradient of a repeated row would be wrong."""
    return _TakeRows.apply(x, rows)
