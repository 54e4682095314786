# SPDX-License-Identifier: Apache-2.0
"""Triton implicit GEMM of the submanifold convolution; formulas in `submanifold_conv`.

A program owns a tile of output rows and channels, walks the 27 taps, skips taps that no row of the tile has, and
gathers input rows through the neighbour table straight into the matrix unit; float32 accumulation, one rounding.
The weight gradient reduces over rows in chunks whose float32 partial sums are added in a fixed order, so results are
the same on every run. Offsets are 64-bit. Tiles come from the channel counts alone: nothing is tuned at run time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from native_ext.neighbours import TAPS

_ROWS = 64  # output rows of a tile: larger tiles skip fewer taps, smaller ones starve the matrix unit
_GRADIENT_PROGRAMS = 2048  # programs to aim at; enough to fill the largest device several times over
_PARTIAL_VALUES_MAX = 1 << 27  # float32 values of partial sums, 512 MiB


def convolve(feats: Tensor, weight: Tensor, bias: Tensor | None, neighbours: Tensor) -> Tensor:
    """`[N, Ci]`, `[Co, 27, Ci]` -> `[N, Co]` in the dtype of `feats`; all contiguous, on one CUDA device."""
    count, ci = feats.shape
    co = weight.shape[0]
    out = torch.empty(count, co, dtype=feats.dtype, device=feats.device)
    if count == 0:
        return out
    by_input = weight.permute(1, 2, 0).contiguous()  # [27, Ci, Co]: neighbouring lanes read neighbouring channels
    block_ci, block_co = _tile(ci, _inner(feats.dtype)), _tile(co, 128)
    grid = (triton.cdiv(count, _ROWS), triton.cdiv(co, block_co))
    _convolve_kernel[grid](
        feats,
        by_input,
        by_input if bias is None else bias,
        neighbours,
        out,
        count,
        ci,
        co,
        *neighbours.stride(),
        HAS_BIAS=bias is not None,
        PRECISION=_precision(feats.dtype),
        ROWS=_ROWS,
        BLOCK_CI=block_ci,
        BLOCK_CO=block_co,
        num_warps=4 if block_co <= 64 else 8,
        num_stages=2,
    )
    return out


def weight_gradient(feats: Tensor, grad: Tensor, neighbours: Tensor) -> Tensor:
    """`[N, Ci]`, `[N, Co]` -> float32 `[Co, 27, Ci]`."""
    count, ci = feats.shape
    co = grad.shape[1]
    block_ci, block_co, step = _tile(ci, 64), _tile(co, 64), _inner(feats.dtype)
    tiles = triton.cdiv(ci, block_ci) * triton.cdiv(co, block_co)
    chunks = max(1, min(_GRADIENT_PROGRAMS // (TAPS * tiles), triton.cdiv(count, 4 * step)))
    chunks = max(1, min(chunks, _PARTIAL_VALUES_MAX // (co * TAPS * ci)))
    rows = triton.cdiv(triton.cdiv(count, chunks), step) * step
    partial = torch.empty(chunks, co, TAPS, ci, dtype=torch.float32, device=feats.device)
    _weight_gradient_kernel[(TAPS, chunks, tiles)](
        feats,
        grad,
        neighbours,
        partial,
        count,
        rows,
        ci,
        co,
        *neighbours.stride(),
        PRECISION=_precision(feats.dtype),
        ROWS=step,
        BLOCK_CI=block_ci,
        BLOCK_CO=block_co,
        num_warps=4,
        num_stages=2,
    )
    return partial.sum(0)


def _tile(channels: int, largest: int) -> int:
    """Power of two that covers the channels, between what the matrix unit needs and what registers hold."""
    return max(16, min(largest, triton.next_power_of_2(channels)))


def _inner(dtype: torch.dtype) -> int:
    """Length of the contracted axis per step: two stages of both operands fit the 64 KiB of the oldest devices."""
    return 32 if dtype == torch.float32 else 64


def _precision(dtype: torch.dtype) -> str:
    """TF32 products for float32 inputs only where the user allows them for matrix products in general."""
    return "tf32" if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else "ieee"


@triton.jit
def _convolve_kernel(
    feats,
    weight,
    bias,
    neighbours,
    out,
    count,
    ci,
    co,
    table_row,
    table_tap,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_CI: tl.constexpr,
    BLOCK_CO: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * BLOCK_CO + tl.arange(0, BLOCK_CO)
    row_exists = rows < count
    column_exists = columns < co
    inner = tl.arange(0, BLOCK_CI)
    total = tl.zeros((ROWS, BLOCK_CO), dtype=tl.float32)
    for tap in range(27):
        source = tl.load(neighbours + rows * table_row + tap * table_tap, mask=row_exists, other=-1)
        if tl.max(source, axis=0) >= 0:
            hit = source >= 0
            source_row = feats + tl.where(hit, source, 0).to(tl.int64) * ci
            for start in range(0, ci, BLOCK_CI):
                channel = start + inner
                channel_exists = channel < ci
                x = tl.load(source_row[:, None] + channel[None, :], mask=hit[:, None] & channel_exists[None, :], other=0.0)
                w = tl.load(
                    weight + (tap * ci + channel[:, None]) * co + columns[None, :],
                    mask=channel_exists[:, None] & column_exists[None, :],
                    other=0.0,
                )
                total = tl.dot(x, w, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=column_exists, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + rows[:, None] * co + columns[None, :],
        total.to(out.dtype.element_ty),
        mask=row_exists[:, None] & column_exists[None, :],
    )


@triton.jit
def _weight_gradient_kernel(
    feats,
    grad,
    neighbours,
    partial,
    count,
    chunk_rows,
    ci,
    co,
    table_row,
    table_tap,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_CI: tl.constexpr,
    BLOCK_CO: tl.constexpr,
):
    tap = tl.program_id(0)
    chunk = tl.program_id(1).to(tl.int64)
    tiles_ci = tl.cdiv(ci, BLOCK_CI)
    channel_in = tl.program_id(2) % tiles_ci * BLOCK_CI + tl.arange(0, BLOCK_CI)
    channel_out = tl.program_id(2) // tiles_ci * BLOCK_CO + tl.arange(0, BLOCK_CO)
    in_exists = channel_in < ci
    out_exists = channel_out < co
    total = tl.zeros((BLOCK_CO, BLOCK_CI), dtype=tl.float32)
    for start in range(0, chunk_rows, ROWS):
        rows = chunk * chunk_rows + start + tl.arange(0, ROWS)
        source = tl.load(neighbours + rows * table_row + tap * table_tap, mask=rows < count, other=-1)
        hit = source >= 0
        source_row = feats + tl.where(hit, source, 0).to(tl.int64) * ci
        x = tl.load(source_row[:, None] + channel_in[None, :], mask=hit[:, None] & in_exists[None, :], other=0.0)
        dy = tl.load(grad + rows[None, :] * co + channel_out[:, None], mask=hit[None, :] & out_exists[:, None], other=0.0)
        total = tl.dot(dy, x, total, input_precision=PRECISION)
    tl.store(
        partial + ((chunk * co + channel_out[:, None]) * 27 + tap) * ci + channel_in[None, :],
        total,
        mask=out_exists[:, None] & in_exists[None, :],
    )
