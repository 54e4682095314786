# SPDX-License-Identifier: Apache-2.0
"""Clean-up that only removes or separates: duplicates, faces without area, torn sheets, dust (docs/spec/geometry.md 13).

Surviving faces and vertices keep their order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genesis_server.mesh.connectivity import components, ends_of, link_components, sides_without_link
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas
from genesis_server.mesh.orientation import agreeing_links
from native_ext.flat_faces import flat_faces
from native_ext.mesh_sides import CROWDED, fans_of, later_duplicates, torn_vertices
from native_ext.segment_sum import sum_by_row

_FLAT = 1e-12  # area over squared longest edge
_PARTING = 0.02  # of the way to the middle of its faces, by which a vertex leaves a place it shares
_DUST_AREA = 3e-4  # of the whole area ...
_DUST_FACES = 64  # ... and of no more faces than this, so that a leaf of a dense tree is a part and not dust


def keep_faces(mesh: Mesh, keep: Tensor) -> Mesh:
    """The faces of a bool [F] mask, and the vertices they use; the mesh itself where that is all."""
    if bool(keep.all()):
        return drop_unused_vertices(mesh)
    return drop_unused_vertices(Mesh(mesh.vertices, mesh.faces[keep]))


def drop_unused_vertices(mesh: Mesh) -> Mesh:
    """Without vertices that no face uses."""
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=mesh.faces.device)
    used[mesh.faces.long().reshape(-1)] = True
    if bool(used.all()):
        return mesh
    number = torch.cumsum(used, 0) - 1
    return Mesh(mesh.vertices[used], number[mesh.faces.long()].int())


def weld(mesh: Mesh) -> Mesh:
    """Vertices at exactly the same position made one, the first; faces keep their number, some may lose their area."""
    which, _ = _places(mesh.vertices)
    number = torch.arange(len(which), device=which.device)
    first = torch.full_like(number, len(number)).scatter_reduce_(0, which, number, "amin")
    return drop_unused_vertices(Mesh(mesh.vertices, first[which][mesh.faces.long()].int()))


def _places(vertices: Tensor) -> tuple[Tensor, Tensor]:
    """int64 [V] number of each vertex's position, and how many vertices each position has."""
    x, y, z = ((vertices + 0.0).contiguous().view(torch.int32).long() & 0xFFFFFFFF).unbind(1)  # -0 is 0
    column = torch.unique(x << 32 | y, return_inverse=True)[1]
    return torch.unique(column << 32 | z, return_inverse=True, return_counts=True)[1:]


def first_of_duplicates(faces: Tensor) -> Tensor:
    """bool [F], false for faces with the same three vertices as an earlier one."""
    if len(faces) == 0:
        return torch.ones(0, dtype=torch.bool, device=faces.device)
    return ~later_duplicates(faces, fans_of(faces, int(faces.max()) + 1))


def with_area(mesh: Mesh) -> Tensor:
    """bool [F], false for faces with a repeated vertex, an edge without length, or area <= 1e-12 of its square."""
    return ~flat_faces(mesh.vertices, mesh.faces, _FLAT)


def clean_faces(mesh: Mesh) -> Mesh:
    """Without duplicate faces, faces without area, and unused vertices."""
    solid = with_area(mesh)
    if not bool(solid.all()):
        mesh = Mesh(mesh.vertices, mesh.faces[solid])
    return keep_faces(mesh, ~later_duplicates(mesh.faces, mesh.fans))


