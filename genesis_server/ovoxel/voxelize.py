# SPDX-License-Identifier: Apache-2.0
"""Mesh to O-Voxel (docs/spec/geometry.md 3, 4): what the encoders and a texture for an existing mesh start from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh, check_mesh
from genesis_server.mesh.repair import weld
from genesis_server.ovoxel.surface import TexturedSurface
from genesis_server.ovoxel.surface_attributes import surface_attributes
from genesis_server.ovoxel.voxels import ATTRIBUTE_CHANNELS, OVoxel
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.mesh_dual_grid import mesh_to_dual_grid

RESOLUTION_MAX = 2048
_FILL = 0.99999  # of the box: nothing touches its wall, where no cell owns an edge


def fit_to_box(mesh: Mesh) -> Mesh:
    """The mesh centred, its longest side just short of the box [-0.5, 0.5]^3 (docs/spec/geometry.md 1.1).

    Raises:
        GenesisError: BAD_MESH for a mesh without an extent or with vertices that are not finite.
    """
    check_mesh(mesh)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    extent = (high - low).max()
    if not extent > 0:
        raise GenesisError(ErrorCode.BAD_MESH, "All vertices of the mesh are in one place.", "Choose a mesh with a size.")
    return Mesh((mesh.vertices - (low + high) / 2) * (_FILL / extent), mesh.faces)


def voxelize_mesh(
    mesh: Mesh, resolution: int, boundary_weight: float = 0.2, regularisation: float = 0.01, welded: bool = False
) -> OVoxel:
    """The O-Voxel of a mesh, without attributes.

    Args:
        mesh: inside the box [-0.5, 0.5]^3, see `fit_to_box`; open, closed, with any winding.
        resolution: cells per axis, 2 to 2048.
        boundary_weight: pull of an open mesh's rims on the dual vertices.
        regularisation: pull of the mean crossing; above 0, so that flat places have one answer.
        welded: vertices at one position are already one vertex. Otherwise they are joined here, so that UV seams are no rims.

    Returns:
        Cells ascending in x, y, z; dual vertices 0..1. Defaults are those of the published encoders.

    Raises:
        GenesisError: BAD_PARAMETER for the resolution, BAD_MESH for a mesh outside the box, with vertices that are not
            finite, with faces that name no vertex, or that crosses no grid line.
    """
    _check(mesh, resolution)
    mesh = mesh if welded else weld(mesh)
    low, high = _box(mesh.vertices)
    coords, dual, intersected = mesh_to_dual_grid(
        mesh.vertices, mesh.faces, low, high, (resolution,) * 3, True, boundary_weight, regularisation
    )
    if len(coords) == 0:
        raise GenesisError(
            ErrorCode.BAD_MESH,
            f"The mesh of {len(mesh.faces)} faces crosses no line of a grid of {resolution} cells.",
            "Scale it up, or choose a higher resolution.",
        )
    return OVoxel(coords, dual.float(), intersected, resolution)


def voxelize_surface(surface: TexturedSurface, resolution: int, level_offset: float = 0.0) -> OVoxel:
    """The O-Voxel of a textured surface with its attributes; arguments and errors as `voxelize_mesh`."""
    _check(surface.mesh, resolution)
    voxels = voxelize_mesh(surface.mesh, resolution)
    low, high = _box(surface.mesh.vertices)
    coords, values = surface_attributes(surface, low, high, (resolution,) * 3, level_offset)
    assert torch.equal(coords, voxels.coords)  # both come from the same crossings; welding moves nothing
    attributes = torch.empty(len(coords), 6, device=coords.device)
    for name, channels in ATTRIBUTE_CHANNELS.items():
        attributes[:, channels] = values[name]
    return replace(voxels, attributes=attributes)


def _box(like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.full((3,), -0.5, device=like.device), torch.full((3,), 0.5, device=like.device)


def _check(mesh: Mesh, resolution: int) -> None:
    if not 2 <= resolution <= RESOLUTION_MAX:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            f"A grid of {resolution} cells per axis is outside 2 to {RESOLUTION_MAX}.",
            f"Choose a resolution from 2 to {RESOLUTION_MAX}.",
        )
    check_mesh(mesh)
    if float(mesh.vertices.abs().max()) > 0.5:
        raise GenesisError(
            ErrorCode.BAD_MESH,
            f"The mesh reaches {float(mesh.vertices.abs().max()):g} from the origin and leaves the box of half side 0.5.",
            "Fit it to the box first.",
        )
