# SPDX-License-Identifier: Apache-2.0
"""O-Voxel to mesh: dual vertices joined by one quad per crossed edge (docs/spec/geometry.md 5)."""

from __future__ import annotations

from typing import Literal

import torch

from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from native_ext.dual_grid_faces import dual_grid_faces


def extract_mesh(voxels: OVoxel, split: Literal["angle", "ref"] = "angle") -> Mesh:
    """The surface of an O-Voxel; every voxel is a vertex, in the given order, used or not.

    Winding carries no information here and dangling flags leave holes: `finish_mesh` makes the result presentable.

    Args:
        voxels: any number of cells; with `split_weight`, it chooses the diagonals.
        split: without split weights: "angle" takes the diagonal that bends the quad less, "ref" always 0-2 as the
            published implementation does.

    Raises:
        GenesisError: BAD_ASSET for cells outside the grid or offsets that are not finite, EMPTY_STRUCTURE where no
            quad comes out.
    """
    if not torch.isfinite(voxels.dual_vertices).all():
        raise GenesisError(
            ErrorCode.BAD_ASSET,
            "The O-Voxel has dual vertices that are not finite.",
            "Generate the shape again; the stored one is damaged.",
            Remedy.RETRY,
        )
    vertices = (voxels.coords.float() + voxels.dual_vertices.float()) * (1 / voxels.resolution) - 0.5  # a GPU divides otherwise
    rule = "weight" if voxels.split_weight is not None else split
    weight = None if voxels.split_weight is None else voxels.split_weight[:, 0]
    try:
        faces = dual_grid_faces(voxels.coords, voxels.intersected, voxels.resolution, vertices, rule, weight)
    except ValueError as error:
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"The O-Voxel is damaged: {error}.", "Generate the shape again.", Remedy.RETRY
        ) from error
    if len(faces) == 0:
        raise GenesisError(
            ErrorCode.EMPTY_STRUCTURE,
            f"The O-Voxel has no surface: of its cells ({len(voxels.coords)}) no four share an edge that is flagged.",
            "Try another seed, or fewer changes to the shape stage's settings.",
            Remedy.RETRY,
        )
    return Mesh(vertices, faces)
