# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `float8_product`: a program reads a row once, finds its scale and rounds it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def quantize_rows(x: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """See `native_ext.float8_product.quantize_rows`."""
    count, width = x.shape
    out = torch.empty(count, width, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(count, 1, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(width)
    if count:
        _quantize_kernel[(count,)](x, out, scale, WIDTH=width, BLOCK=block, GELU=gelu, num_warps=4 if block <= 2048 else 8)
    return out, scale


@triton.jit
def _quantize_kernel(x, out, scale, WIDTH: tl.constexpr, BLOCK: tl.constexpr, GELU: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    value = tl.load(x + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    if GELU:  # 0.5 (1 + tanh u) is the logistic function of 2u
        value *= tl.sigmoid(1.5957691216057308 * (value + 0.044715 * value * value * value))
    size = tl.maximum(tl.max(tl.abs(value), axis=0), 1e-12) / 448.0
    tl.store(scale + row, size)
    rounded = tl.minimum(tl.maximum(value / size, -448.0), 448.0)
    tl.store(out + row * WIDTH + column, rounded.to(out.dtype.element_ty), mask=inside)
