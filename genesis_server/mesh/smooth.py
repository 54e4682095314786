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
from native_ext.face_normal_filter import filter_normals, follow_normals

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
    links = agreeing_links(mesh)
    beside = torch.full((3 * len(faces),), -1, dtype=torch.int32, device=faces.device)
    beside[links[:, 0]], beside[links[:, 1]] = (links[:, 1] // 3).int(), (links[:, 0] // 3).int()
    crosses = face_crosses(mesh).double()
    area, normal = crosses.norm(dim=1), torch.nn.functional.normalize(crosses, dim=1)
    normal = filter_normals(normal, area, beside.view(-1, 3), _EDGE_COSINE, rounds)
    vertices = follow_normals(start, mesh.faces, mesh.fans, normal, _VERTEX_ROUNDS * rounds)
    ends = start[edges_of(faces).vertices]
    reach = _REACH * (ends[:, 0] - ends[:, 1]).norm(dim=1).median()
    moved = vertices - start
    moved = moved * (reach / moved.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    return Mesh((start + moved).float(), mesh.faces)
