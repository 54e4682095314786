# SPDX-License-Identifier: Apache-2.0
"""Normalisations (docs/spec/networks.md 3.1, 3.5): evaluated in float32, rounded once to the dtype of the stream."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINAL_EPS = 1e-5  # the affine-free norm before every output layer; block norms use 1e-6


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def plain_layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer norm over the last axis without affine parameters."""
    return F.layer_norm(_wide(x), x.shape[-1:], eps=eps).to(x.dtype)


class LayerNorm32(nn.LayerNorm):
    """Affine layer norm over the last axis with float32 parameters."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_wide(x)).to(x.dtype)


class ChannelLayerNorm32(LayerNorm32):
    """Layer norm over the channels of a dense volume `[B, C, X, Y, Z]`, eps 1e-5."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GroupNorm32(nn.GroupNorm):
    """Group norm of 32 groups with float32 parameters, eps 1e-5."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_wide(x)).to(x.dtype)


class MultiHeadRMSNorm(nn.Module):
    """`v / max(|v|, 1e-12) * gamma * sqrt(D)` on `[..., H, D]`: no epsilon inside the mean."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_width))

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(_wide(x), dim=-1) * self.gamma * math.sqrt(x.shape[-1])).to(x.dtype)
