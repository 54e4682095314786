# SPDX-License-Identifier: Apache-2.0
"""Velocity of the structured latent on the active voxels, shape or texture (docs/spec/networks.md 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.networks.flow_transformer import Condition, FlowTransformer
from genesis_server.networks.positions import absolute_embedding, rotary_phases
from genesis_server.sparse.padding import padding_of
from genesis_server.sparse.tensor import Level, SparseTensor


class SLatFlowModel(FlowTransformer):
    """Sparse flow transformer: one token per voxel; attention stays within a sample."""

    def forward(self, x: SparseTensor, t: Tensor, cond: Condition, concat_cond: SparseTensor | None = None) -> SparseTensor:
        """Velocity on the voxels of x.

        Args:
            x: `[N, C]`, the noisy latent; samples may have different numbers of voxels.
            t: `[B]`, 1000 times the time in [0, 1].
            cond: image tokens `[B, Lc, Cc]`, a list of `[Lc_b, Cc]`, or `project_context` of them.
            concat_cond: further channels on the same rows (the normalised shape latent of the texture model).

        Returns:
            `[N, out]` in the dtype of x.
        """
        feats = x.feats if concat_cond is None else torch.cat([x.feats, concat_cond.feats], dim=-1)
        h = self.input_layer(feats).to(self.dtype)
        padding = padding_of(x.level)
        phases = None
        if self.pe_mode == "ape":
            h = h + absolute_embedding(x.coords[:, 1:], self.model_channels).to(self.dtype)
        else:
            phases = self._phases(x.level)
        h = self._advance(padding.pad(h), t, cond, phases, padding.mask)
        return x.replace(self._output(padding.unpad(h), x.dtype))

    def _phases(self, level: Level) -> Tensor:
        """Rotary phases `[B, L, D/2, 2]` of the voxels, made once per level."""
        key = ("rotary", self.head_width, self.rope_freq)
        return level.derived(
            key, lambda: padding_of(level).pad(rotary_phases(level.coords[:, 1:], self.head_width, self.rope_freq))
        )
