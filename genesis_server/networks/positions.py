# SPDX-License-Identifier: Apache-2.0
"""Position embeddings of voxels: rotary (docs/spec/networks.md 3.4) and absolute (3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

DEFAULT_ROPE = (1.0, 10000.0)


def rotary_phases(positions: Tensor, head_width: int, freq: tuple[float, float] = DEFAULT_ROPE) -> Tensor:
    """Cosines and sines of the rotation angles.

    Args:
        positions: integer `[..., 3]` voxel indices, not normalised.
        head_width: D, even.
        freq: (r0, r1) of `f_j = r0 / r1^(j/n)`.

    Returns:
        float32 `[..., D/2, 2]`; blocks for x, y, z, then identity pairs up to D/2.
    """
    pairs = head_width // 2
    count = pairs // 3
    frequencies = freq[0] / freq[1] ** (torch.arange(count, dtype=torch.float32, device=positions.device) / count)
    angles = (positions[..., None].float() * frequencies).flatten(-2)
    angles = torch.nn.functional.pad(angles, (0, pairs - 3 * count))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def absolute_embedding(positions: Tensor, channels: int) -> Tensor:
    """Sines and cosines of each axis in turn, float32 `[N, channels]`, zero-padded."""
    count = channels // 3 // 2
    frequencies = 1.0 / 10000 ** (torch.arange(count, dtype=torch.float32, device=positions.device) / count)
    angles = positions[..., None].float() * frequencies
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return torch.nn.functional.pad(table, (0, channels - table.shape[-1]))


def grid_positions(resolution: int, device: torch.device) -> Tensor:
    """int64 `[R^3, 3]` indices of a dense grid in C-order."""
    axis = torch.arange(resolution, device=device)
    return torch.cartesian_prod(axis, axis, axis)
