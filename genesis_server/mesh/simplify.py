# SPDX-License-Identifier: Apache-2.0
"""Fewer faces by parallel quadric edge collapse (docs/spec/geometry.md 14): the schedule of `native_ext.edge_collapse`.

Cheap edges go first: a step looks at the cheapest share of all edges and collapses an independent set of them, the last step
only as many as are still too many. Where the strict guards leave nothing to collapse they are eased, then handles and holes
stand in the way: `simplify` stops there, and `finish_mesh` knows what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.repair import drop_unused_vertices
from native_ext.edge_collapse import EdgeCosts, choose_sides, collapse, collapse_costs, outdated
from native_ext.edge_flip import flip_slivers
from native_ext.mesh_sides import Fans, fans_of
from native_ext.quadric_surface import Surface, start_surface

FACES_MIN = 4  # of the smallest closed surface
_LENGTH_WEIGHT = 1e-5  # a tenth of a per cent of an edge's length in distance weighs as much as the length itself
_ROUNDS = 16  # of choosing independent edges per step, at most; each finds about half as many as the one before
_COMPACTION = 2  # unused vertices are dropped when there are this many times the used ones


@dataclass(frozen=True)
class _Guard:
    """What a step may do.

    Attributes:
        share: of all edges, cheapest first, that are looked at.
        cosine: of the angle by which a face may turn.
        quality: of the faces that come out (1 equilateral, 0.2 about an aspect of 10).
    """

    share: float
    cosine: float
    quality: float


_STRICT = (_Guard(0.4, 0.5, 0.2), _Guard(1.0, 0.5, 0.2))
_EASED = (*_STRICT, _Guard(1.0, 0.2, 0.1), _Guard(1.0, -0.5, 0.02))
_INFINITE = 0x7F8  # the upper bits of an infinite float
_SLIVER = 0.2  # quality
_SHORT = 0.3  # of a sliver's longest edge: its shortest is collapsed then
_WORSE = 0.45  # of its shape, that a sliver keeps when others beside it go: in a strip of them each collapse halves the next
_SLIVER_ROUNDS = 12
_STALLED = 0.005  # of the faces; a step that takes away fewer, and is not the last one, eases the guard


def simplify(mesh: Mesh, faces: int, check: Callable[[], None] = lambda: None, eased: bool = False) -> Mesh:
    """The mesh with `faces` faces, one fewer at most; more where its holes, handles and parts need more.

    No new edge of more than two faces comes about, closed surfaces stay closed, and of each part something is left.

    Args:
        mesh: any mesh without duplicate or degenerate faces; it may be simplified already.
        faces: target, at least 4.
        check: called between steps; may raise to stop.
        eased: rather slivers and turned faces than a missed target.
    """
    if len(mesh.faces) <= max(faces, FACES_MIN):
        return mesh
    surface, fans, back = _begin(mesh)
    edges = _all_edges(surface, collapse_costs(surface, fans, _LENGTH_WEIGHT))
    guards, level = _EASED if eased else _STRICT, 0
    while len(surface.faces) > faces and level < len(guards):
        check()
        before = len(surface.faces)
        sides = _next_sides(surface, fans, edges, guards[level], before - max(faces, FACES_MIN))
        again = outdated(surface, fans, edges, *collapse(surface, fans, sides))
        if before - len(surface.faces) < _STALLED * before and len(surface.faces) > faces:
            level += 1
            edges.refused.zero_()
        if len(surface.faces) * _COMPACTION < len(surface.points):
            _compact(surface)
        fans = fans_of(surface.faces, len(surface.points))
        edges.cost[again] = collapse_costs(surface, fans, _LENGTH_WEIGHT, again)
    return back(surface)


def without_slivers(mesh: Mesh) -> Mesh:
    """The mesh with slivers (aspect above about 10) taken out where that is possible: flips first, then short edges collapse.

    Args:
        mesh: consistently wound, without duplicate faces. Its faces become fewer, by at most the slivers.
    """
    surface, fans, back = _begin(mesh)
    for _ in range(_SLIVER_ROUNDS):
        flips = flip_slivers(surface, fans, _SLIVER)
        fans = fans_of(surface.faces, len(surface.points))
        edges = _all_edges(surface, _short_edges(surface, fans))
        sides = choose_sides(surface, fans, edges, torch.finfo(torch.float32).max, 0.5, _SLIVER, _ROUNDS, _WORSE).sides
        collapse(surface, fans, sides)
        if flips + len(sides) == 0:
            break
        fans = fans_of(surface.faces, len(surface.points))
    return back(surface)


def _begin(mesh: Mesh) -> tuple[Surface, Fans, Callable[[Surface], Mesh]]:
    """The mesh in a unit box, and the way back."""
    used = drop_unused_vertices(mesh)
    low, high = used.vertices.double().amin(0), used.vertices.double().amax(0)
    extent = (high - low).max().clamp(min=1e-30)
    surface = start_surface((used.vertices.double() - low) / extent, used.faces, used.fans)

    def back(surface: Surface) -> Mesh:
        _compact(surface)
        return Mesh((surface.points * extent + low).float(), surface.faces)

    return surface, used.fans, back


def _all_edges(surface: Surface, cost: Tensor) -> EdgeCosts:
    return EdgeCosts(cost, torch.zeros(len(cost), dtype=torch.bool, device=cost.device))


def _short_edges(surface: Surface, fans: Fans) -> Tensor:
    """float32 [3F], squared lengths of the edges that make slivers of their faces; inf for all others."""
    corners = surface.points[surface.faces.long()]
    edges = corners.roll(-1, 1) - corners
    length2 = (edges * edges).sum(2)
    area2 = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=1)
    sliver = 2 * 3**0.5 * area2 < _SLIVER * length2.sum(1)
    shortest, longest = length2.amin(1, keepdim=True), length2.amax(1, keepdim=True)
    short = sliver[:, None] & (length2 == shortest) & (length2 <= _SHORT**2 * longest)
    start, end = surface.faces.long().reshape(-1), surface.faces.long().roll(-1, 1).reshape(-1)
    edge = torch.minimum(start, end) << 32 | torch.maximum(start, end)
    wanted = torch.nonzero(torch.isin(edge, edge[short.reshape(-1)]))[:, 0]  # its name may be a side of the face beside it
    named = torch.isfinite(collapse_costs(surface, fans, _LENGTH_WEIGHT, wanted))
    result = torch.full((len(edge),), torch.inf, device=edge.device)
    result[wanted[named]] = length2.reshape(-1)[wanted[named]].float()
    return result


def _next_sides(surface: Surface, fans: Fans, edges: EdgeCosts, guard: _Guard, surplus: int) -> Tensor:
    limit = _cost_at(edges.cost, guard.share)
    chosen = choose_sides(surface, fans, edges, limit, guard.cosine, guard.quality, _ROUNDS)
    if int(chosen.going.sum()) <= surplus + 1:
        return chosen.sides
    order = torch.sort(chosen.key).indices
    return chosen.sides[order[torch.cumsum(chosen.going[order], 0) <= surplus + 1]]  # an inner edge takes two faces with it


def _cost_at(cost: Tensor, share: float) -> float:
    """The cost below which a share of all collapsible edges lies, to an eighth; from a histogram of the floats' bits."""
    if share >= 1:
        return torch.finfo(torch.float32).max
    total = torch.cumsum(torch.bincount(cost.view(torch.int32) >> 20, minlength=1 << 11)[:_INFINITE], 0)
    bucket = min(int((total < share * total[-1]).sum()), _INFINITE - 1)
    return float(torch.tensor(bucket + 1 << 20, dtype=torch.int32).view(torch.float32))


def _compact(surface: Surface) -> None:
    used = torch.zeros(len(surface.points), dtype=torch.bool, device=surface.faces.device)
    used[surface.faces.long().reshape(-1)] = True
    number = torch.cumsum(used, 0) - 1
    surface.faces = number[surface.faces.long()].int()
    for name in ("points", "rim", "matrix", "vector", "constant"):
        setattr(surface, name, getattr(surface, name)[used])
