# SPDX-License-Identifier: Apache-2.0
"""What a small network does to an O-Voxel: flags that are missing, flags that should not be, trembling dual vertices."""

import torch

from genesis_server.ovoxel.voxels import OVoxel


def spoil(voxels: OVoxel, missing: float = 0.03, stray: float = 0.01, tremble: float = 0.15, seed: int = 0) -> OVoxel:
    generator = torch.Generator().manual_seed(seed)
    shape = voxels.intersected.shape
    flags = voxels.intersected & (torch.rand(shape, generator=generator) > missing)
    flags |= torch.rand(shape, generator=generator) < stray
    offsets = voxels.dual_vertices + torch.randn(shape, generator=generator) * tremble
    return OVoxel(voxels.coords, offsets.clamp(-0.5, 1.5), flags, voxels.resolution, None, voxels.attributes)
