# SPDX-License-Identifier: Apache-2.0
"""The shape autoencoder: latent to dual-grid voxels and back (docs/spec/networks.md 6.3, 6.4).

The decoder ends at voxels; making a mesh of them is the business of the O-Voxel room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genesis_server.networks.sparse_unet import SparseUnetVaeDecoder, SparseUnetVaeEncoder
from genesis_server.sparse.tensor import SparseTensor


@dataclass(frozen=True)
class DualGridVoxels:
    """What the shape decoder says about each voxel of the finest level, all samples together.

    Attributes:
        raw: `[N, 7]` before the output non-linearities (for training losses); its level has coordinates and samples.
        vertices: `[N, 3]`, offset of the dual vertex from the voxel's integer corner, in voxels, in (-margin, 1+margin).
        intersected: bool `[N, 3]`, whether the surface crosses the voxel's edges along x, y, z.
        quad_lerp: `[N, 1]`, positive split weight.
        subs: subdivision logits `[N_i, 8]` per up block, to guide the texture decoder.
    """

    raw: SparseTensor
    vertices: Tensor
    intersected: Tensor
    quad_lerp: Tensor
    subs: list[SparseTensor]

    @property
    def coords(self) -> Tensor:
        """int32 `[N, 4]`, (sample, x, y, z)."""
        return self.raw.coords


class FlexiDualGridVaeDecoder(SparseUnetVaeDecoder):
    """Shape latent to dual-grid voxels.

    Args:
        resolution: grid side that the configuration names; the network never reads it.
        voxel_margin: how far a vertex may leave its voxel, in voxels.
        others: see `SparseUnetVaeDecoder`.
    """

    def __init__(self, resolution: int, voxel_margin: float = 0.5, **unet: Any) -> None:
        super().__init__(out_channels=7, pred_subdiv=True, **unet)
        self.resolution = resolution
        self.voxel_margin = voxel_margin

    def forward(self, x: SparseTensor, subdivisions: list[Tensor] | None = None, tiles: int = 1) -> DualGridVoxels:
        """Decode `[N, latent]`; `subdivisions` bool `[N_i, 8]` forces the children of each up block (training)."""
        raw, subs = super().forward(x, return_subs=True, subdivisions=subdivisions, tiles=tiles)
        margin = self.voxel_margin
        return DualGridVoxels(
            raw=raw,
            vertices=(1 + 2 * margin) * torch.sigmoid(raw.feats[:, 0:3]) - margin,
            intersected=raw.feats[:, 3:6] > 0,
            quad_lerp=F.softplus(raw.feats[:, 6:7]),
            subs=subs,
        )


class FlexiDualGridVaeEncoder(SparseUnetVaeEncoder):
    """Dual-grid voxels to the posterior of the shape latent."""

    def __init__(self, **unet: Any) -> None:
        super().__init__(in_channels=6, **unet)

    def forward(self, vertices: SparseTensor, intersected: Tensor) -> tuple[SparseTensor, SparseTensor]:
        """Mean and log-variance.

        Args:
            vertices: float32 `[N, 3]`, offsets inside the voxel in [0, 1].
            intersected: bool `[N, 3]`, edge flags along x, y, z.
        """
        return super().forward(vertices.replace(torch.cat([vertices.feats, intersected.to(vertices.dtype)], 1) - 0.5))
