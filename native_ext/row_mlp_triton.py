# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `row_mlp`; formula there. A program owns a few whole rows and walks the hidden values in blocks."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor, nn

from native_ext.row_mlp import Tiling


def add_row_mlp_(h: Tensor, x: Tensor, affine: nn.LayerNorm, up: nn.Linear, down: nn.Linear, tiling: Tiling) -> Tensor:
    """See `native_ext.row_mlp.add_row_mlp_`."""
    count, channels = h.shape
    if count:
        _row_mlp_kernel[(triton.cdiv(count, tiling.rows),)](
            h,
            x,
            affine.weight,
            affine.bias,
            up.weight,
            up.bias,
            down.weight,
            down.bias,
            count,
            affine.eps,
            CHANNELS=channels,
            HIDDEN=up.out_features,
            ROWS=tiling.rows,
            BLOCK=min(tiling.hidden, up.out_features),
            STAGES=tiling.stages,
            num_warps=tiling.warps,
        )
    return h


@triton.jit(do_not_specialize=["count"])
def _row_mlp_kernel(
    h,
    x,
    norm_weight,
    norm_bias,
    up_weight,
    up_bias,
    down_weight,
    down_bias,
    count,
    eps,
    CHANNELS: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    lane = tl.arange(0, BLOCK)
    exists = (row < count)[:, None]
    place = row[:, None] * CHANNELS + channel[None, :]
    value = tl.load(h + place, mask=exists, other=0.0).to(tl.float32)
    centred = value - tl.sum(value, axis=1)[:, None] / CHANNELS
    variance = tl.sum(centred * centred, axis=1)[:, None] / CHANNELS
    normal = centred * tl.rsqrt(variance + eps)
    normal = normal * tl.load(norm_weight + channel)[None, :] + tl.load(norm_bias + channel)[None, :]
    normal = normal.to(h.dtype.element_ty)
    total = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
    for start in tl.range(0, HIDDEN, BLOCK, num_stages=STAGES):
        column = start + lane
        into = tl.load(up_weight + column[None, :] * CHANNELS + channel[:, None])
        hidden = tl.dot(normal, into) + tl.load(up_bias + column).to(tl.float32)[None, :]
        hidden = hidden.to(h.dtype.element_ty).to(tl.float32)
        hidden = (hidden * tl.sigmoid(hidden)).to(h.dtype.element_ty)
        out_of = tl.load(down_weight + channel[None, :] * HIDDEN + column[:, None])
        total = tl.dot(hidden, out_of, total)
    total += tl.load(down_bias + channel).to(tl.float32)[None, :]
    total = total.to(h.dtype.element_ty).to(tl.float32) + tl.load(x + place, mask=exists, other=0.0).to(tl.float32)
    tl.store(h + place, total.to(h.dtype.element_ty), mask=exists)
