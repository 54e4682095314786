# SPDX-License-Identifier: Apache-2.0
"""From a mesh to a shape latent, and from a texture latent back to exactly the voxels of that mesh
(docs/spec/pipeline.md 13.4, 13.6)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.latents import Latent
from genesis_server.pipeline.memory import VOXELS_PER_CELL, Work
from genesis_server.pipeline.model import SHAPE_ENCODER, TEXTURE_DECODER, Model
from genesis_server.sparse.resample import coarsen, subdivisions_between
from genesis_server.sparse.tensor import Level, SparseTensor


def encode_shape(model: Model, voxels: OVoxel) -> Latent:
    """The raw shape latent of a mesh's voxels: the mean of the encoder's posterior, nothing is drawn."""
    level = Level(_with_sample(voxels.coords.to(model.device)))
    vertices = SparseTensor(voxels.dual_vertices.to(model.device), level)
    work = Work(round(len(voxels.coords) / VOXELS_PER_CELL))
    with model.use(SHAPE_ENCODER, work) as used, torch.inference_mode():
        mean, _ = used.network(vertices, voxels.intersected.to(model.device))
    return Latent(mean.coords, mean.feats.float(), voxels.resolution)


def decode_texture(model: Model, texture: Latent, voxels: OVoxel) -> OVoxel:
    """The voxels with attributes, not clamped; `texture` lies on the cells that `encode_shape` gave for them.

    The decoder predicts no subdivision: it is told the levels between the latent's cells and the voxels, as the encoder
    left them; where it has to work in tiles, as masks, which it can cut.
    """
    with model.use(TEXTURE_DECODER, Work(len(texture.coords))) as used, torch.inference_mode():
        decoder, fine = used.network, Level(_with_sample(voxels.coords.to(model.device)))
        level = fine
        for _ in range(decoder.up_levels):
            level = coarsen(level)
        feats = texture.feats.to(model.device)
        if used.rung.tiles == 1:
            painted = decoder(SparseTensor(feats, level)).feats
        else:
            masks, order = subdivisions_between(Level(level.coords), fine, decoder.up_levels)
            out = decoder(SparseTensor(feats, level.coords), subdivisions=masks, tiles=used.rung.tiles).feats
            painted = torch.empty_like(out)
            painted[order] = out
        attributes = painted.float() * 0.5 + 0.5
    return replace(voxels, attributes=attributes.to(voxels.coords.device))


def _with_sample(cells: Tensor) -> Tensor:
    """int32 `[N, 4]` of cells `[N, 3]`: all in sample 0."""
    return torch.nn.functional.pad(cells, (1, 0)).int()
