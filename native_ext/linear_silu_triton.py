# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `linear_silu`; formula there. A program owns a tile of rows and outputs; the tiles of the same rows run side
by side, so that rows are read from the cache but for the first of them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from native_ext.linear_silu import Tiling


def linear_silu(x: Tensor, linear: nn.Linear, tiling: Tiling) -> Tensor:
    """See `native_ext.linear_silu.linear_silu`; the tiling divides the channels."""
    count, outputs = len(x), linear.out_features
    out = torch.empty(count, outputs, dtype=x.dtype, device=x.device)
    if count:
        _linear_silu_kernel[(triton.cdiv(count, tiling.rows) * (outputs // tiling.outputs),)](
            x,
            linear.weight,
            linear.bias,
            out,
            count,
            INPUTS=linear.in_features,
            OUTPUTS=outputs,
            ROWS=tiling.rows,
            BLOCK=tiling.outputs,
            STEP=tiling.inputs,
            num_warps=tiling.warps,
            num_stages=tiling.stages,
        )
    return out


@triton.jit(do_not_specialize=["count"])
def _linear_silu_kernel(
    x,
    weight,
    bias,
    out,
    count,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
):
    tiles: tl.constexpr = OUTPUTS // BLOCK
    row = tl.program_id(0).to(tl.int64) // tiles * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inner = tl.arange(0, STEP)
    read = tl.minimum(row, count - 1)  # rows behind the end are computed and not stored: no mask in the loop
    left = x + read[:, None] * INPUTS + inner[None, :]
    right = weight + column[None, :].to(tl.int64) * INPUTS + inner[:, None]
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, INPUTS, STEP):
        total = tl.dot(tl.load(left + start), tl.load(right + start), total)
    total += tl.load(bias + column).to(tl.float32)[None, :]
    total = total.to(out.dtype.element_ty).to(tl.float32)
    total = total * tl.sigmoid(total)
    place = out + row[:, None] * OUTPUTS + column[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=(row < count)[:, None])
