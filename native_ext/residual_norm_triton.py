# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `residual_norm`; formulas there. A program owns whole rows, several where they are narrow."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE_VALUES = 2048  # values of one program: 16 per thread of four warps, two 16-byte loads of half precision
_TILE_ROWS_MAX = 64


def residual_norm(
    h: Tensor,
    scale: Tensor,
    shift: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    offset: Tensor | None,
    eps: float,
    dtype: torch.dtype | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """See `native_ext.residual_norm.residual_norm`."""
    h = h.contiguous()
    branch = None if branch is None else branch.contiguous()
    unchanged = branch is None and offset is None
    updated, y = out or (h if unchanged else torch.empty_like(h), torch.empty_like(h, dtype=dtype))
    if out and unchanged:
        updated.copy_(h)
    _launch(h, branch, gate, offset, scale, shift, updated, y, h.shape[1], eps, False)
    return updated, y


def norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, silu: bool, overwrite: bool = False) -> Tensor:
    """See `native_ext.residual_norm.norm`."""
    x = x.contiguous()
    out = x if overwrite else torch.empty_like(x)
    _launch(x, None, None, None, weight, bias, x, out, max(1, x.numel() // x.shape[-1]), eps, silu)
    return out


def _launch(h, branch, gate, offset, scale, shift, updated, out, length: int, eps: float, silu: bool) -> None:
    channels = h.shape[-1]
    count = h.numel() // channels
    if count == 0:
        return
    block = triton.next_power_of_2(channels)
    rows = max(1, min(_TILE_ROWS_MAX, _TILE_VALUES // block))
    _residual_norm_kernel[(triton.cdiv(count, rows),)](
        h,
        h if branch is None else branch,
        h if gate is None else gate,
        h if offset is None else offset,
        h if scale is None else scale,
        h if shift is None else shift,
        updated,
        out,
        count,
        length,
        _batch_stride(gate),
        _batch_stride(scale),
        _batch_stride(shift),
        eps,
        CHANNELS=channels,
        HAS_BRANCH=branch is not None,
        HAS_GATE=gate is not None,
        HAS_OFFSET=offset is not None,
        AFFINE=scale is not None,
        SILU=silu,
        ROWS=rows,
        BLOCK=block,
        num_warps=4 if block <= 2048 else 8,
    )


def _batch_stride(vector: Tensor | None) -> int:
    """Values between the vectors of two samples; 0 where all share one."""
    return 0 if vector is None or vector.ndim == 1 or vector.shape[0] == 1 else vector.stride(0)


@triton.jit(do_not_specialize=["count", "length", "gate_batch", "scale_batch", "shift_batch"])
def _residual_norm_kernel(
    h,
    branch,
    gate,
    offset,
    scale,
    shift,
    updated,
    out,
    count,
    length,
    gate_batch,
    scale_batch,
    shift_batch,
    eps,
    CHANNELS: tl.constexpr,
    HAS_BRANCH: tl.constexpr,
    HAS_GATE: tl.constexpr,
    HAS_OFFSET: tl.constexpr,
    AFFINE: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)[None, :]
    inside = column < CHANNELS
    exists = (row < count)[:, None] & inside
    place = row[:, None] * CHANNELS + column
    sample = (row // length)[:, None]
    x = tl.load(h + place, mask=exists, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        added = tl.load(branch + place, mask=exists, other=0.0).to(tl.float32)
        if HAS_GATE:
            added *= tl.load(gate + sample * gate_batch + column, mask=exists, other=0.0).to(tl.float32)
        x += added
    if HAS_OFFSET:
        x += tl.load(offset + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_BRANCH or HAS_OFFSET:
        rounded = x.to(updated.dtype.element_ty)
        tl.store(updated + place, rounded, mask=exists)
        x = rounded.to(tl.float32)
    mean = tl.sum(x, axis=1)[:, None] / CHANNELS
    centred = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=1)[:, None] / CHANNELS
    y = centred * tl.rsqrt(variance + eps)
    if AFFINE:
        y *= tl.load(scale + sample * scale_batch + column, mask=exists, other=0.0).to(tl.float32)
        y += tl.load(shift + sample * shift_batch + column, mask=exists, other=0.0).to(tl.float32)
    if SILU:
        y *= tl.sigmoid(y)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=exists)
