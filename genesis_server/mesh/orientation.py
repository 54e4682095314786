# SPDX-License-Identifier: Apache-2.0
"""Winding: neighbours agree, and the whole faces outward (docs/spec/geometry.md 13.6).

The flags of an O-Voxel have no sign, so the winding of an extracted surface means nothing, and on noisy surfaces a few links
lie. Patches are therefore merged like clusters that vote: two patches join in the relation that most of their common links
ask for, strongest agreement first; one wrong bridge cannot turn half an object inside out. A closed patch then faces outward by
its signed volume, an open one the side from which more rays escape, or by its volume where nobody sees it from outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genesis_server.mesh.connectivity import (
    crowded_sides,
    ends_of,
    number_roots,
    pair_sides,
    parity_components,
    sides_of_two,
    sides_without_link,
)
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from native_ext.escape_rays import escape_votes
from native_ext.segment_sum import run_starts, segment_sum, sum_by_row

_SAMPLES = 3000  # points from which rays start; patches of a few thousandths of the area still get several
_RAYS = 12
_DECIDED = 0.04  # share of all rays by which one side must win; less is a sheet seen from both sides, or a hidden patch
_PIECE = 1 << 20  # faces whose corners are looked at together
_LIFT = 1e-4  # of the mesh's extent, where rays start


def clashing(faces: Tensor, links: Tensor) -> Tensor:
    """bool [L], links whose two faces run along their edge in the same direction."""
    start, end = faces.long().reshape(-1), ends_of(faces)
    return start[links[:, 0]] != end[links[:, 1]]


def agreeing_links(mesh: Mesh) -> Tensor:
    """int64 [L, 2], links whose faces are wound alike; the others are seams of what cannot be oriented."""
    links = pair_sides(mesh, torch.zeros(len(mesh.faces), dtype=torch.int64, device=mesh.faces.device))
    return links[~clashing(mesh.faces, links)]


def flip(faces: Tensor, mask: Tensor) -> Tensor:
    """Faces with the winding of the masked ones reversed (corners 1 and 2 exchanged)."""
    return torch.where(mask[:, None], faces[:, [0, 2, 1]], faces)


def consistent_flips(faces: Tensor, links: Tensor) -> tuple[Tensor, Tensor]:
    """Which faces to flip so that linked faces agree, as far as they can.

    Args:
        faces: int [F, 3].
        links: int64 [L, 2] sides.

    Returns:
        patch int64 [F], ids by ascending smallest face, and flips bool [F]; each patch's smallest face stays.
    """
    clash = clashing(faces, links)
    label, flips, agree = parity_components(links // 3, clash, len(faces))
    if agree:
        return number_roots(label), flips
    return _voted_flips(links // 3, clash, len(faces))


def _voted_flips(pairs: Tensor, clash: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `consistent_flips`, where some pairs of faces contradict the others."""
    label = torch.arange(count, device=pairs.device)
    flips = torch.zeros(count, dtype=torch.bool, device=pairs.device)
    a, b = pairs.unbind(1)
    while True:
        apart = label[a] != label[b]
        if not bool(apart.any()):
            break
        a, b, clash = a[apart], b[apart], clash[apart]
        parent, turn = _strongest_partner(label[a], label[b], clash ^ flips[a] ^ flips[b], count)
        flips = flips ^ turn[label]
        label = parent[label]
    number = torch.arange(count, device=pairs.device)
    first = torch.full_like(label, count).scatter_reduce_(0, label, number, "amin")[label]
    return number_roots(first), flips ^ flips[first]


