# SPDX-License-Identifier: Apache-2.0
"""Triton kernel of `head_norm`; formulas there. A program owns all heads of one part of a few rows, and works in place."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

_ROWS = 4  # of a program: the gains, as large as two rows, are loaded once for them


def norm_rotate_(x: Tensor, gammas: tuple[Tensor | None, ...], phases: Tensor | None) -> tuple[Tensor, ...]:
    """See `native_ext.head_norm.norm_rotate_`."""
    samples, length, parts, heads, width = x.shape
    first = gammas[0]
    last = gammas[-1]
    if (first is None) != (last is None) or len(gammas) > 2:
        raise ValueError(f"{len(gammas)} parts, of which some have no gamma")
    if x.numel():
        _norm_rotate_kernel[(triton.cdiv(samples * length, _ROWS), len(gammas))](
            x,
            x if first is None else first,
            x if last is None else last,
            x if phases is None else phases.contiguous(),
            samples * length,
            length,
            0 if phases is None or phases.shape[0] == 1 else length * width,
            PARTS=parts,
            HEADS=heads,
            HEAD_BLOCK=triton.next_power_of_2(heads),
            WIDTH=width,
            ROOT=float(width) ** 0.5,
            NORMALISE=first is not None,
            ROTATE=phases is not None,
            ROWS=_ROWS,
            num_warps=4,
        )
    return x.unbind(2)


@triton.jit(do_not_specialize=["count", "length", "phases_batch"])
def _norm_rotate_kernel(
    x,
    gamma_first,
    gamma_last,
    phases,
    count,
    length,
    phases_batch,
    PARTS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
    ROOT: tl.constexpr,
    NORMALISE: tl.constexpr,
    ROTATE: tl.constexpr,
    ROWS: tl.constexpr,
):
    part = tl.program_id(1)
    lane = tl.arange(0, WIDTH)
    place = tl.arange(0, HEAD_BLOCK)[:, None] * WIDTH + lane[None, :]
    exists = place < HEADS * WIDTH
    if NORMALISE:
        first = tl.load(gamma_first + place, mask=exists, other=0.0)
        last = tl.load(gamma_last + place, mask=exists, other=0.0)
        gain = tl.where(part == 0, first, last) * ROOT
    for index in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + index
        here = x + (row * PARTS + part) * (HEADS * WIDTH) + place
        inside = exists & (row + place * 0 < count)
        v = tl.load(here, mask=inside, other=0.0).to(tl.float32)
        if NORMALISE:
            size = tl.sqrt(tl.sum(v * v, axis=1))[:, None]
            v = v / tl.maximum(size, 1e-12) * gain
            v = v.to(x.dtype.element_ty).to(tl.float32)
        if ROTATE:
            even, odd = tl.split(tl.reshape(v, (HEAD_BLOCK, WIDTH // 2, 2)))
            angle = phases + row // length * phases_batch + row % length * WIDTH + lane
            cos, sin = tl.split(tl.reshape(tl.load(angle, mask=row + lane * 0 < count, other=0.0), (WIDTH // 2, 2)))
            cos = cos[None, :]
            sin = sin[None, :]
            v = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (HEAD_BLOCK, WIDTH))
        tl.store(here, v.to(x.dtype.element_ty), mask=inside)
