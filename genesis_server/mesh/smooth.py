# SPDX-License-Identifier: Apache-2.0
"""Tremble taken out of a surface, edges left in: face normals are filtered first, then vertices follow them.

Two steps (Sun, Rosin, Martin & Langbein, "Fast and effective feature-preserving mesh denoising", 2007): every normal becomes
the mean of its neighbours', weighted by `max(n_f . n_g - T, 0)^2`, so that faces across an edge do not listen to each other;
then every vertex moves towards the planes through its faces' centres with these normals.
"""

from __future__ import annotations

import torch

from genesis_server.mesh.connectivity import edges_of
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from genesis_server.mesh.orientation import agreeing_links

_EDGE_COSINE = 0.4  # neighbours turned further than this (66 degrees) lie across an edge
_VERTEX_ROUNDS = 3  # per round of normals
_REACH = 0.5  # of the median edge: no vertex goes farther


def smooth(mesh: Mesh, rounds: int) -> Mesh:
    """The mesh with vertices moved by at most half a median edge; faces unchanged.

    Args:
        mesh: consistently wound.
        rounds: of filtering; 0 changes nothing, 5 takes out what a small network adds.
    """
    if rounds == 0 or len(mesh.faces) == 0:
        return mesh
    faces, start = mesh.faces.long(), mesh.vertices.double()
    one, two = (agreeing_links(mesh) // 3).unbind(1)
    here, there = torch.cat([one, two]), torch.cat([two, one])
    crosses = face_crosses(mesh).double()
    area, normal = crosses.norm(dim=1), torch.nn.functional.normalize(crosses, dim=1)
    for _ in range(rounds):
        weight = ((normal[here] * normal[there]).sum(1) - _EDGE_COSINE).clamp(min=0) ** 2 * area[there]
        total = normal * area[:, None]
        normal = torch.nn.functional.normalize(total.index_add(0, here, weight[:, None] * normal[there]), dim=1)
    corners, count = faces.reshape(-1), torch.bincount(faces.reshape(-1), minlength=len(start)).clamp(min=1)
    ends = start[edges_of(faces).vertices]
    reach = _REACH * (ends[:, 0] - ends[:, 1]).norm(dim=1).median()
    vertices = start
    for _ in range(_VERTEX_ROUNDS * rounds):
        triangle = vertices[faces]
        height = ((triangle.mean(1, keepdim=True) - triangle) * normal[:, None]).sum(2, keepdim=True)
        step = torch.zeros_like(start).index_add_(0, corners, (height * normal[:, None]).reshape(-1, 3))
        vertices = vertices + step / count[:, None]
    moved = vertices - start
    moved = moved * (reach / moved.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    return Mesh((start + moved).float(), mesh.faces)
