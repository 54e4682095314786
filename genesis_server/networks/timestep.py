# SPDX-License-Identifier: Apache-2.0
"""Timestep embedding of the flow models (docs/spec/networks.md 3.2); float32 throughout."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def timestep_frequencies(t: Tensor, width: int) -> Tensor:
    """`[B]` (the samplers pass 1000 t) to `[B, width]`: cosines first, then sines; an odd width ends in a zero."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.nn.functional.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


class TimestepEmbedder(nn.Module):
    """Two linear layers on the frequencies of t: `[B]` to `[B, channels]`."""

    def __init__(self, channels: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_frequencies(t, self.frequencies))
