# SPDX-License-Identifier: Apache-2.0
"""Iron out the small folds of a rough surface, so that it can be cut into few charts (docs/spec/geometry.md 16.1, 19.6).

Vertices that a network predicted wobble by parts of a voxel, and faces as small as the wobble fold over. A chart with one such
face no longer projects without overlap, and cutting every fold out leaves thousands of crumbs. So charts are cut and flattened
on a copy of the surface in which the vertices of folded faces have moved to the middle of their neighbours. Smooth surfaces and
sharp edges have no folds and are copied as they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from genesis_server.bake.charts import face_adjacency, smooth_normals
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses

FOLDED = math.cos(math.radians(55))  # of a face's normal with the smoothed normal around it
_ROUNDS = 12  # a fold of two or three edges' size is flat by then; what is left gets charts of its own
_STEP = 0.7  # of the way to the neighbours' middle: a whole step can swing


def relax_folds(mesh: Mesh) -> Mesh:
    """A copy with the same faces in which small folds are flattened.

    Args:
        mesh: any triangles.

    Returns:
        The copy; vertices away from folds are bit for bit the same.
    """
    faces = mesh.faces.long()
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = torch.cat([ends, ends.flip(1)])
    vertices = mesh.vertices.double()
    near = face_adjacency(mesh)
    for _ in range(_ROUNDS):
        crosses = face_crosses(Mesh(vertices, mesh.faces))
        size = crosses.norm(dim=1, keepdim=True)
        near = replace(near, normals=(crosses / size.clamp_min(1e-300)).float(), areas=(size[:, 0] / 2).float())
        folded = (near.normals * smooth_normals(near)).sum(1) < FOLDED
        moving = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
        moving[faces[folded].reshape(-1)] = True
        use = ends[moving[ends[:, 0]]]
        if not len(use):
            break
        total = torch.zeros_like(vertices).index_add_(0, use[:, 0], vertices[use[:, 1]])
        count = torch.bincount(use[:, 0], minlength=len(vertices)).clamp_min(1)
        middle = total / count[:, None]
        vertices = torch.where(moving[:, None], vertices + _STEP * (middle - vertices), vertices)
    return Mesh(vertices.float(), mesh.faces)
