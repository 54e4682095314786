# SPDX-License-Identifier: Apache-2.0
"""Coarser levels of detail that use the textures of the finest (docs/spec/geometry.md 14, 19.7).

Positions and texture coordinates are those of the finest level. A chart is a projection along one axis, so a coarser face shows
the texels that lie before and behind it. Chart borders may leave their course by half of the padding: what is cut short shows
texels that the chart's border fills. Where a level has fewer faces than that needs, seams slide: a chart goes on over part of
its neighbour, or over all of it, and its texture is stretched by as much. That has a price; levels of large charts hardly do.

Shape and texture give way by turns: the surface may move by an eighth of the side of a face of the level, then by a quarter,
and so on, and at each of these steps borders leave their course a little at first, then further. A level that kept its borders
whatever it costs would spend its faces on them and crumple what lies between. Where handles keep it from its number of faces,
the narrowest are cut (`handles.py`); slivers come last.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genesis_server.bake.handles import cut_handles
from genesis_server.bake.layout import PACK_SIZE, PADDING
from genesis_server.bake.tangents import vertex_tangents
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.finish import TOLERANCE
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from native_ext.collapse_wedges import Guard, Wedges, collapse_round
from native_ext.exact_sum import exact_sum
from native_ext.flip_wedges import flip_wedges

LEVEL_SHARES = (1.0, 0.25, 0.05)  # of the faces
_STEPS = (0.125, 0.25, 0.5, 1.0, 2.0)  # by which the surface may move, in sides of a face of the level
_ASTRAY = (4.0, 16.0)  # times what borders may leave their course by, where the surface would move further otherwise
_FAR_FROM = 1.0  # side: before the surface moves so far, borders may not go furthest
_ROUNDS = 200  # each takes away up to a tenth; a bound, not a setting
_STALLED = 0.002  # of the faces: a round that takes away fewer is the last one at its step
_FACES_OF_HANDLE = 12  # that become fewer when one is cut, about
_FLIPS = 12  # steps of edge flips against slivers, each with all that do not touch
_THIN = 0.087  # twice the area over the longest edge squared: an aspect of ten
_SHARE = 0.4  # of the points take part in a round
_BORDER_WEIGHT = 10.0  # of the planes that stand on chart borders, against those of faces
_EDGE_WEIGHT = 1e-2  # of the distance to where a point was: keeps faces of flat places round
_FACING = 0.3  # cosine: a normal of the finest mesh that a face around it turns from further than this is made anew


def coarser_level(mesh: UnwrappedMesh, faces: int, texture_size: int) -> UnwrappedMesh:
    """A level of detail with fewer faces in the same texture.

    Args:
        mesh: a finer level.
        faces: wanted; one fewer at most, 1 % more where handles had to be cut, and more only where parts need more.
        texture_size: texels per side of the texture.

    Returns:
        The level. Its positions and texture coordinates are ones of `mesh`, though not always in the same pairs; positions are
        new where a handle was cut. Charts may be missing, those that are left may end elsewhere.
    """
    point, points = _points(mesh)
    reach = PADDING / 2 / min(PACK_SIZE, texture_size)
    state = Wedges(
        positions=mesh.vertices[points].contiguous(),
        uvs=mesh.uvs.contiguous(),
        home=mesh.vertices.contiguous(),
        point=point.int(),
        faces=mesh.faces.contiguous(),
        quadrics=_quadrics(mesh, point, len(points)),
        drift=torch.zeros(len(mesh.uvs), device=point.device),
    )
    strict = (Guard(reach, thin=_THIN), *(Guard(times * reach, turn=0.0, thin=_THIN, fan=24) for times in _ASTRAY))
    shapely, eased = (Guard(_ASTRAY[0] * reach, turn=0.0, thin=thin, fan=24) for thin in (0.055, 0.02))
    share = _area(mesh) / max(faces, 1)  # of each face of the level
    for step in _STEPS:
        for guard in strict if step >= _FAR_FROM else strict[:-1]:
            state = _collapsed(state, guard, faces, share * share * step**2, _STALLED)
        state = _without_slivers(state)
    wedge = torch.arange(len(point), device=point.device)
    new = len(points)  # number of the first point that a cut makes
    for first, guards in ((strict, strict[-1:]), ((shapely, eased), (shapely, eased))):
        for guard in first:
            state = _without_slivers(_collapsed(state, guard, faces))
        while len(state.faces) > (1 + TOLERANCE / 2) * faces:
            cut = cut_handles(state, max(1, (len(state.faces) - faces) // _FACES_OF_HANDLE))
            if cut is None:
                break
            state, wedge, points = cut.mesh, wedge[cut.wedge_source], points[cut.point_source]
            for guard in guards:
                state = _without_slivers(_collapsed(state, guard, faces))
    used, index = torch.unique(state.faces.long(), return_inverse=True)
    index, source = index.reshape(-1, 3), wedge[used]
    here = state.point[used].long()
    place = points[here]
    vertices = state.positions[here]
    normals = _facing_normals(vertices, mesh.normals[place], index)
    chart = mesh.chart.new_zeros(len(mesh.vertices))
    chart[mesh.faces.long().reshape(-1)] = mesh.chart.repeat_interleave(3)
    own = int(mesh.source_vertex.max()) + 1 + here  # what was cut apart stays apart in the next level
    return UnwrappedMesh(
        vertices=vertices,
        faces=index.int(),
        normals=normals,
        uvs=mesh.uvs[source],
        tangents=vertex_tangents(vertices, normals, mesh.uvs[source], index),
        source_vertex=torch.where(here < new, mesh.source_vertex[place], own),
        chart=chart[wedge[state.faces[:, 0].long()]],
    )


def _area(mesh: UnwrappedMesh) -> float:
    """To three digits, which are the same on every device."""
    return float(f"{float(face_crosses(Mesh(mesh.vertices.double(), mesh.faces)).norm(dim=1).sum()) / 2:.3g}")


def _collapsed(state: Wedges, guard: Guard, faces: int, limit: float = math.inf, stalled: float = 0.0) -> Wedges:
    for _ in range(_ROUNDS):
        before = len(state.faces)
        if before > faces:
            state = collapse_round(state, guard, before - faces, _SHARE, limit)
        if before - len(state.faces) <= stalled * before:
            break
    return state


def _without_slivers(state: Wedges) -> Wedges:
    for _ in range(_FLIPS):
        state, flips = flip_wedges(state, _THIN)
        if flips == 0:
            break
    return state


def _facing_normals(vertices: Tensor, normals: Tensor, faces: Tensor) -> Tensor:
    """The normals [V, 3], but where a face of a vertex would be lit from behind by its own: there the mean of its faces'."""
    corner, cross = faces.reshape(-1), face_crosses(Mesh(vertices, faces)).repeat_interleave(3, 0)
    facing = (normals[corner] * normalize(cross, dim=1, eps=1e-30)).sum(1)
    worst = torch.ones_like(normals[:, 0]).scatter_reduce_(0, corner, facing, "amin")
    own = normalize(exact_sum(corner, cross.double(), len(vertices)), dim=1, eps=1e-300).float()
    return torch.where((worst < _FACING)[:, None], own, normals)


