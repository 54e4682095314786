# SPDX-License-Identifier: Apache-2.0
"""The detailed surface that a bake reads from: where a texel lies on it, what colour and which normal it has there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from genesis_server.ovoxel.voxels import OVoxel
from native_ext.closest_point import SurfaceSearch
from native_ext.exact_sum import exact_sum
from native_ext.grid_sample import sample_grid_or_nearest
from native_ext.voxel_lookup import VoxelLookup

SAME_SIDE = 0.5  # cosine between texel normal and face normal (docs/spec/geometry.md 18.1)
SEARCH_VOXELS = 2.0  # how far a compatible face is looked for (18.1)
FAR_VOXELS = 6.0  # ... where it is known to face outward, and none was near
_ALIGNING_ROUNDS = 2  # of face normals around a vertex, whose signs mean nothing


class DetailedSurface:
    """An O-Voxel and its extracted mesh, ready for many texels.

    Args:
        mesh: the surface before simplification.
        voxels: with attributes.
        outward: the mesh's faces are wound outward; else its winding does not matter, and the two sides of a thin sheet look
            alike.
    """

    def __init__(self, mesh: Mesh, voxels: OVoxel, outward: bool = False) -> None:
        self.mesh, self.voxels, self._outward = mesh, voxels, outward
        self._search = SurfaceSearch(mesh.vertices, mesh.faces)
        self._lookup = VoxelLookup(voxels.coords, voxels.resolution)
        self._normals: Tensor | None = None

    def locate(self, position: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest face that faces the same way (or the opposite way, unless faces are wound outward), or the nearest of all
        where no such face is near.

        Args:
            position, normal: float32 [P, 3], normals unit.

        Returns:
            Face int64 [P] and barycentric weights float32 [P, 3] of the nearest point.
        """
        reach = SEARCH_VOXELS / self.voxels.resolution
        _, face, weights = self._search.closest(position, reach, normal, SAME_SIDE, self._outward)
        if self._outward:  # the other side of a thin sheet is nearer than its own where few faces cut through it
            lost = (face < 0).nonzero()[:, 0]
            far = FAR_VOXELS / self.voxels.resolution
            _, face[lost], weights[lost] = self._search.closest(position[lost], far, normal[lost], SAME_SIDE, True)
        lost = (face < 0).nonzero()[:, 0]
        if lost.numel():
            _, face[lost], weights[lost] = self._search.closest(position[lost])
        return face, weights

    def values(self, face: Tensor, weights: Tensor) -> Tensor:
        """Attributes float32 [P, 6] at points of the surface, unclamped; the nearest voxel's where none is around."""
        corners = self.mesh.vertices[self.mesh.faces[face].long()]
        cells = ((corners * weights[:, :, None]).sum(1) + 0.5) * self.voxels.resolution
        voxels = self.voxels
        return sample_grid_or_nearest(voxels.attributes, voxels.coords, voxels.resolution, cells, self._lookup)[0]

    def normals(self, face: Tensor, weights: Tensor, facing: Tensor) -> Tensor:
        """Unit shading normals float32 [P, 3] at points of the surface, on the side that `facing` [P, 3] points to."""
        if self._normals is None:
            self._normals = unsigned_vertex_normals(self.mesh)
        corners = self._normals[self.mesh.faces[face].long()]
        side = torch.where((corners * facing[:, None]).sum(2, keepdim=True) < 0, -1.0, 1.0)
        smooth = (corners * side * weights[:, :, None]).sum(1)
        return normalize(torch.where(smooth.norm(dim=1, keepdim=True) < 1e-6, facing, smooth), dim=1)


def unsigned_vertex_normals(mesh: Mesh) -> Tensor:
    """Area-weighted unit vertex normals float32 [V, 3] of a mesh whose faces are wound at random; the sign is arbitrary.

    Around each vertex the face normals are turned to the side of the first one, then to the side of their mean.
    """
    crosses = face_crosses(mesh)
    corner = mesh.faces.long().reshape(-1)
    count, faces = len(mesh.vertices), len(mesh.faces)
    first = torch.full((count,), faces, dtype=torch.int64, device=corner.device)
    first.scatter_reduce_(0, corner, torch.arange(faces, device=corner.device).repeat_interleave(3), "amin")
    towards = torch.cat([crosses, crosses.new_zeros(1, 3)])[first]
    spread = crosses.repeat_interleave(3, 0)
    for _ in range(_ALIGNING_ROUNDS):
        spread *= torch.where(towards[corner].mul_(spread).sum(1, keepdim=True) < 0, -1.0, 1.0)
        towards = exact_sum(corner, spread, count).float()
    return normalize(towards, dim=1, eps=1e-30)
