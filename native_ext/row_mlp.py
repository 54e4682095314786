# SPDX-License-Identifier: Apache-2.0
"""The feed-forward half of a ConvNeXt block on rows of features (docs/spec/networks.md 3.11), without gradient.

    y = x + W_down SiLU( W_up LN(h) + b_up ) + b_down

Hidden values are four times as wide as the stream. The reference makes them in parts and reads and writes them four times;
the kernel keeps them in the multiprocessor, which pays for the narrow, long levels of a decoder.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from native_ext.fast import infers_with_kernel
from native_ext.linear_silu import linear_silu
from native_ext.residual_norm import norm

_PART_ROWS = 1 << 18  # rows of the reference at a time: 268 MB of hidden values at the width 128, where rows are many


class Tiling(NamedTuple):
    """Rows of a program of the kernel, hidden values at a time, warps, pipeline stages."""

    rows: int
    hidden: int
    warps: int
    stages: int


# By the most channels that they are for, the fastest of ten on an H100 first; the second holds in 99 KiB, as of consumer GPUs.
_TILINGS = {128: (Tiling(64, 64, 4, 3), Tiling(64, 64, 4, 2)), 256: (Tiling(128, 32, 8, 3),)}


def tiling_for(channels: int, shared: int) -> Tiling | None:
    """The tiling of a width on a device.

    Args:
        shared: bytes that a program may have.

    Returns:
        None where the kernel does not fit or does not pay.
    """
    of_width = next((tilings for most, tilings in _TILINGS.items() if channels <= most), ())
    return next((tiling for tiling in of_width if shared_bytes(tiling, channels) <= shared), None)


def shared_bytes(tiling: Tiling, channels: int) -> int:
    """What a program keeps at most: its rows, a block of their hidden values, both weights of every pipeline stage."""
    rows, hidden, _, stages = tiling
    return 2 * (rows * channels + rows * hidden + 2 * stages * hidden * channels)


def add_row_mlp_(h: Tensor, x: Tensor, affine: nn.LayerNorm, up: nn.Linear, down: nn.Linear) -> Tensor:
    """`y` in the memory of h.

    Args:
        h: `[N, C]`, lost.
        x: `[N, C]`.
        affine: the norm's float32 weight and bias, and its epsilon.
        up, down: C to H and H to C, in the dtype of h.
    """
    tiling = tiling_for(h.shape[1], _shared_of(h.device)) if infers_with_kernel(h) and _fits(h, up) else None
    if tiling is not None:
        from native_ext import row_mlp_triton

        return row_mlp_triton.add_row_mlp_(h, x.contiguous(), affine, up, down, tiling)
    return reference_(h, x, affine, up, down)


def reference_(h: Tensor, x: Tensor, affine: nn.LayerNorm, up: nn.Linear, down: nn.Linear) -> Tensor:
    """`add_row_mlp_` in parts, product by product."""
    for rows in (slice(i, i + _PART_ROWS) for i in range(0, len(h), _PART_ROWS)):
        hidden = linear_silu(norm(h[rows], affine.weight, affine.bias, affine.eps), up)
        torch.add(x[rows], down(hidden), out=h[rows])
    return h


def _fits(h: Tensor, up: nn.Linear) -> bool:
    channels, hidden = up.in_features, up.out_features
    return (
        h.dtype == torch.float16  # what decoders use; no other has been tried
        and h.is_contiguous()
        and channels >= 16
        and channels & (channels - 1) == 0
        and hidden % 64 == 0
        and up.weight.dtype == h.dtype
    )


@cache
def _shared_of(device: torch.device) -> int:
    """Of a multiprocessor, for one program; the interpreter has no limit.

    None before Ampere: Triton does not use the matrix unit of those devices, and the products of the reference do.
    """
    if device.type != "cuda":
        return 1 << 30
    known = torch.cuda.get_device_properties(device)
    return known.shared_memory_per_block_optin if known.major >= 8 else 0
