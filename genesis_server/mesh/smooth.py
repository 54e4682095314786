# SPDX-License-Identifier: Apache-2.0
"""Tremble taken out of a surface, edges left in: face normals are filtered first, then vertices follow them.

Two steps (Sun, Rosin, Martin & Langbein, "Fast and effective feature-preserving mesh denoising", 2007): every normal becomes
the mean of its neighbours', weighted by `max(n_f . n_g - T, 0)^2`, so that faces across an edge do not listen to each other;
then every vertex moves towards the planes through its faces' centres with these normals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.mesh.connectivity import edges_of
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from genesis_server.mesh.orientation import agreeing_links
from native_ext.segment_sum import segment_sum

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
    beside = torch.full((3 * len(faces),), len(faces), device=faces.device)
    beside[links[:, 0]], beside[links[:, 1]] = links[:, 1] // 3, links[:, 0] // 3
    beside = beside.view(-1, 3)  # the face across each side; the last row, of no area, where there is none
    crosses = torch.nn.functional.pad(face_crosses(mesh).double(), (0, 0, 0, 1))
    area, normal = crosses.norm(dim=1), torch.nn.functional.normalize(crosses, dim=1)
    for _ in range(rounds):
        total = normal * area[:, None]
        for side in beside.unbind(1):
            near = normal[side]
            weight = (_dot(normal[:-1], near) - _EDGE_COSINE).clamp(min=0) ** 2 * area[side]
            total[:-1] += weight[:, None] * near
        normal = torch.nn.functional.normalize(total, dim=1)
    normal, around = normal[:-1], mesh.fans.side.long()  # corners by vertex
    count = (mesh.fans.start[1:] - mesh.fans.start[:-1]).clamp(min=1)
    ends = start[edges_of(faces).vertices]
    reach = _REACH * (ends[:, 0] - ends[:, 1]).norm(dim=1).median()
    vertices, corners = start, faces.unbind(1)
    for _ in range(_VERTEX_ROUNDS * rounds):
        along = torch.stack([_dot(vertices[corner], normal) for corner in corners], 1)
        height = (along @ along.new_ones(3) / 3)[:, None] - along
        step = segment_sum((height[:, :, None] * normal[:, None]).view(-1, 3)[around], mesh.fans.start.long())
        vertices = vertices + step / count[:, None]
    moved = vertices - start
    moved = moved * (reach / moved.norm(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    return Mesh((start + moved).float(), mesh.faces)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of rows [n, 3]; many times faster than a sum over so short an axis."""
    return (a * b) @ a.new_ones(3)
