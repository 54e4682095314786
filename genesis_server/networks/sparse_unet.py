# SPDX-License-Identifier: Apache-2.0
"""The sparse U-Net autoencoder of voxel attributes (docs/spec/networks.md 6.1, 6.2); used as is for textures (6.5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genesis_server.networks.norms import FINAL_EPS, plain_layer_norm
from genesis_server.networks.sparse_blocks import DOWN_BLOCKS, PLAIN_BLOCKS, UP_BLOCKS
from genesis_server.networks.tiles import decode_tiles, make_tiles
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.sparse.resample import subdivide
from genesis_server.sparse.tensor import SparseTensor
from native_ext.residual_norm import norm

_OUTPUT_ROWS = 1 << 19


class SparseUnetVaeEncoder(nn.Module):
    """Voxel attributes to the posterior of a latent on the coarsest level.

    Args:
        in_channels: width of the data.
        model_channels, num_blocks, block_type, down_block_type, block_args: per level, fine to coarse.
        latent_channels: width of the latent.
        use_fp16: torso in float16.
    """

    def __init__(
        self,
        in_channels: int,
        model_channels: list[int],
        latent_channels: int,
        num_blocks: list[int],
        block_type: list[str],
        down_block_type: list[str],
        block_args: list[dict[str, Any]] | None = None,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.dtype = torch.float16 if use_fp16 else torch.float32
        block_args = block_args or [{} for _ in model_channels]
        self.input_layer = nn.Linear(in_channels, model_channels[0])
        self.blocks = nn.ModuleList()
        for i, width in enumerate(model_channels):
            plain = _choose(PLAIN_BLOCKS, block_type[i])
            level = [plain(width, dtype=self.dtype, **block_args[i]) for _ in range(num_blocks[i])]
            if i + 1 < len(model_channels):
                down = _choose(DOWN_BLOCKS, down_block_type[i])
                level.append(down(width, model_channels[i + 1], dtype=self.dtype, **block_args[i]))
            self.blocks.append(nn.ModuleList(level))
        self.to_latent = nn.Linear(model_channels[-1], 2 * latent_channels)

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, SparseTensor]:
        """Mean and log-variance `[N', latent]` in the dtype of x.

        Their level remembers the finer ones, so that a decoder given the mean rebuilds exactly the voxels of x, in
        their order; decode `SparseTensor(mean.feats, mean.coords)` to have the decoder predict them instead.
        """
        h = x.replace(self.input_layer(x.feats).to(self.dtype))
        for level in self.blocks:
            for block in level:
                h = block(h)
        mean, logvar = self.to_latent(plain_layer_norm(h.feats.to(x.dtype), FINAL_EPS)).chunk(2, dim=-1)
        return h.replace(mean), h.replace(logvar)


class SparseUnetVaeDecoder(nn.Module):
    """Latent to voxel attributes on the finest level.

    Args:
        out_channels: width of the data.
        model_channels, num_blocks, block_type, up_block_type, block_args: per level, coarse to fine.
        latent_channels: width of the latent.
        pred_subdiv: whether up blocks predict their subdivision.
        use_fp16: torso in float16.
    """

    def __init__(
        self,
        out_channels: int,
        model_channels: list[int],
        latent_channels: int,
        num_blocks: list[int],
        block_type: list[str],
        up_block_type: list[str],
        block_args: list[dict[str, Any]] | None = None,
        pred_subdiv: bool = True,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.dtype = torch.float16 if use_fp16 else torch.float32
        self.pred_subdiv = pred_subdiv
        block_args = block_args or [{} for _ in model_channels]
        self.from_latent = nn.Linear(latent_channels, model_channels[0])
        self.blocks = nn.ModuleList()
        for i, width in enumerate(model_channels):
            plain = _choose(PLAIN_BLOCKS, block_type[i])
            level = [plain(width, dtype=self.dtype, **block_args[i]) for _ in range(num_blocks[i])]
            if i + 1 < len(model_channels):
                up = _choose(UP_BLOCKS, up_block_type[i])
                level.append(up(width, model_channels[i + 1], pred_subdiv, dtype=self.dtype, **block_args[i]))
            self.blocks.append(nn.ModuleList(level))
        self.output_layer = nn.Linear(model_channels[-1], out_channels)

    @property
    def up_levels(self) -> int:
        """Number of up blocks; the output grid is `2**up_levels` times as fine as the latent's."""
        return len(self.blocks) - 1

    def forward(
        self,
        x: SparseTensor,
        guide_subs: list[SparseTensor] | None = None,
        return_subs: bool = False,
        subdivisions: list[Tensor] | None = None,
        tiles: int = 1,
    ) -> SparseTensor | tuple[SparseTensor, list[SparseTensor]]:
        """Decode.

        Args:
            x: `[N, latent]`. If it comes straight from an encoder, that encoder's voxels are rebuilt.
            guide_subs: the `subs` of another decoder on the same latent voxels in the same order.
            return_subs: also return the logits that this decoder predicted.
            subdivisions: bool `[N_i, 8]` per up block, the true children (training); the prediction is still made.
            tiles: parts in which the finest levels are decoded, for less memory (`genesis_server.networks.tiles`); voxels
                that come from an encoder are always decoded whole.

        Returns:
            `[N', out]` in the dtype of x; with `return_subs` also a list of logits `[N_i, 8]` on the voxels before
            each up block, in the torso dtype.
        """
        if (guide_subs is not None and self.pred_subdiv) or (return_subs and not self.pred_subdiv):
            raise GenesisError(
                ErrorCode.INTERNAL,
                f"A decoder with pred_subdiv {self.pred_subdiv} was asked to {'return' if return_subs else 'follow'} subs.",
                "Guide only a decoder that does not predict, and take subs only from one that does.",
            )
        level = x.level if guide_subs is None else _shared_level(x, guide_subs[0])
        h = SparseTensor(self.from_latent(x.feats).to(self.dtype), level)
        subs: list[SparseTensor] = []
        last = self.up_levels - 1
        for i, blocks in enumerate(self.blocks[:-1]):
            if i == last and tiles > 1 and h.level.finer is None:
                out, logits = self._finish_in_tiles(h, tiles, _mask(i, None, guide_subs, subdivisions), x.dtype)
                return (out, [*subs, h.replace(logits)]) if return_subs else out
            h = self._advance(h, i)
            logits = blocks[-1].logits(h)
            if logits is not None:
                subs.append(h.replace(logits))
            h = blocks[-1](h, _mask(i, logits, guide_subs, subdivisions))
        out = self._output(self._advance(h, self.up_levels), x.dtype)
        return (out, subs) if return_subs else out

    def _advance(self, h: SparseTensor, i: int) -> SparseTensor:
        """The plain blocks of level i."""
        for block in self.blocks[i][: -1 if i < self.up_levels else None]:
            h = block(h)
        return h

    def _finish_in_tiles(
        self, h: SparseTensor, tiles: int, mask: Tensor | None, dtype: torch.dtype
    ) -> tuple[SparseTensor, Tensor | None]:
        """Output and logits from features at the last up block's level, part by part."""
        last = self.up_levels - 1
        up, below = self.blocks[last][-1], len(self.blocks[self.up_levels])
        reach = len(self.blocks[last]) + -(-(1 + below) // 2)  # a convolution per block, one in the up block; then finer ones

        def descend(part: SparseTensor, chosen: Tensor) -> tuple[SparseTensor, Tensor]:
            fine = self._advance(up(part, chosen), self.up_levels)
            return self._output(fine, dtype), subdivide(part.level, chosen).parent

        return decode_tiles(
            h, make_tiles(h.coords, tiles, reach), lambda part: self._advance(part, last), up.logits, descend, mask
        )

    def _output(self, h: SparseTensor, dtype: torch.dtype) -> SparseTensor:
        """Norm and output layer in `dtype`; without gradient in parts, because the finest level in float32 is large."""
        if torch.is_grad_enabled():
            return h.replace(self.output_layer(plain_layer_norm(h.feats.to(dtype), FINAL_EPS)))
        parts = h.feats.split(_OUTPUT_ROWS)
        return h.replace(torch.cat([self.output_layer(norm(part.to(dtype), None, None, FINAL_EPS)) for part in parts]))

    def upsample(self, x: SparseTensor, levels: int) -> Tensor:
        """int32 `[N', 4]` voxels at the entry of level `levels`, in (0, number of levels); nothing after is computed."""
        if not self.pred_subdiv or not 0 < levels <= self.up_levels:
            raise GenesisError(
                ErrorCode.INTERNAL,
                f"A decoder with {self.up_levels} up blocks (pred_subdiv {self.pred_subdiv}) cannot upsample {levels} levels.",
                f"Ask a predicting decoder for 1 to {self.up_levels} levels.",
            )
        h = x.replace(self.from_latent(x.feats).to(self.dtype))
        for i, blocks in enumerate(self.blocks):
            h = self._advance(h, i)
            mask = blocks[-1].logits(h) > 0
            if i + 1 == levels:
                return subdivide(h.level, mask).fine.coords
            h = blocks[-1](h, mask)
        raise AssertionError("levels were checked above")


def _mask(
    i: int, logits: Tensor | None, guide_subs: list[SparseTensor] | None, subdivisions: list[Tensor] | None
) -> Tensor | None:
    """Children of up block i: the true ones, else the predicted ones, else the guide's."""
    if subdivisions is not None:
        return subdivisions[i]
    if logits is not None:
        return logits.detach() > 0
    return None if guide_subs is None else guide_subs[i].feats > 0


def _shared_level(x: SparseTensor, guide: SparseTensor):
    """The guide's level, whose children and neighbour tables are already known; refuses other voxels."""
    if x.level.finer is not None or x.level is guide.level:
        return x.level
    if not torch.equal(x.coords, guide.coords):
        raise GenesisError(
            ErrorCode.INTERNAL,
            f"The subdivision guide has {len(guide)} voxels, not the {len(x)} of the latent, or another order.",
            "Guide with the shape decoder's subs for the same latent voxels.",
        )
    return guide.level


def _choose(table: dict[str, type[nn.Module]], name: str) -> type[nn.Module]:
    if name not in table:
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"A checkpoint asks for the block {name!r}.",
            f"Known are {', '.join(table)}; check the checkpoint's JSON file.",
        )
    return table[name]


def sample_posterior(mean: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """`mean + exp(logvar/2) * noise`, for training."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * logvar) * noise
