# SPDX-License-Identifier: Apache-2.0
"""From latents to O-Voxels: the shape decoder's voxels, and the texture decoder's attributes on the same voxels
(docs/spec/pipeline.md 9.6 steps 1 and 2; the mesh is made by `ovoxel` and `mesh`)."""

from __future__ import annotations

import dataclasses

import torch

from genesis_server.networks.dual_grid_vae import DualGridVoxels
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.latents import Latent
from genesis_server.pipeline.memory import Work
from genesis_server.pipeline.model import SHAPE_DECODER, TEXTURE_DECODER, Model, Use
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.sparse.tensor import SparseTensor


def decode_shape(model: Model, shape: Latent) -> DualGridVoxels:
    """The voxels of a shape latent, all samples together, on the model's device."""
    latent = SparseTensor(shape.feats.to(model.device), shape.coords.to(model.device))
    with model.use(SHAPE_DECODER, Work(len(latent))) as used, torch.inference_mode():
        voxels = used.network(latent, **_parts(used))
        raw = voxels.raw.replace(voxels.quad_lerp.new_empty(len(voxels.raw), 0))  # what it was made of is no longer needed
        return dataclasses.replace(voxels, raw=raw)


def decode(model: Model, shape: Latent, texture: Latent, voxels: DualGridVoxels | None = None) -> list[OVoxel]:
    """One O-Voxel per sample, on the model's device; attributes are not clamped.

    Args:
        voxels: of `decode_shape`, where they are known already.

    Raises:
        GenesisError: EMPTY_STRUCTURE when the decoder subdivides everything away.
    """
    coords = shape.coords.to(model.device)
    voxels = voxels or decode_shape(model, shape)
    with model.use(TEXTURE_DECODER, Work(len(coords))) as used, torch.inference_mode():
        latent = SparseTensor(texture.feats.to(model.device), coords)
        attributes = used.network(latent, guide_subs=voxels.subs, **_parts(used)).feats.float() * 0.5 + 0.5
    samples = int(coords[:, 0].max()) + 1
    counts = torch.bincount(voxels.coords[:, 0].long(), minlength=samples).tolist()
    if 0 in counts:
        raise GenesisError(
            ErrorCode.EMPTY_STRUCTURE,
            f"The shape of {len(coords)} cells decoded to no surface at all.",
            "Try another seed, or fewer changes to the shape stage's settings.",
            Remedy.RETRY,
        )
    parts = zip(
        *(
            part.split(counts)
            for part in (voxels.coords[:, 1:], voxels.vertices, voxels.intersected, voxels.quad_lerp, attributes)
        ),
        strict=True,
    )
    return [
        OVoxel(xyz.contiguous(), vertices.float(), flags, shape.resolution, weight.float(), values)
        for xyz, vertices, flags, weight, values in parts
    ]


def _parts(used: Use) -> dict[str, int]:
    return {"tiles": used.rung.tiles} if used.rung.tiles > 1 else {}
