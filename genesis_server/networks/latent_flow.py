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
        h, phases, mask = self._embed(x, concat_cond)
        return x.replace(self._read(self._advance(h, t, cond, phases, mask), x))

    def _embed(self, x: SparseTensor, known: SparseTensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        feats = x.feats if known is None else torch.cat([x.feats, known.feats], dim=-1)
        h, padding = self.input_layer(feats).to(self.dtype), padding_of(x.level)
        if self.pe_mode == "rope":
            return padding.pad(h), self._phases(x.level), padding.mask
        h = h + absolute_embedding(x.coords[:, 1:], self.model_channels).to(self.dtype)
        return padding.pad(h), None, padding.mask

    def _read(self, h: Tensor, x: SparseTensor) -> Tensor:
        return self._output(padding_of(x.level).unpad(h), x.dtype)

    def _phases(self, level: Level) -> Tensor:
        """Rotary phases `[B, L, D/2, 2]` of the voxels, made once per level."""
        key = ("rotary", self.head_width, self.rope_freq)
        return level.derived(
            key, lambda: padding_of(level).pad(rotary_phases(level.coords[:, 1:], self.head_width, self.rope_freq))
        )