def split_unlinked(mesh: Mesh, links: Tensor) -> Mesh:
    """A vertex for every fan of linked faces: sheets that are not linked come apart, and so do corners that only touch.

    Args:
        mesh: F faces.
        links: int64 [L, 2] sides; both of a link run between the same two vertices.

    Returns:
        The same faces over new vertices, numbered by the smallest corner of their fan; the mesh itself where nothing comes
        apart.
    """
    vertex = mesh.faces.long().reshape(-1)
    torn = _torn(mesh, links, vertex[links[:, 0]] == vertex[links[:, 1]])
    if not bool(torn.any()):
        return mesh
    corner_torn = torn[vertex]
    loose = torch.nonzero(corner_torn)[:, 0]
    beside = (corner_torn.view(-1, 3) | corner_torn.view(-1, 3).roll(-1, 1)).view(-1)  # sides with a torn end: few
    one, two = links[beside[links[:, 0]]].unbind(1)
    same_way = vertex[one] == vertex[two]
    pairs = torch.cat([
        torch.stack([one, torch.where(same_way, two, _end_corner(two))], 1)[corner_torn[one]],
        torch.stack([_end_corner(one), torch.where(same_way, _end_corner(two), two)], 1)[corner_torn[_end_corner(one)]],
    ])  # fmt: skip
    part = components(torch.searchsorted(loose, pairs), len(loose))
    parts = int(part.max()) + 1
    head = torch.full((parts,), len(vertex), device=vertex.device).scatter_reduce_(0, part, loose, "amin")
    # corners of whole vertices form one fan: their first corner stands for them
    first = mesh.fans.side[mesh.fans.start[:-1].long().clamp(max=len(vertex) - 1)].long()
    is_head = torch.zeros(len(vertex), dtype=torch.bool, device=vertex.device)
    is_head[first[~torn & (mesh.fans.start[1:] > mesh.fans.start[:-1])]] = True
    is_head[head] = True
    number = torch.cumsum(is_head, 0, dtype=torch.int32) - 1
    corner = number[first][vertex]
    corner[loose] = number[head[part]]
    return Mesh(mesh.vertices[vertex[torch.nonzero(is_head)[:, 0]]], corner.view(-1, 3))


def _end_corner(side: Tensor) -> Tensor:
    """The corner where each side ends; a side has the number of the corner where it starts."""
    return side - side % 3 + (side + 1) % 3


def _torn(mesh: Mesh, links: Tensor, same_way: Tensor) -> Tensor:
    """bool [V], vertices that may be of more than one fan."""
    mate = torch.full((3 * len(mesh.faces),), -1, dtype=torch.int32, device=links.device)
    mate[links[:, 0]], mate[links[:, 1]] = links[:, 1].int(), links[:, 0].int()
    torn = torn_vertices(mesh.faces, mesh.fans, mate)
    clash = links[same_way].reshape(-1)  # walks go astray there
    torn[mesh.faces.long().reshape(-1)[clash]] = True
    torn[ends_of(mesh.faces)[clash]] = True
    return torn


def separate_sheets(mesh: Mesh, links: Tensor) -> tuple[Mesh, Tensor]:
    """As `split_unlinked`, and then no edge has more than two faces; with the links of what comes out.

    Sheets that touch along one edge may be one and the same fan at both its ends; there the edge gets a further vertex in its
    middle for each pair of linked faces but the first, and for each face without a partner.
    """
    mesh = split_unlinked(mesh, links)
    while groups := _crowded(mesh, links):
        mesh = _halve(mesh, groups)
        links = agreeing_links(mesh)
    return mesh, links


