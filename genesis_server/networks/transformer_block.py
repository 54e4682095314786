# SPDX-License-Identifier: Apache-2.0
"""The modulated transformer block of the flow models, dense and sparse alike (docs/spec/networks.md 3.7, 3.8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genesis_server.networks.attention import CrossAttention, KeyValue, SelfAttention
from genesis_server.networks.norms import LayerNorm32, plain_layer_norm


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, channels: int, ratio: float, dtype: torch.dtype) -> None:
        super().__init__()
        hidden = int(channels * ratio)  # truncated: 1536 * 5.3334 is 8192
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, dtype=dtype),
            nn.GELU(approximate="tanh"),
            nn.Linear(hidden, channels, dtype=dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class ModulatedBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward; the first and last modulated by the timestep.

    Args:
        channels, context_channels, heads, mlp_ratio: widths.
        share_mod: the modulation vector comes from the network and the block adds its own; otherwise the block
            projects the time embedding itself.
        qk_rms_norm, qk_rms_norm_cross: normalise queries and keys per head.
        dtype: of the linear layers; norms and `modulation` stay float32.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        heads: int,
        mlp_ratio: float,
        share_mod: bool,
        qk_rms_norm: bool,
        qk_rms_norm_cross: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.share_mod = share_mod
        self.norm2 = LayerNorm32(channels)
        self.self_attn = SelfAttention(channels, heads, qk_rms_norm, dtype)
        self.cross_attn = CrossAttention(channels, context_channels, heads, qk_rms_norm_cross, dtype)
        self.mlp = FeedForward(channels, mlp_ratio, dtype)
        if share_mod:
            self.modulation = nn.Parameter(torch.zeros(6 * channels))
        else:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels, dtype=dtype))

    def forward(
        self,
        h: Tensor,
        modulation: Tensor,
        context: KeyValue,
        context_mask: Tensor | None,
        phases: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Advance the stream.

        Args:
            h: `[B, L, C]`.
            modulation: `[B, 6C]` with `share_mod`, else the time embedding `[B, C]`.
            context: `cross_attn.project_context` of the image tokens.
            context_mask: bool `[B, 1, 1, Lc]` or None.
            phases: rotary phases `[B or 1, L, D/2, 2]` or None.
            mask: bool `[B, 1, 1, L]`, the rows that exist, or None for all.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self._vectors(modulation).unsqueeze(1).chunk(6, dim=-1)
        h = h + gate_1 * self.self_attn(plain_layer_norm(h) * (1 + scale_1) + shift_1, phases, mask)
        h = h + self.cross_attn(self.norm2(h), context, context_mask)
        return h + gate_2 * self.mlp(plain_layer_norm(h) * (1 + scale_2) + shift_2)

    def _vectors(self, modulation: Tensor) -> Tensor:
        """The block's six modulation vectors side by side, `[B, 6C]`."""
        if self.share_mod:
            return (self.modulation + modulation).to(modulation.dtype)
        return self.adaLN_modulation(modulation)
