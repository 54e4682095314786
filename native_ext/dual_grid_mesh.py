# SPDX-License-Identifier: Apache-2.0
"""The surface of a flexible dual grid: one quad around every flagged grid edge (docs/spec/geometry.md 5).

Quad of cell c and axis a: the four cells around the edge that c owns, in the cyclic order of 5.2, where all four are active.
Diagonal 0-2 gives the triangles (0,1,2) (0,2,3), diagonal 1-3 gives (0,1,3) (3,1,2). Quads come cell by cell, axis by axis.
Winding follows the axis, not the surface: flags have no sign, so orientation has to be found afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.voxel_lookup import VoxelLookup

# offsets from the owning cell, per axis, in quad order; the first is the cell itself
_RING = (
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
)


TIE = 1e-6  # cosines nearer than this are equal: flat quads take diagonal 0-2


def dual_grid_quads(coords: Tensor, intersected: Tensor, resolution: int | tuple[int, int, int]) -> Tensor:
    """Quads of all flagged edges whose four cells are active.

    Args:
        coords: integer [N, 3], unique cells inside the grid.
        intersected: bool [N, 3].
        resolution: cells per axis.

    Returns:
        int64 [Q, 4] rows of the four cells.
    """
    find = VoxelLookup(coords, resolution)
    flagged = intersected.nonzero()
    cell, axis = flagged.unbind(1)
    ring = torch.tensor(_RING, device=coords.device)[:, 1:]
    others = find(coords.long()[cell][:, None] + ring[axis])
    whole = (others >= 0).all(1)
    return torch.cat([cell[:, None], others], 1)[whole]


def split_quads(quads: Tensor, first_diagonal: Tensor) -> Tensor:
    """Two triangles per quad.

    Args:
        quads: int64 [Q, 4].
        first_diagonal: bool [Q], true for the diagonal from corner 0 to corner 2.

    Returns:
        int32 [2 Q, 3].
    """
    along = torch.tensor([0, 1, 2, 0, 2, 3], device=quads.device)
    across = torch.tensor([0, 1, 3, 3, 1, 2], device=quads.device)
    return quads.gather(1, torch.where(first_diagonal[:, None], along, across)).view(-1, 3).int()


def flatter_diagonal(vertices: Tensor, quads: Tensor) -> Tensor:
    """Whether the diagonal 0-2 bends each quad less than 1-3: larger cosine between its two unit normals.

    In double precision, and ties to `TIE` are true: CPU and GPU round differently, and have to choose alike.

    Args:
        vertices: float32 [V, 3].
        quads: int64 [Q, 4].

    Returns:
        bool [Q].
    """
    q = vertices[quads].double()

    def normal(i: int, j: int, k: int) -> Tensor:
        return torch.nn.functional.normalize(torch.linalg.cross(q[:, j] - q[:, i], q[:, k] - q[:, i]), dim=1, eps=1e-30)

    along = (normal(0, 1, 2) * normal(0, 2, 3)).sum(1)
    across = (normal(0, 1, 3) * normal(3, 1, 2)).sum(1)
    return along >= across - TIE


def centre_fans(positions: Tensor, quads: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Training surface: a vertex in every quad, weighted between its diagonals, and a fan of four triangles.

    `M = (s0 s2 (V0 + V2) / 2 + s1 s3 (V1 + V3) / 2) / (s0 s2 + s1 s3 + 1e-12)`; gradients flow to positions and weight.

    Args:
        positions: float [N, 3].
        quads: int64 [Q, 4].
        weight: float [N], split weights > 0.

    Returns:
        Vertices [N + Q, 3] and faces int32 [4 Q, 3].
    """
    v, s = positions[quads], weight[quads]
    along, across = (s[:, 0] * s[:, 2])[:, None], (s[:, 1] * s[:, 3])[:, None]
    middle = (along * (v[:, 0] + v[:, 2]) / 2 + across * (v[:, 1] + v[:, 3]) / 2) / (along + across + 1e-12)
    centre = len(positions) + torch.arange(len(quads), device=quads.device)
    faces = torch.stack([quads, quads.roll(-1, 1), centre[:, None].expand(-1, 4)], 2)
    return torch.cat([positions, middle]), faces.view(-1, 3).int()
