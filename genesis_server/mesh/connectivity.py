# SPDX-License-Identifier: Apache-2.0
"""Who touches whom on a mesh: edges, the links between faces, components (docs/spec/geometry.md 12).

A *side* is number `3 f + i`: the edge of face f from its corner i to corner i+1. A *link* joins two sides of different faces
over which the surface goes on. Two faces share an edge: they are linked. Where more meet, at most pairs are: sheets that
touch in a line are told apart (`pair_sides`), instead of being torn open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh


@dataclass(frozen=True)
class Edges:
    """Undirected edges of a mesh.

    Attributes:
        vertices: int64 [E, 2], smaller vertex first, rows ascending.
        of_side: int64 [3 F], edge of every side.
        faces: int64 [E], how many faces each edge has: 1 boundary, 2 manifold, more non-manifold.
    """

    vertices: Tensor
    of_side: Tensor
    faces: Tensor


def edges_of(faces: Tensor) -> Edges:
    """Edges of int [F, 3] faces."""
    start = faces.long().reshape(-1)
    low, high = torch.minimum(start, ends_of(faces)), torch.maximum(start, ends_of(faces))
    key, of_side, count = torch.unique((low << 32) | high, return_inverse=True, return_counts=True)
    return Edges(torch.stack([key >> 32, key & 0xFFFFFFFF], 1), of_side, count)


def ends_of(faces: Tensor) -> Tensor:
    """int64 [3 F], the vertex where each side ends."""
    return faces.long().roll(-1, 1).reshape(-1)


def manifold_links(edges: Edges) -> Tensor:
    """int64 [L, 2] pairs of sides that share an edge of exactly two faces."""
    return _sides_by_edge(edges, 2)


def pair_sides(mesh: Mesh, edges: Edges) -> Tensor:
    """Links of a mesh whose sheets may touch: the manifold ones, and pairs across edges of three and four faces.

    Of three faces the two that go on most straightly are paired, the third ends there. Four faces, taken in their order
    around the edge, are paired with a neighbour in that order, so that sheets touch but do not cross; of the two ways the
    straighter one. Edges of more faces are left open.

    Returns:
        int64 [L, 2] sides.
    """
    three, four = _sides_by_edge(edges, 3), _sides_by_edge(edges, 4)
    return torch.cat([manifold_links(edges), _pair_three(mesh, three), _pair_four(mesh, four)])


def link_components(links: Tensor, faces: int) -> Tensor:
    """int64 [F] component of every face over links, numbered by their smallest faces."""
    return components(links // 3, faces)


def components(pairs: Tensor, count: int) -> Tensor:
    """Connected components of `count` items joined by int64 [P, 2] pairs: int64 [count], ids by ascending smallest item."""
    label = torch.arange(count, device=pairs.device)
    while True:
        a, b = label[pairs[:, 0]], label[pairs[:, 1]]
        apart = a != b
        if not bool(apart.any()):
            return torch.unique(label, return_inverse=True)[1]
        pairs, a, b = pairs[apart], a[apart], b[apart]
        label.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        label = _to_roots(label)


def _to_roots(label: Tensor) -> Tensor:
    while not torch.equal(label, up := label[label]):
        label = up
    return label


def _sides_by_edge(edges: Edges, faces: int) -> Tensor:
    """int64 [n, faces], the sides of every edge with exactly this many, ascending."""
    mine = torch.nonzero(edges.faces[edges.of_side] == faces)[:, 0]
    order = torch.sort(edges.of_side[mine], stable=True).indices
    return mine[order].view(-1, faces)


def _directions(mesh: Mesh, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [n, k, 3] in which the faces leave their common edge, at right angles to it, and the edges' unit vectors."""
    vertices, faces = mesh.vertices.double(), mesh.faces.long()
    start, end = vertices[faces.view(-1)[sides]], vertices[ends_of(faces)[sides]]
    apex = vertices[faces.roll(-2, 1).reshape(-1)[sides]]
    axis = torch.nn.functional.normalize(end[:, :1] - start[:, :1], dim=2)
    out = apex - start
    out = out - (out * axis).sum(2, keepdim=True) * axis
    return torch.nn.functional.normalize(out, dim=2), axis[:, 0]


def _pair_three(mesh: Mesh, sides: Tensor) -> Tensor:
    out, _ = _directions(mesh, sides)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]], device=sides.device)
    straight = -(out[:, pairs[:, 0]] * out[:, pairs[:, 1]]).sum(2)
    return sides.gather(1, pairs[straight.argmax(1)])


def _pair_four(mesh: Mesh, sides: Tensor) -> Tensor:
    out, axis = _directions(mesh, sides)
    first = out[:, 0]
    second = torch.linalg.cross(axis, first)
    angle = torch.atan2((out * second[:, None]).sum(2), (out * first[:, None]).sum(2))
    order = angle.argsort(dim=1, stable=True)
    around, turned = sides.gather(1, order), out.gather(1, order[..., None].expand(-1, -1, 3))
    straight = -(turned * turned.roll(-1, 1)).sum(2)  # of neighbours (0,1) (1,2) (2,3) (3,0)
    even = straight[:, 0] + straight[:, 2] >= straight[:, 1] + straight[:, 3]
    around = torch.where(even[:, None], around, around.roll(-1, 1))
    return around.view(-1, 2)