def _strongest_partner(a: Tensor, b: Tensor, disagree: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """One round of merging: for every label its new root and whether it turns on the way."""
    pair, which = torch.unique(torch.minimum(a, b) * count + torch.maximum(a, b), return_inverse=True)
    votes = torch.zeros_like(pair).index_add_(0, which, 1 - 2 * disagree.long())
    low, high = pair // count, pair % count
    rank = votes.abs() * len(pair) + torch.arange(len(pair), device=pair.device).flip(0)  # a total order: no cycles but mutual
    best = torch.full((count,), -1, device=pair.device)
    best.scatter_reduce_(0, low, rank, "amax").scatter_reduce_(0, high, rank, "amax")
    here = torch.arange(count, device=pair.device)
    choice = len(pair) - 1 - best % len(pair)
    partner = torch.where(best >= 0, low[choice] + high[choice] - here, here)
    root = (best < 0) | ((best[partner] == best) & (here < partner))
    parent = torch.where(root, here, partner)
    turn = (votes[choice] < 0) & ~root
    while not torch.equal(parent, up := parent[parent]):
        turn, parent = turn ^ turn[parent], up
    return parent, turn


def orient_sheets(mesh: Mesh) -> tuple[Mesh, Tensor, Tensor]:
    """As `orient`, with links of its own.

    Where sheets touch, geometry alone says who goes on with whom: after a tear, or with vertices that tremble, it may link
    two sheets so that one of them turns inside out. Then edges of three and four faces are linked last, by the winding that all
    others have.
    """
    links = pair_sides(mesh)
    patch, flips, agree = parity_components(links // 3, clashing(mesh.faces, links), len(mesh.faces))
    if agree and len(crowded_sides(mesh, 3)) == 0:
        return _outward(mesh, links, number_roots(patch), flips)
    patch, flips = consistent_flips(mesh.faces, sides_of_two(mesh))
    mesh = Mesh(mesh.vertices, flip(mesh.faces, flips))
    return orient(mesh, pair_sides(mesh, patch))


def orient(mesh: Mesh, links: Tensor) -> tuple[Mesh, Tensor, Tensor]:
    """The mesh with consistent, outward winding; links that still clash afterwards are where it cannot be oriented.

    Returns:
        The mesh; its links int64 [L, 2], as sides have other numbers in a face that was turned; and the component of each
        face over the links, int64 [F].
    """
    return _outward(mesh, links, *consistent_flips(mesh.faces, links))


def _outward(mesh: Mesh, links: Tensor, patch: Tensor, flips: Tensor) -> tuple[Mesh, Tensor, Tensor]:
    ends = sides_without_link(mesh.faces, links) // 3
    inward = _inward(Mesh(mesh.vertices, flip(mesh.faces, flips)), patch, patch[ends])
    turned = flips ^ inward[patch]
    face, corner = links // 3, links % 3
    links = torch.where(turned[face], 3 * face + 2 - corner, links)
    return Mesh(mesh.vertices, flip(mesh.faces, turned)), links, patch


def _inward(mesh: Mesh, patch: Tensor, open_patches: Tensor) -> Tensor:
    """bool [patches], those that face inward.

    Args:
        patch: int64 [F]; open_patches: int64 [n], those with an end, any number of times.
    """
    patches = int(patch.max()) + 1 if len(patch) else 0
    crosses = face_crosses(mesh).double()
    area = crosses.norm(dim=1)
    inward = _signed_volumes(mesh, patch, patches, crosses, area) < 0
    if len(open_patches) == 0:
        return inward
    chosen = _spread(area, patch, patches)
    corners = mesh.vertices[mesh.faces[chosen].long()]
    extent = float((mesh.vertices.amax(0) - mesh.vertices.amin(0)).max())
    unit = torch.nn.functional.normalize(crosses[chosen], dim=1).float()
    votes = escape_votes(mesh.vertices, mesh.faces, corners.mean(1), unit, _RAYS, _LIFT * extent).long()
    total = torch.zeros(patches, dtype=torch.int64, device=patch.device).index_add_(0, patch[chosen], votes)
    asked = torch.bincount(patch[chosen], minlength=patches) * _RAYS
    seen = torch.zeros_like(inward)
    seen[open_patches] = True
    return torch.where(seen & (total.abs() > _DECIDED * asked), total < 0, inward)


def _spread(area: Tensor, patch: Tensor, patches: int) -> Tensor:
    """Faces to ask, int64: evenly over the area of each patch, patches by the root of their area."""
    of_patch = sum_by_row(patch, area[:, None], patches)[:, 0]
    weight = area / of_patch.clamp(min=1e-300).sqrt()[patch]
    order = torch.sort(patch, stable=True).indices
    total = torch.cumsum(weight[order], 0)
    marks = (torch.arange(_SAMPLES, device=area.device, dtype=torch.float64) + 0.5) / _SAMPLES * total[-1]
    return torch.unique(order[torch.searchsorted(total, marks).clamp(max=len(area) - 1)])


def _signed_volumes(mesh: Mesh, patch: Tensor, patches: int, crosses: Tensor, area: Tensor) -> Tensor:
    """Six times the volume of each patch, seen from its own centre m, so that an open one is judged by its bulge.

    `sum det(a - m, b - m, c - m) = sum det(a, b, c) - m . sum (b - a) x (c - a)`.
    """
    order, start = torch.sort(patch, stable=True).indices, run_starts(patch, patches)

    def total(values: Tensor) -> Tensor:
        return segment_sum(values[order], start)

    def of_faces(value: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """In pieces: all corners of thirteen million faces would take a gigabyte in double precision."""
        pieces = (mesh.vertices[part.long()].double().unbind(1) for part in mesh.faces.split(_PIECE))
        return torch.cat([value(a, b, c) for a, b, c in pieces])

    volume = total(of_faces(lambda a, b, c: (a * torch.linalg.cross(b, c)) @ a.new_ones(3))[:, None])[:, 0]
    centre = total(of_faces(lambda a, b, c: (a + b + c) / 3).mul_(area[:, None]))
    middle = centre / total(area[:, None]).clamp(min=1e-300)
    return volume - (middle * total(crosses)).sum(1)
