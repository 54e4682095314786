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
from native_ext.mesh_sides import CROWDED

_CROSSING, _CLASHING = -8, -64  # beside the cosines of two pairs


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


def pair_sides(mesh: Mesh, patch: Tensor | None = None) -> Tensor:
    """Links of a mesh whose sheets may touch: the manifold ones, and pairs across edges of three and four faces.

    Of three faces the two that go on most straightly are paired, the third ends there. Four faces, taken in their order
    around the edge, are paired with a neighbour in that order, so that sheets touch but do not cross; of the two ways the
    straighter one. Edges of more faces are left open.

    Args:
        patch: int64 [F], where it is known; faces of one patch are wound alike. Of three faces rather two of a patch are paired
            then, and none that clash; of four rather sheets that cross than such that clash.

    Returns:
        int64 [L, 2] sides.
    """
    links = sides_of_two(mesh)
    threes, fours = (crowded_sides(mesh, faces) for faces in (3, 4))
    if len(threes):
        links = torch.cat([links, _pair_three(mesh, threes, patch)])
    return torch.cat([links, _pair_four(mesh, fours, patch)]) if len(fours) else links


def sides_of_two(mesh: Mesh) -> Tensor:
    """int64 [L, 2], the sides at every edge of two faces."""
    twin = mesh.twins.long()
    side = torch.arange(len(twin), device=twin.device)
    once = twin > side
    return torch.stack([side[once], twin[once]], 1)


def crowded_sides(mesh: Mesh, faces: int) -> Tensor:
    """int64 [n, faces], the sides at every edge of exactly so many faces, three or more; ascending."""
    crowded = torch.nonzero(mesh.twins == CROWDED)[:, 0]
    if len(crowded) == 0:
        return crowded.view(0, faces)
    start, end = mesh.faces.long().reshape(-1)[crowded], ends_of(mesh.faces)[crowded]
    key = torch.minimum(start, end) << 32 | torch.maximum(start, end)
    edge, count = torch.unique(key, return_inverse=True, return_counts=True)[1:]
    return crowded[_by_edge(edge, count, faces)]


def sides_without_link(faces: Tensor, links: Tensor) -> Tensor:
    """int64 sides at which the surface ends, ascending."""
    open_side = torch.ones(len(ends_of(faces)), dtype=torch.bool, device=faces.device)
    open_side[links.reshape(-1)] = False
    return torch.nonzero(open_side)[:, 0]


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
            return number_roots(label)
        pairs, a, b = pairs[apart], a[apart], b[apart]
        label.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        label = _to_roots(label)


def number_roots(label: Tensor) -> Tensor:
    """int64 [n] consecutive numbers of components, of labels that are their smallest items."""
    return (torch.cumsum(label == torch.arange(len(label), device=label.device), 0) - 1)[label]


def _to_roots(label: Tensor) -> Tensor:
    while not torch.equal(label, up := label[label]):
        label = up
    return label


def parity_components(pairs: Tensor, differ: Tensor, count: int) -> tuple[Tensor, Tensor, bool]:
    """Components of items of which some pairs are alike and others opposite.

    Args:
        pairs: int64 [P, 2].
        differ: bool [P], true for opposite pairs.
        count: of items.

    Returns:
        label int64 [count], the smallest item of each component; bool [count], opposite to that item; and whether all pairs
        agree with that (else there is no such answer, and this one follows some of them).
    """
    label = torch.arange(count, device=pairs.device)
    odd = torch.zeros(count, dtype=torch.bool, device=pairs.device)
    left, right, apart = pairs[:, 0], pairs[:, 1], differ
    while True:
        a, b = label[left], label[right]
        go = a != b
        if not bool(go.any()):
            break
        left, right, apart, a, b = left[go], right[go], apart[go], a[go], b[go]
        turn = apart ^ odd[left] ^ odd[right]
        best = torch.full((count,), 2 * count, device=label.device)
        best.scatter_reduce_(0, torch.maximum(a, b), 2 * torch.minimum(a, b) + turn, "amin")
        moved = best < 2 * count
        parent = torch.where(moved, best >> 1, torch.arange(count, device=label.device))
        flip = moved & (best & 1).bool()
        while not torch.equal(parent, up := parent[parent]):
            flip, parent = flip ^ flip[parent], up
        odd, label = odd ^ flip[label], parent[label]
    agree = not bool((odd[pairs[:, 0]] ^ odd[pairs[:, 1]] ^ differ).any())
    return label, odd, agree


def _sides_by_edge(edges: Edges, faces: int) -> Tensor:
    """int64 [n, faces], the sides of every edge with exactly this many, ascending."""
    return _by_edge(edges.of_side, edges.faces, faces)


def _by_edge(edge: Tensor, count: Tensor, faces: int) -> Tensor:
    """int64 [n, faces], numbers of the sides whose edges int64 [S] have exactly `faces` sides, ascending."""
    mine = torch.nonzero(count[edge] == faces)[:, 0]
    order = torch.sort(edge[mine], stable=True).indices
    return mine[order].view(-1, faces)


def _directions(mesh: Mesh, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [n, k, 3] in which the faces leave their common edge, at right angles to it, and the edges' unit vectors."""
    vertices, faces = mesh.vertices.double(), mesh.faces.long()
    start, end = vertices[faces.reshape(-1)[sides]], vertices[ends_of(faces)[sides]]
    apex = vertices[faces.roll(-2, 1).reshape(-1)[sides]]
    axis = torch.nn.functional.normalize(end[:, :1] - start[:, :1], dim=2)
    out = apex - start
    out = out - (out * axis).sum(2, keepdim=True) * axis
    return torch.nn.functional.normalize(out, dim=2), axis[:, 0]


def _pair_three(mesh: Mesh, sides: Tensor, patch: Tensor | None) -> Tensor:
    out, _ = _directions(mesh, sides)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]], device=sides.device)
    straight = -(out[:, pairs[:, 0]] * out[:, pairs[:, 1]]).sum(2)
    if patch is not None:
        known, clash = _relation(mesh, patch, sides[:, pairs[:, 0]], sides[:, pairs[:, 1]])
        straight = torch.where(known, torch.where(clash, -2.0, straight + 2), straight)
    best = straight.argmax(1)
    return sides.gather(1, pairs[best])[straight.gather(1, best[:, None])[:, 0] >= -1.5]


def _pair_four(mesh: Mesh, sides: Tensor, patch: Tensor | None) -> Tensor:
    out, axis = _directions(mesh, sides)
    first = out[:, 0]
    second = torch.linalg.cross(axis, first)
    angle = torch.atan2((out * second[:, None]).sum(2), (out * first[:, None]).sum(2))
    order = angle.argsort(dim=1, stable=True)
    around, turned = sides.gather(1, order), out.gather(1, order[..., None].expand(-1, -1, 3))
    pairings = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0], [0, 2, 1, 3]], device=sides.device)  # the last one crosses
    one, two = pairings[:, 0::2], pairings[:, 1::2]
    score = -(turned[:, one] * turned[:, two]).sum((2, 3)) + pairings.new_tensor([0, 0, _CROSSING])
    if patch is not None:
        known, clash = _relation(mesh, patch, around[:, one], around[:, two])
        score = score + _CLASHING * (known & clash).sum(2)
    return around.gather(1, pairings[score.argmax(1)]).view(-1, 2)


def _relation(mesh: Mesh, patch: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Of sides on the same edge: whether their faces are of one patch, and whether they run the same way."""
    start = mesh.faces.long().reshape(-1)
    return patch[one // 3] == patch[two // 3], start[one] == start[two]
