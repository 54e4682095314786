# SPDX-License-Identifier: Apache-2.0
"""The residual blocks of the sparse U-Net autoencoders (docs/spec/networks.md 3.9 to 3.11).

Class and parameter names are those of the published configurations and checkpoints.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.networks.norms import LayerNorm32, plain_layer_norm
from genesis_server.sparse.resample import channel_to_space, coarsen, space_to_channel, subdivide
from genesis_server.sparse.tensor import Level, Refinement, SparseTensor
from native_ext.child_skip import add_child_skip_
from native_ext.fast import infers_with_kernel
from native_ext.residual_norm import norm_silu
from native_ext.row_mlp import add_row_mlp_
from native_ext.submanifold_conv import child_conv, submanifold_conv


def silu_norm(x: Tensor, affine: LayerNorm32 | None = None, overwrite: bool = False) -> Tensor:
    """SiLU of the layer norm of `[N, C]`, with or without weight and bias; with `overwrite`, x may be lost."""
    if infers_with_kernel(x):
        weight, bias = (None, None) if affine is None else (affine.weight, affine.bias)
        return norm_silu(x, weight, bias, overwrite=overwrite)
    return F.silu(plain_layer_norm(x) if affine is None else affine(x))


class SparseConv3d(nn.Module):
    """Submanifold 3x3x3 convolution; weight `[Co, 3, 3, 3, Ci]`, taps ordered (x, y, z)."""

    def __init__(self, channels: int, out_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, channels, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_channels, dtype=dtype))
        nn.init.uniform_(self.weight, -1 / math.sqrt(27 * channels), 1 / math.sqrt(27 * channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        level = x.level
        return x.replace(submanifold_conv(x.feats, self.weight, self.bias, level.neighbours, level.tap_order))


class SparseConvNeXtBlock3d(nn.Module):
    """`x + mlp(norm(conv(x)))` with a full convolution and SiLU."""

    def __init__(self, channels: int, dtype: torch.dtype, mlp_ratio: float = 4.0, use_checkpoint: bool = False) -> None:
        super().__init__()
        del use_checkpoint  # a training option of the published configurations
        hidden = int(channels * mlp_ratio)
        self.conv = SparseConv3d(channels, channels, dtype)
        self.norm = LayerNorm32(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden, dtype=dtype), nn.SiLU(), nn.Linear(hidden, channels, dtype=dtype))

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = self.conv(x).feats
        if torch.is_grad_enabled():
            return x.replace(x.feats + self.mlp(self.norm(h)))
        return x.replace(add_row_mlp_(h, x.feats, self.norm, self.mlp[0], self.mlp[2]))


class SparseResBlockS2C3d(nn.Module):
    """Down block: `[N, C]` to `[N', C']` on the parents."""

    def __init__(self, channels: int, out_channels: int, dtype: torch.dtype, use_checkpoint: bool = False) -> None:
        super().__init__()
        del use_checkpoint
        self.out_channels = out_channels
        self.norm1 = LayerNorm32(channels)
        self.conv1 = SparseConv3d(channels, out_channels // 8, dtype)
        self.conv2 = SparseConv3d(out_channels, out_channels, dtype)

    def forward(self, x: SparseTensor) -> SparseTensor:
        coarse = coarsen(x.level)
        h = self.conv1(x.replace(silu_norm(x.feats, self.norm1)))
        h = space_to_channel(h, coarse)
        h = self.conv2(h.replace(silu_norm(h.feats)))
        skip = space_to_channel(x, coarse).feats
        return h.replace(h.feats + skip.unflatten(-1, (self.out_channels, -1)).mean(-1))


class SparseResBlockC2S3d(nn.Module):
    """Up block: `[N, C]` to `[N', C']` on the children that the block predicts or is told.

    Args:
        channels, out_channels: widths before and after.
        pred_subdiv: whether the block owns the predictor of its subdivision.
        dtype: of convolutions and predictor; norms stay float32.
    """

    def __init__(
        self, channels: int, out_channels: int, pred_subdiv: bool, dtype: torch.dtype, use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        del use_checkpoint
        self.repeats = out_channels * 8 // channels
        self.to_subdiv = nn.Linear(channels, 8, dtype=dtype) if pred_subdiv else None
        self.norm1 = LayerNorm32(channels)
        self.conv1 = SparseConv3d(channels, 8 * out_channels, dtype)
        self.conv2 = SparseConv3d(out_channels, out_channels, dtype)

    def logits(self, x: SparseTensor) -> Tensor | None:
        """Subdivision logits `[N, 8]`, or None for a block that does not predict."""
        return None if self.to_subdiv is None else self.to_subdiv(x.feats)

    def forward(self, x: SparseTensor, mask: Tensor | None) -> SparseTensor:
        """Children selected by `mask` bool `[N, 8]`; an encoder's index map on the level overrides it."""
        refinement = subdivide(x.level, mask)
        h = x.replace(silu_norm(x.feats, self.norm1))
        if infers_with_kernel(h.feats):
            h = SparseTensor(self._children(h.feats, refinement, x.level), refinement.fine)
        else:
            h = channel_to_space(self.conv1(h), refinement)
        h = h.replace(silu_norm(h.feats, overwrite=True))
        h = self.conv2(h)
        if not torch.is_grad_enabled():
            add_child_skip_(h.feats, x.feats, refinement.slots)
            return h
        skip = channel_to_space(x, refinement).feats
        repeated = skip.unsqueeze(-1).expand(-1, -1, self.repeats).flatten(1)  # its gradient is a sum, not additions
        return h.replace(h.feats + repeated)

    def _children(self, feats: Tensor, refinement: Refinement, level: Level) -> Tensor:
        """The first convolution, for the children that exist only: `[N, C']`."""
        return child_conv(feats, self.conv1.weight, self.conv1.bias, level.child_order(refinement))


PLAIN_BLOCKS = {"SparseConvNeXtBlock3d": SparseConvNeXtBlock3d}
DOWN_BLOCKS = {"SparseResBlockS2C3d": SparseResBlockS2C3d}
UP_BLOCKS = {"SparseResBlockC2S3d": SparseResBlockC2S3d}
