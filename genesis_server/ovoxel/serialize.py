# SPDX-License-Identifier: Apache-2.0
"""Orders of grid cells along space-filling curves: Morton (z-order) and Hilbert codes (docs/spec/geometry.md 7).

Codes are int64 and hold any `bits` up to 20 per axis, x most significant; the published 30-bit codes are `bits=10`.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS_MAX = 20


def _check(coords: Tensor, bits: int) -> Tensor:
    if not 1 <= bits <= BITS_MAX:
        raise ValueError(f"{bits} bits per axis; 1 to {BITS_MAX} are possible")
    wide = coords.long()
    if len(wide) and (int(wide.min()) < 0 or int(wide.max()) >> bits):
        raise ValueError(f"coordinates {int(wide.min())} to {int(wide.max())} do not fit into {bits} bits")
    return wide


def _interleave(x: Tensor, y: Tensor, z: Tensor, bits: int) -> Tensor:
    code = torch.zeros_like(x)
    for j in range(bits):
        code |= (x >> j & 1) << (3 * j + 2) | (y >> j & 1) << (3 * j + 1) | (z >> j & 1) << (3 * j)
    return code


def morton_encode(coords: Tensor, bits: int = 10) -> Tensor:
    """int64 [N]: bit j of x, y, z at bits 3j+2, 3j+1, 3j.

    Args:
        coords: integer [N, 3] in [0, 2^bits).
        bits: per axis.

    Raises:
        ValueError: coordinates that do not fit.
    """
    return _interleave(*_check(coords, bits).unbind(1), bits)


def morton_decode(code: Tensor, bits: int = 10) -> Tensor:
    """Inverse of `morton_encode`: int32 [N, 3]."""
    code = code.long()
    axes = [torch.zeros_like(code) for _ in range(3)]
    for j in range(bits):
        for axis in range(3):
            axes[axis] |= (code >> (3 * j + 2 - axis) & 1) << j
    return torch.stack(axes, 1).int()


def hilbert_encode(coords: Tensor, bits: int = 10) -> Tensor:
    """int64 [N]: Hilbert index by Skilling's transpose method; arguments as for `morton_encode`."""
    axes = list(_check(coords, bits).unbind(1))
    for level in range(bits - 1, 0, -1):
        for axis in range(3):
            _skilling_step(axes, axis, level)
    axes[1] = axes[1] ^ axes[0]
    axes[2] = axes[2] ^ axes[1]
    twist = torch.zeros_like(axes[0])
    for level in range(bits - 1, 0, -1):
        twist ^= torch.where((axes[2] >> level & 1).bool(), (1 << level) - 1, 0)
    return _interleave(*(axis ^ twist for axis in axes), bits)


def hilbert_decode(code: Tensor, bits: int = 10) -> Tensor:
    """Inverse of `hilbert_encode`: int32 [N, 3]."""
    axes = list(morton_decode(code, bits).long().unbind(1))
    twist = axes[2] >> 1
    axes[2] = axes[2] ^ axes[1]
    axes[1] = axes[1] ^ axes[0]
    axes[0] = axes[0] ^ twist
    for level in range(1, bits):
        for axis in (2, 1, 0):
            _skilling_step(axes, axis, level)
    return torch.stack(axes, 1).int()


def _skilling_step(axes: list[Tensor], axis: int, level: int) -> None:
    """Invert the low bits of the first axis where bit `level` of `axis` is set, else exchange them with those of `axis`."""
    low = (1 << level) - 1
    is_set = (axes[axis] >> level & 1).bool()
    swap = torch.where(is_set, 0, (axes[0] ^ axes[axis]) & low)
    axes[0] = axes[0] ^ torch.where(is_set, low, swap)
    axes[axis] = axes[axis] ^ swap