def _points(mesh: UnwrappedMesh) -> tuple[Tensor, Tensor]:
    """The point of every wedge, int64 [W], and one wedge of every point, int64 [P]."""
    _, point = torch.unique(mesh.source_vertex, return_inverse=True)
    count = int(point.max()) + 1
    wedge = torch.full((count,), len(point), dtype=torch.int64, device=point.device)
    wedge.scatter_reduce_(0, point, torch.arange(len(point), device=point.device), "amin")
    return point, wedge


def _quadrics(mesh: UnwrappedMesh, point: Tensor, count: int) -> Tensor:
    """Sum of squared distances to the planes of the faces, weighted by area, and of the chart borders; float32 [P, 10]."""
    faces, crosses = mesh.faces.long(), face_crosses(Mesh(mesh.vertices.double(), mesh.faces))
    doubled = crosses.norm(dim=1, keepdim=True)
    normal = crosses / doubled.clamp_min(1e-300)
    planes = [(faces.reshape(-1), normal.repeat_interleave(3, 0), mesh.vertices[faces].double().reshape(-1, 3), doubled)]
    weights = [doubled[:, 0].repeat_interleave(3) / 6]
    ends = torch.stack([faces, faces.roll(-1, 1)], 2).reshape(-1, 2)
    key = ends.min(1).values * len(mesh.vertices) + ends.max(1).values
    _, inverse, uses = torch.unique(key, return_inverse=True, return_counts=True)
    border = (uses[inverse] == 1).nonzero()[:, 0]
    if len(border):
        a, b = (mesh.vertices[ends[border, k]].double() for k in (0, 1))
        upright = torch.linalg.cross(b - a, normal[border // 3])
        upright = normalize(upright, dim=1, eps=1e-300)
        for k in (0, 1):
            planes.append((ends[border, k], upright, a, None))
            weights.append(_BORDER_WEIGHT * (b - a).square().sum(1) / 4)
    total = torch.zeros(count, 10, dtype=torch.float64, device=faces.device)
    for (wedge, n, p, _), weight in zip(planes, weights, strict=True):
        plane = torch.cat([n, -(n * p).sum(1, keepdim=True)], 1)
        i, j = torch.triu_indices(4, 4, device=faces.device)
        total += exact_sum(point[wedge], plane[:, i] * plane[:, j] * weight[:, None], count)
    # and the distance to the point itself
    size = exact_sum(point[faces.reshape(-1)], doubled[:, 0].repeat_interleave(3) / 6, count) * _EDGE_WEIGHT
    x = torch.zeros(count, 3, dtype=torch.float64, device=faces.device)
    x[point] = mesh.vertices.double()
    zero = torch.zeros_like(size)
    columns = [size, zero, zero, -size * x[:, 0], size, zero, -size * x[:, 1], size, -size * x[:, 2], size * x.square().sum(1)]
    return (total + torch.stack(columns, 1)).float()
