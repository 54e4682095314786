# SPDX-License-Identifier: Apache-2.0
"""Triton implicit GEMM of the submanifold convolution; formulas in `submanifold_conv`.

A program owns a tile of output rows and channels and walks the taps that a row of the tile has (`tap_order`, where
given, makes them few), gathering input rows through the neighbour table straight into the matrix unit; float32
accumulation, one rounding. The weight gradient reduces over rows in chunks whose float32 partial sums are added in a
fixed order, so results are the same on every run. Offsets are 64-bit. Tiles come from a table by architecture and
channel counts: nothing is tuned at run time.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from native_ext.neighbours import TAPS
from native_ext.tap_order import TILE, TapOrder
from native_ext.tilings import Tiling, tile_size, tiling_for

_GRADIENT_PROGRAMS = 2048  # programs to aim at; enough to fill the largest device several times over
_PARTIAL_VALUES_MAX = 1 << 27  # float32 values of partial sums, 512 MiB
_L2_BYTES = 32 << 20  # weights larger than this are walked tile by tile, all rows for each


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def convolve(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbours: Tensor | TapOrder,
    tiling: Tiling | None = None,
) -> Tensor:
    """`[N, Ci]`, `[Co, 27, Ci]` -> `[N, Co]` in the dtype of `feats`; all contiguous, on one CUDA device.

    With the `TapOrder` of G groups the weights are `[G * Co, 27, Ci]`, and each row gets the channels of its group.
    """
    ordered = isinstance(neighbours, TapOrder)
    ci = feats.shape[1]
    groups = neighbours.groups if ordered else 1
    co = weight.shape[0] // groups
    count = neighbours.count if ordered else len(feats)
    out = torch.empty(count, co, dtype=feats.dtype, device=feats.device)
    if count == 0:
        return out
    if tiling is None:
        capability = _capability(feats.device) if feats.is_cuda else (9, 0)
        tiling = tiling_for(capability, feats.dtype, ci, co)
    places = len(neighbours.rows) if ordered else count
    row_tiles, co_tiles = triton.cdiv(places, tiling.rows), triton.cdiv(co, tiling.co)
    _convolve_kernel[(row_tiles * co_tiles,)](
        feats,
        weight,
        weight if bias is None else bias,
        neighbours.sources if ordered else neighbours.t().contiguous(),
        neighbours.rows if ordered else feats,
        neighbours.taps if ordered else feats,
        neighbours.active if ordered else feats,
        neighbours.group if ordered else feats,
        out,
        count,
        row_tiles,
        CI=ci,
        CO=co,
        ORDERED=ordered,
        HAS_BIAS=bias is not None,
        ROWS_FIRST=weight.numel() * weight.element_size() > _L2_BYTES,
        PRECISION=_precision(feats.dtype),
        TILE=TILE,
        ROWS=tiling.rows,
        BLOCK_CI=tiling.ci,
        BLOCK_CO=tiling.co,
        STEPS=triton.cdiv(ci, tiling.ci),
        CO_TILES=co_tiles,
        num_warps=tiling.warps,
        num_stages=tiling.stages,
    )
    return out


def weight_gradient(feats: Tensor, grad: Tensor, neighbours: Tensor) -> Tensor:
    """`[N, Ci]`, `[N, Co]` -> float32 `[Co, 27, Ci]`."""
    count, ci = feats.shape
    co = grad.shape[1]
    block_ci, block_co, step = tile_size(ci, 64), tile_size(co, 64), _inner(feats.dtype)
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


def _inner(dtype: torch.dtype) -> int:
    """Length of the contracted axis per step: two stages of both operands fit the 64 KiB of the oldest devices."""
    return 32 if dtype == torch.float32 else 64


def _precision(dtype: torch.dtype) -> str:
    """TF32 products for float32 inputs only where the user allows them for matrix products in general."""
    return "tf32" if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else "ieee"


@triton.jit(do_not_specialize=["count", "row_tiles"])
def _convolve_kernel(
    feats,
    weight,
    bias,
    sources,
    rows,
    taps,
    active,
    group,
    out,
    count,
    row_tiles,
    CI: tl.constexpr,
    CO: tl.constexpr,
    ORDERED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS_FIRST: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_CI: tl.constexpr,
    BLOCK_CO: tl.constexpr,
    STEPS: tl.constexpr,
    CO_TILES: tl.constexpr,
):
    program = tl.program_id(0)
    if ROWS_FIRST:
        row_tile = program % row_tiles
        co_tile = program // row_tiles
    else:
        row_tile = program // CO_TILES
        co_tile = program % CO_TILES
    lane = tl.arange(0, ROWS)
    place = row_tile.to(tl.int64) * ROWS + lane
    column = co_tile * BLOCK_CO + tl.arange(0, BLOCK_CO)
    column_exists = column < CO
    inner = tl.arange(0, BLOCK_CI)
    if ORDERED:
        tile = place // TILE  # one value: ROWS divides TILE
        first = row_tile.to(tl.int64) * ROWS // TILE
        walked = tl.load(active + first)
        base = sources + tile * (27 * TILE) + place % TILE
        weight_row = (tl.load(group + first) * CO + column).to(tl.int64)
        exists = place >= 0
        step = TILE
    else:
        first = 0
        walked = 27
        base = sources + place
        weight_row = column.to(tl.int64)
        exists = place < count
        step = count
    total = tl.zeros((ROWS, BLOCK_CO), dtype=tl.float32)
    for k in range(walked * STEPS):
        slot = k // STEPS
        channel = k % STEPS * BLOCK_CI + inner
        source = tl.load(base + slot.to(tl.int64) * step, mask=exists, other=-1)
        tap = slot
        if ORDERED:
            tap = tl.load(taps + first * 27 + slot)
        x = tl.load(
            feats + source.to(tl.int64)[:, None] * CI + channel[None, :],
            mask=(source >= 0)[:, None] & (channel < CI)[None, :],
            other=0.0,
        )
        w = tl.load(
            weight + (weight_row[None, :] * 27 + tap) * CI + channel[:, None],
            mask=(channel < CI)[:, None] & column_exists[None, :],
            other=0.0,
        )
        total = tl.dot(x, w, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + weight_row, mask=column_exists, other=0.0).to(tl.float32)[None, :]
    row = tl.load(rows + place).to(tl.int64) if ORDERED else place
    tl.store(
        out + row[:, None] * CO + column[None, :],
        total.to(out.dtype.element_ty),
        mask=((row >= 0) & (row < count))[:, None] & column_exists[None, :],
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
