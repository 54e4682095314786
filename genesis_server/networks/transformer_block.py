# SPDX-License-Identifier: Apache-2.0
"""The modulated transformer block of the flow models, dense and sparse alike (docs/spec/networks.md 3.7, 3.8).

A block leaves its last residual branch to whoever comes next: adding it and normalising the sum for the next
branch is one pass over the stream (`native_ext.residual_norm`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genesis_server.networks.attention import BlockContext, CrossAttention, SelfAttention
from genesis_server.networks.norms import LayerNorm32
from native_ext.fast import infers_with_kernel
from native_ext.float8_product import FORMAT
from native_ext.residual_norm import residual_norm


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
        if self.mlp[0].weight.dtype == FORMAT:
            return self.mlp[2](self.mlp[0](x), gelu=True)  # rounding to 8 bits takes the activation along
        if x.is_cuda and infers_with_kernel(x):
            up, _, down = self.mlp
            # the activation rides on the product: one pass over the hidden values less in each direction
            hidden = torch._addmm_activation(up.bias, x.flatten(0, -2), up.weight.t(), use_gelu=True)
            return down(hidden).view(x.shape)
        return self.mlp(x)


class Modulation(NamedTuple):
    """What the timestep does to a block, each `[B, C]` in the torso dtype; `scale` includes the 1."""

    shift_attention: Tensor
    scale_attention: Tensor
    gate_attention: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor

    def of(self, samples: slice) -> Modulation:
        """Of some of the samples."""
        return Modulation(*(_of(vector, samples) for vector in self))


def modulations(vectors: Tensor) -> list[Modulation]:
    """Those of all blocks from their vectors `[blocks, B, 6C]`; for all at once, because every launch costs time."""
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = vectors.chunk(6, dim=-1)
    parts = (shift_1, 1 + scale_1, gate_1, shift_2, 1 + scale_2, gate_2)
    return [Modulation(*of_block) for of_block in zip(*(part.unbind(0) for part in parts), strict=True)]


class Pending(NamedTuple):
    """A residual branch that is still to be added to the stream: `gate * branch`."""

    branch: Tensor
    gate: Tensor

    def added_to(self, h: Tensor) -> Tensor:
        """`h + gate * branch`."""
        return h + self.gate.unsqueeze(1) * self.branch

    def of(self, samples: slice) -> Pending:
        """Of some of the samples."""
        return Pending(self.branch[samples], _of(self.gate, samples))


def _of(vector: Tensor, samples: slice) -> Tensor:
    """Rows of `[B, C]`; a single one is that of all samples."""
    return vector if len(vector) == 1 else vector[samples]


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
        pending: Pending | None,
        modulation: Modulation,
        context: BlockContext,
        phases: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Pending]:
        """Advance the stream.

        Args:
            h: `[B, L, C]`.
            pending: what the block before left to be added.
            modulation: of this block.
            context: `cross_attn.project_context` of the image tokens.
            phases: rotary phases `[B or 1, L, D/2, 2]` or None.
            mask: bool `[B, 1, 1, L]`, the rows that exist, or None for all.

        Returns:
            The stream, and the branch to be added to it.
        """
        h, pending = self.look_around(h, pending, modulation, phases, mask)
        return self.look_at_pictures(h, pending, modulation, context)

    def look_around(
        self, h: Tensor, pending: Pending | None, modulation: Modulation, phases: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Pending]:
        """The first part of `forward`, which sees no picture: self-attention."""
        branch, gate = pending or (None, None)
        h, x = residual_norm(h, modulation.scale_attention, modulation.shift_attention, branch, gate)
        return h, Pending(self.self_attn(x, phases, mask), modulation.gate_attention)

    def look_at_pictures(
        self, h: Tensor, pending: Pending, modulation: Modulation, context: BlockContext
    ) -> tuple[Tensor, Pending]:
        """The rest of `forward`: cross-attention and feed-forward."""
        m, (branch, gate) = modulation, pending
        if context.keys_values is None:
            h, x = residual_norm(h, m.scale_mlp, m.shift_mlp, branch, gate, context.constant)
        elif not context.blind:
            h, x = self._seen(h, pending, m, context)
        else:  # the samples that see nothing need no norm for queries that they do not have
            sees, nothing = slice(len(h) - context.blind), slice(len(h) - context.blind, None)
            after, x = torch.empty_like(h), torch.empty_like(h)
            self._seen(h[sees], pending.of(sees), m.of(sees), context, (after[sees], x[sees]))
            (branch, gate), m = pending.of(nothing), m.of(nothing)
            out = after[nothing], x[nothing]
            residual_norm(h[nothing], m.scale_mlp, m.shift_mlp, branch, gate, context.constant, out=out)
            h = after
        return h, Pending(self.mlp(x), modulation.gate_mlp)

    def _seen(
        self, h: Tensor, pending: Pending, m: Modulation, context: BlockContext, out: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Stream and norm after cross-attention of samples that all see a picture."""
        h, x = residual_norm(h, self.norm2.weight, self.norm2.bias, *pending, eps=self.norm2.eps)
        return residual_norm(h, m.scale_mlp, m.shift_mlp, self.cross_attn(x, context), out=out)
