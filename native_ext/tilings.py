# SPDX-License-Identifier: Apache-2.0
"""How a sparse convolution is cut into tiles on each generation of GPUs: built in, so that nothing is tuned at run time.

Hopper's were measured (docs/performance.md); the others follow from what a multiprocessor holds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Tiling(NamedTuple):
    """How a convolution is cut: output rows, output channels and input channels of a tile, warps, pipeline stages."""

    rows: int
    co: int
    ci: int
    warps: int
    stages: int


# Half precision, by the first compute capability that they are for. What bounds them is shared memory: 64 KiB per program
# on Turing, 99 on consumer Ampere and Ada and Blackwell, 163 on A100, 227 on Hopper and the large Blackwell.
_HALF_TILINGS = {
    (7, 5): Tiling(
        64, 64, 16, 4, 2
    ),  # without the matrix unit, which Triton does not use there; the largest that does not spill
    (8, 0): Tiling(128, 128, 32, 8, 4),
    (8, 6): Tiling(128, 128, 32, 8, 3),
    (9, 0): Tiling(128, 128, 64, 4, 3),
    (10, 0): Tiling(128, 128, 64, 8, 4),
    (12, 0): Tiling(128, 128, 32, 8, 3),
}
_SINGLE_TILING = Tiling(64, 64, 32, 4, 2)  # float32 products without TF32 use no matrix unit; a small tile spills least


def shared_bytes(tiling: Tiling, value_bytes: int) -> int:
    """What a program keeps in shared memory: both operands of every pipeline stage."""
    return tiling.stages * tiling.ci * (tiling.rows + tiling.co) * value_bytes


def tiling_for(capability: tuple[int, int], dtype: torch.dtype, ci: int, co: int) -> Tiling:
    """The tiling of a width on an architecture."""
    if dtype == torch.float32:
        chosen = _SINGLE_TILING
    else:
        chosen = _HALF_TILINGS[max(known for known in _HALF_TILINGS if known <= max(capability, (7, 5)))]
    block_co = tile_size(co, chosen.co)
    return chosen._replace(co=block_co, ci=tile_size(ci, chosen.ci), warps=min(chosen.warps, 4 if block_co <= 64 else 8))


def tile_size(channels: int, largest: int) -> int:
    """Power of two that covers the channels, between what the matrix unit needs and what registers hold."""
    return max(16, min(largest, 1 << (channels - 1).bit_length()))