def _crowded(mesh: Mesh, links: Tensor) -> list[list[int]]:
    """Groups of one or two sides that have to leave their edge; no face in two groups, as each can be halved once at a time."""
    full = torch.nonzero(mesh.twins == CROWDED)[:, 0]
    if len(full) == 0:
        return []
    start, end = mesh.faces.long().reshape(-1)[full], ends_of(mesh.faces)[full]
    edge = torch.unique(torch.minimum(start, end) << 32 | torch.maximum(start, end), return_inverse=True)[1]
    edge_of = dict(zip(full.tolist(), edge.tolist(), strict=True))
    linked = torch.isin(links[:, 0], full)
    single = sides_without_link(mesh.faces, links)
    single = single[torch.isin(single, full)]
    groups, stays, busy = [], set(), set()
    for group in [*links[linked].tolist(), *([side] for side in single.tolist())]:
        edge, faces = edge_of[group[0]], {side // 3 for side in group}
        if edge not in stays:
            stays.add(edge)
        elif not faces & busy:
            busy |= faces
            groups.append(group)
    return groups


def _halve(mesh: Mesh, groups: list[list[int]]) -> Mesh:
    """The faces of each group halved at a new vertex in the middle of their common edge; the second halves come last."""
    device, count = mesh.faces.device, len(mesh.vertices)
    side = torch.tensor([side for group in groups for side in group], device=device)
    new = torch.tensor([count + number for number, group in enumerate(groups) for _ in group], device=device)
    first = torch.tensor([group[0] for group in groups], device=device)
    corner, end = mesh.faces.long().reshape(-1), ends_of(mesh.faces)
    middle = (mesh.vertices[corner[first]] + mesh.vertices[end[first]]) / 2
    a, b, c = corner[side], end[side], end[side - side % 3 + (side + 1) % 3]
    faces = mesh.faces.clone()
    faces[side // 3] = torch.stack([a, new, c], 1).int()
    return Mesh(torch.cat([mesh.vertices, middle]), torch.cat([faces, torch.stack([new, b, c], 1).int()]))


def part_touching(mesh: Mesh) -> Mesh:
    """Vertices that share their position with others moved a little towards their own faces, and behind them.

    Sheets that touch have vertices of their own there; files are often welded by position, and that would join them again.
    """
    which, count = _places(mesh.vertices)
    shared = count[which] > 1
    if not bool(shared.any()):
        return mesh
    corner = torch.nonzero(shared[mesh.faces.long().reshape(-1)])[:, 0]
    vertex = mesh.faces.long().reshape(-1)[corner]
    own = mesh.vertices[mesh.faces[corner // 3].long()].double()
    inward = own.mean(1) - mesh.vertices[vertex].double()
    behind = normalize(torch.linalg.cross(own[:, 2] - own[:, 0], own[:, 1] - own[:, 0]), dim=1)
    inward = inward + inward.norm(dim=1, keepdim=True) * behind
    faces = torch.ones(len(corner), 1, dtype=torch.float64, device=corner.device)
    total = sum_by_row(vertex, torch.cat([inward, faces], 1), len(mesh.vertices))
    order = torch.sort(which, stable=True).indices
    rank = torch.empty_like(order)  # among the vertices of a place: those with the same faces around part, too
    rank[order] = torch.arange(len(order), device=order.device) - (torch.cumsum(count, 0) - count)[which[order]]
    share = _PARTING * (1 + rank[:, None] / 2)
    moved = mesh.vertices + (share * total[:, :3] / total[:, 3:].clamp(min=1)).float()
    return Mesh(torch.where(shared[:, None], moved, mesh.vertices), mesh.faces)


def drop_dust(mesh: Mesh, links: Tensor, part: Tensor | None = None) -> Tensor:
    """bool [F], false for faces of components that are tiny beside the whole; never all of them.

    Args:
        part: int64 [F], the components over the links, where they are known.
    """
    part, area = _part_areas(mesh, links, part)
    dust = (area < _DUST_AREA * area.sum()) & (torch.bincount(part) <= _DUST_FACES)
    return torch.ones_like(part, dtype=torch.bool) if bool(dust.all()) else ~dust[part]


def above_area(mesh: Mesh, links: Tensor, area_min: float) -> Tensor:
    """bool [F], false for faces of components with less area than this (docs/spec/geometry.md 13.5)."""
    part, area = _part_areas(mesh, links)
    return (area >= area_min)[part]


def _part_areas(mesh: Mesh, links: Tensor, part: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """int64 [F] components, and their areas float64."""
    part = link_components(links, len(mesh.faces)) if part is None else part
    parts = int(part.max()) + 1 if len(part) else 0
    return part, sum_by_row(part, face_areas(mesh)[:, None], parts)[:, 0]
