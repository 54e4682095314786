# SPDX-License-Identifier: Apache-2.0
"""Velocity of the dense latent occupancy grid given image tokens (docs/spec/networks.md 4.1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from genesis_server.networks.flow_transformer import Condition, FlowTransformer
from genesis_server.networks.positions import absolute_embedding, grid_positions, rotary_phases


class SparseStructureFlowModel(FlowTransformer):
    """Dense flow transformer on `resolution`^3 tokens."""

    def forward(self, x: Tensor, t: Tensor, cond: Condition) -> Tensor:
        """Velocity.

        Args:
            x: `[B, in, R, R, R]`, float32.
            t: `[B]`, 1000 times the time in [0, 1].
            cond: image tokens `[B, Lc, Cc]`, a list of `[Lc_b, Cc]`, or `project_context` of them.

        Returns:
            `[B, out, R, R, R]` in the dtype of x.
        """
        h, phases, mask = self._embed(x, None)
        return self._read(self._advance(h, t, cond, phases, mask), x)

    def _embed(self, x: Tensor, known: None) -> tuple[Tensor, Tensor | None, None]:
        h = self.input_layer(x.flatten(2).transpose(1, 2))
        if self.pe_mode == "rope":
            return h.to(self.dtype), _grid_phases(self.resolution, self.head_width, x.device), None
        return (h + _grid_embedding(self.resolution, self.model_channels, x.device)).to(self.dtype), None, None

    def _read(self, h: Tensor, x: Tensor) -> Tensor:
        return self._output(h, x.dtype).transpose(1, 2).reshape(len(x), self.out_channels, *x.shape[2:])


# Tables of fixed grids: recomputed instead of stored, kept for as long as the process works on few grid sizes. The dense
# model uses the default rotary frequencies whatever its configuration says.
@lru_cache(maxsize=4)
def _grid_phases(resolution: int, head_width: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return rotary_phases(grid_positions(resolution, device), head_width)[None]


@lru_cache(maxsize=4)
def _grid_embedding(resolution: int, channels: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return absolute_embedding(grid_positions(resolution, device), channels)
