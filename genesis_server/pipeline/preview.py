# SPDX-License-Identifier: Apache-2.0
"""What a client may see on the way: the occupied cells after stage one, a light bare mesh after stage two."""

from __future__ import annotations

import numpy as np
import torch

from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.simplify import simplify
from genesis_server.networks.dual_grid_vae import DualGridVoxels
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.latents import Structure
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.messages import Preview

FACES = 20_000  # of a preview
DIRECT = 400_000  # faces up to which edges are collapsed one by one; above, cells are merged first, in a fraction of the time
CELLS = 192  # per axis, when merging


def voxel_preview(structure: Structure) -> Preview:
    """The occupied cells of the first sample."""
    coords = structure.coords[structure.coords[:, 0] == 0, 1:].cpu().numpy()
    return Preview("", "voxels", structure.resolution, coords=coords.astype("<u2").tobytes())


def mesh_preview(voxels: DualGridVoxels, resolution: int) -> Preview | None:
    """The bare surface of the first sample with about FACES faces; None where it has no surface yet.

    Args:
        resolution: voxels per axis.
    """
    first = voxels.coords[:, 0] == 0
    bare = OVoxel(
        voxels.coords[first, 1:].contiguous(),
        voxels.vertices[first].float(),
        voxels.intersected[first],
        resolution,
        voxels.quad_lerp[first].float(),
    )
    try:
        mesh = light_mesh(enclosed_surface(bare, smoothing=0) or extract_mesh(bare))
    except GenesisError:
        return None  # the stage that needs a surface says so
    vertices, faces = mesh.vertices.cpu().numpy(), mesh.faces.cpu().numpy()
    return Preview("", "mesh", 0, vertices=vertices.astype("<f4").tobytes(), faces=faces.astype("<i4").tobytes())


def light_mesh(mesh: Mesh, faces: int = FACES) -> Mesh:
    """Few faces fast: good enough to look at, not clean."""
    if len(mesh.faces) > DIRECT:
        mesh = merge_cells(mesh, CELLS)
    mesh = simplify(_used(mesh), faces)
    cells = CELLS
    while len(mesh.faces) > faces * 3 // 2 and cells > 16:  # torn surfaces resist edge collapse
        cells = cells * 2 // 3
        mesh = merge_cells(mesh, cells)
    return mesh


def merge_cells(mesh: Mesh, cells: int) -> Mesh:
    """One vertex per cell of a grid over the unit cube: the mean of those in it; faces that collapse are dropped."""
    keys = ((mesh.vertices + 0.5).clamp(0, 1) * cells).long().clamp(max=cells - 1)
    keys = (keys[:, 0] * cells + keys[:, 1]) * cells + keys[:, 2]
    found, group = keys.unique(return_inverse=True)
    total = torch.zeros(len(found), 3, dtype=torch.float64, device=mesh.vertices.device)
    total.index_add_(0, group, mesh.vertices.double())
    vertices = total / torch.bincount(group, minlength=len(found))[:, None]
    faces = group[mesh.faces.long()]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return _used(Mesh(vertices.float(), faces[distinct].int()))


def _used(mesh: Mesh) -> Mesh:
    """Without the vertices that no face uses, and without faces that repeat another."""
    faces = mesh.faces.cpu().numpy()
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.sort(first)]
    used, renamed = np.unique(faces, return_inverse=True)
    vertices = mesh.vertices.cpu()[torch.from_numpy(used).long()]
    return Mesh(vertices, torch.from_numpy(renamed.reshape(faces.shape).astype(np.int32)))
