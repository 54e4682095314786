# SPDX-License-Identifier: Apache-2.0
"""Normalisations (docs/spec/networks.md 3.1, 3.5): evaluated in float32, rounded once to the dtype of the stream."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from native_ext.head_norm import rms_norm

FINAL_EPS = 1e-5  # the affine-free norm before every output layer; block norms use 1e-6


# Fused layer norm gives each row a thread block of its own, which is mostly idle on narrow rows: in training the structure
# autoencoder on a GPU (docs/spec/mini.md 10) a step took 54 ms with it and 38 ms with the composed form.
_NARROW = 64


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _prefers_composed(x: Tensor, channels: int) -> bool:
    return x.is_cuda and channels <= _NARROW


def composed_layer_norm(x: Tensor, eps: float, dim: int = -1) -> Tensor:
    """Layer norm over an axis from elementary operations, without affine parameters."""
    centred = x - x.mean(dim, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim, keepdim=True) + eps)


def plain_layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer norm over the last axis without affine parameters."""
    if _prefers_composed(x, x.shape[-1]):
        return composed_layer_norm(_wide(x), eps).to(x.dtype)
    return F.layer_norm(_wide(x), x.shape[-1:], eps=eps).to(x.dtype)


class LayerNorm32(nn.LayerNorm):
    """Affine layer norm over the last axis with float32 parameters."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        if _prefers_composed(x, x.shape[-1]):
            return (composed_layer_norm(_wide(x), self.eps) * self.weight + self.bias).to(x.dtype)
        return super().forward(_wide(x)).to(x.dtype)


class ChannelLayerNorm32(LayerNorm32):
    """Layer norm over the channels of a dense volume `[B, C, X, Y, Z]`, eps 1e-5."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        if _prefers_composed(x, x.shape[1]):
            weight, bias = (p.view(-1, 1, 1, 1) for p in (self.weight, self.bias))
            return (composed_layer_norm(_wide(x), self.eps, dim=1) * weight + bias).to(x.dtype)
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
        return rms_norm(x, self.gamma)
