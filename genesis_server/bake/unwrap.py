# SPDX-License-Identifier: Apache-2.0
"""Unwrap a mesh: charts, their projections, one square atlas of uniform texel density (docs/spec/geometry.md 16, 18.2-3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genesis_server.bake.charts import Adjacency, cluster_faces, connected, face_adjacency
from genesis_server.bake.layout import (
    MIN_ALTITUDE,
    altitudes,
    overlap_density,
    overlapping_faces,
    pack_atlas,
    project_charts,
    turn_to_rectangles,
    widen_slivers,
)
from genesis_server.bake.relax import relax_folds
from genesis_server.bake.tangents import vertex_tangents
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas, vertex_normals
from genesis_server.protocol.errors import ErrorCode, GenesisError

_SPLIT_ROUNDS = 20  # halving a chart this often leaves single faces, which cannot overlap
_SMALL_FOLD = 0.2  # of a chart's faces lying over others: they are cut out; more, and the chart is halved
_SMALLEST_WITH_FOLD = 16  # faces; smaller charts are halved
_MIN_AREA = 1e-16  # of a face in model space: below, float32 positions no longer carry a normal


def unwrap(mesh: Mesh, texture_size: int, check: Callable[[], None] = lambda: None) -> UnwrappedMesh:
    """Gives every face its own place in a square texture.

    Args:
        mesh: triangles in model space; faces without area are left out.
        texture_size: texels per side of the texture to be baked; decides the padding between charts.
        check: called between the steps; what it raises ends the work.

    Returns:
        The unwrapped mesh on the mesh's device. Charts keep max(4, texture_size / 256) texels from each other (fewer only
        where a texture below 1024 texels is too small for that), are not mirrored, do not overlap, and have the same number
        of texels per area.

    Raises:
        GenesisError: BAD_MESH when no face has an area or a position is not finite.
    """
    if not bool(torch.isfinite(mesh.vertices).all()):
        raise GenesisError(ErrorCode.BAD_MESH, "The mesh has positions that are not finite.", "Run the mesh stage again.")
    faces = mesh.faces[face_areas(mesh) > _MIN_AREA]
    if faces.shape[0] == 0:
        raise GenesisError(ErrorCode.BAD_MESH, f"None of the mesh's {mesh.faces.shape[0]} faces has an area.", "")
    solid = Mesh(mesh.vertices, faces)
    smooth = relax_folds(solid)
    corners, areas = smooth.vertices[faces.long()].double(), face_areas(solid)
    check()
    chart = cluster_faces(smooth)
    check()
    chart = _separate_overlaps(corners, chart, face_adjacency(smooth))
    check()
    chart = _isolate_slivers(chart, project_charts(corners, areas, chart), texture_size)
    flat = widen_slivers(turn_to_rectangles(project_charts(corners, areas, chart), chart), chart)
    return _split_vertices(solid, chart, pack_atlas(flat, chart, texture_size))


def _isolate_slivers(chart: Tensor, flat: Tensor, texture_size: int) -> Tensor:
    """Gives faces too thin to survive rounding a chart of their own, where they can be widened."""
    texels = flat * (texture_size / _side(flat))
    thin = altitudes(texels) < MIN_ALTITUDE
    fresh = torch.cumsum(thin.long(), 0) + int(chart.max())
    return torch.unique(torch.where(thin, fresh, chart), return_inverse=True)[1]


def _side(flat: Tensor) -> Tensor:
    """Side of a square that the charts would fill to two thirds: an estimate before they are packed."""
    a, b, c = flat.unbind(1)
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    return (doubled.abs().sum() / 2 * 1.5).sqrt()


def _separate_overlaps(corners: Tensor, chart: Tensor, near: Adjacency) -> Tensor:
    """Cuts charts whose projection covers itself until none does: a small fold is cut out, a spiral is halved."""
    density = overlap_density(near.areas)
    suspects = torch.arange(chart.shape[0], device=chart.device)
    for _ in range(_SPLIT_ROUNDS):
        names, local = torch.unique(chart[suspects], return_inverse=True)
        upper = overlapping_faces(project_charts(corners[suspects], near.areas[suspects], local), local, density)
        if not bool(upper.any()):
            break
        size = torch.bincount(local)
        share = torch.bincount(local, upper.double(), minlength=len(names)) / size
        small = (share <= _SMALL_FOLD) & (size >= _SMALLEST_WITH_FOLD)
        fold = torch.zeros_like(chart, dtype=torch.bool)
        fold[suspects[upper & small[local]]] = True
        a, b = near.pairs[chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]]].unbind(1)
        ring = fold.index_put((a[fold[b]],), fold.new_tensor(True)).index_put((b[fold[a]],), fold.new_tensor(True))
        whole = suspects[((share > 0) & ~small)[local]]
        suspects = suspects[(share > 0)[local]]
        label = 2 * chart + ring.long()
        label[whole] = _halve(corners[whole].mean(1), chart[whole]) + int(label.max()) + 1
        chart = connected(label, near.pairs)
    return chart


def _halve(centres: Tensor, chart: Tensor) -> Tensor:
    """Labels that cut each chart in two across its longest direction; centres float64 [n, 3], chart int64 [n]."""
    result = torch.zeros_like(chart)
    for part, number in enumerate(torch.unique(chart).tolist()):
        inside = (chart == number).nonzero()[:, 0]
        points = centres[inside] - centres[inside].mean(0)
        _, direction = torch.linalg.eigh(points.T @ points)
        order = torch.argsort(points @ direction[:, 2], stable=True)
        result[inside] = 2 * part
        result[inside[order[order.numel() // 2 :]]] = 2 * part + 1
    return result


def _split_vertices(mesh: Mesh, chart: Tensor, uvs: Tensor) -> UnwrappedMesh:
    """One vertex per pair of source vertex and chart; faces in order of their chart."""
    order = torch.argsort(chart, stable=True)
    faces, chart, uvs = mesh.faces[order].long(), chart[order], uvs[order]
    key = chart[:, None] * mesh.vertices.shape[0] + faces
    key, inverse = torch.unique(key.reshape(-1), return_inverse=True)
    source = key % mesh.vertices.shape[0]
    uv = torch.zeros(key.shape[0], 2, dtype=torch.float32, device=uvs.device)
    uv[inverse] = uvs.reshape(-1, 2).float()
    vertices, normals, faces = mesh.vertices[source], vertex_normals(mesh)[source], inverse.reshape(-1, 3)
    return UnwrappedMesh(
        vertices=vertices,
        faces=faces.int(),
        normals=normals,
        uvs=uv,
        tangents=vertex_tangents(vertices, normals, uv, faces),
        source_vertex=source,
        chart=chart.int(),
    )
