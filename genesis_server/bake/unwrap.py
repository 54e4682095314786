# SPDX-License-Identifier: Apache-2.0
"""Unwrap a mesh: charts, their projections, one square atlas of uniform texel density (docs/spec/geometry.md 16, 18.2-3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from genesis_server.bake.borders import uncrossed
from genesis_server.bake.charts import Adjacency, border_lengths, cluster_faces, connected, face_adjacency, rim_faces
from genesis_server.bake.crumbs import attach_crumbs
from genesis_server.bake.join import FlatCharts, join_charts
from genesis_server.bake.layout import (
    MIN_ALTITUDE,
    PACK_SIZE,
    altitudes,
    bulky_charts,
    flat_areas,
    overlap_density,
    pack_atlas,
    project_charts,
    scale_to_areas,
    steps_cut,
    turn_to_rectangles,
    widen_slivers,
)
from genesis_server.bake.tangents import vertex_tangents
from genesis_server.bake.unfold import overlapping, unfold, uppermost, wedges, widen_thin
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas, vertex_normals
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.exact_sum import exact_sum

_SPLIT_ROUNDS = 20  # halving a chart this often leaves single faces, which cannot overlap
_SMALL_FOLD = 0.2  # of a chart's faces lying over others: they are cut out; more, and the chart is halved
_ABSORB_ROUNDS = 2  # each asks the next neighbour
_SMALL_CHART = 1.5e-3  # of the whole area: is offered to its neighbours ...
_NARROW_CHART = 12.0  # ... and so is one of fewer texels across
_SQUEEZED = 0.4  # of its area, at least, a chart keeps in its neighbour's plane
_CUT_RINGS = 1  # of faces around a fold, that are cut out with it
_SMALLEST_WITH_FOLD = 16  # faces; smaller charts are halved
_SLIVER_ROUNDS = 4  # taking a sliver out of a chart changes how the rest unfolds
_COMPACT_ROUNDS = 3  # of cutting in two
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
    check()
    side = min(texture_size, PACK_SIZE)  # larger textures have the same layout
    near = face_adjacency(solid)
    chart = _compact(solid, near, cluster_faces(near))
    check()
    chart = _separate_overlaps(solid, chart, near)
    check()
    chart = _absorb(solid, chart, near)
    check()
    laid = _lay_flat(solid, near, chart, side)
    check()
    rim = rim_faces(laid.chart, near.pairs[laid.sewn])
    return _split_vertices(solid, laid, pack_atlas(laid.flat, laid.chart, rim, side, check))


def _compact(mesh: Mesh, near: Adjacency, chart: Tensor) -> Tensor:
    """Cuts the charts that would leave much room unused: very large ones, sickles, and grids of bars."""
    corners = mesh.vertices[mesh.faces.long()].double()
    for _ in range(_COMPACT_ROUNDS):
        flat = scale_to_areas(project_charts(corners, chart), near.areas, chart)
        flat = turn_to_rectangles(flat, chart, rim_faces(chart, near.pairs))
        bulky = bulky_charts(flat, chart)
        if not len(bulky):
            break
        part, other = steps_cut(flat, near.areas, chart, bulky)
        chart = torch.where(part, chart + int(chart.max()) + 1, chart)
        chart = connected(_halved(mesh, chart, other), near.pairs)
    return chart


def _lay_flat(mesh: Mesh, near: Adjacency, chart: Tensor, side: int) -> FlatCharts:
    """The charts in the plane, upright, no face flipped or too thin for the texture."""
    density = overlap_density(near.areas)
    for _ in range(_SLIVER_ROUNDS):
        flat = _flatten(mesh, near.areas, chart, density)
        least = MIN_ALTITUDE * float(_side(flat)) / side
        flat = widen_thin(flat, wedges(mesh.faces, chart), 2 * least)
        thin = altitudes(flat) < least
        thin &= torch.bincount(chart)[chart] > 1
        if not bool(thin.any()):
            break
        fresh = torch.cumsum(thin.long(), 0) + int(chart.max())  # a chart of its own, where it can be widened
        chart = connected(torch.where(thin, fresh, chart), near.pairs)
    else:
        flat = _flatten(mesh, near.areas, chart, density)
    least = MIN_ALTITUDE * float(_side(flat)) / side
    laid = _without_crossings(mesh, near, join_charts(mesh, near, chart, flat, 1.5 * density, least), least)
    laid = attach_crumbs(mesh, near, laid, float(_side(laid.flat)) / side, least)
    upright = turn_to_rectangles(laid.flat, laid.chart, rim_faces(laid.chart, near.pairs[laid.sewn]))
    return replace(laid, flat=widen_slivers(upright, laid.chart))


def _without_crossings(mesh: Mesh, near: Adjacency, laid: FlatCharts, least: float) -> FlatCharts:
    """The same with borders that nowhere cross: they give way, and where that is not enough, their faces leave the chart,
    or it is halved."""
    chart, flat, corner, sewn = laid.chart, laid.flat, laid.corner, laid.sewn
    for attempt in range(_SPLIT_ROUNDS):
        flat, crossing = uncrossed(flat, corner, chart, altitudes(flat).clamp_max(least))
        if not bool(crossing.any()):
            break
        if attempt == 0:
            parts = torch.where(crossing, chart + int(chart.max()) + 1, chart)
        else:
            parts = _halved(mesh, chart, torch.unique(chart[crossing]))
        chart = connected(parts, near.pairs[sewn])
        sewn = sewn & (chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]])
        corner = wedges(corner, chart)
    return FlatCharts(chart, scale_to_areas(flat, near.areas, chart), corner, sewn)


def _flatten(mesh: Mesh, areas: Tensor, chart: Tensor, density: float) -> Tensor:
    """Every chart in the plane, without folds where that is possible, with its area in space; float64 [F, 3, 2]."""
    corners = mesh.vertices[mesh.faces.long()].double()
    flat = project_charts(corners, chart)
    return scale_to_areas(unfold(scale_to_areas(flat, areas, chart), corners, mesh.faces, chart, density), areas, chart)


def _side(flat: Tensor) -> Tensor:
    """Side of a square that the charts would fill to two thirds: an estimate before they are packed."""
    a, b, c = flat.unbind(1)
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    return (doubled.abs().sum() / 2 * 1.5).sqrt()


def _separate_overlaps(mesh: Mesh, chart: Tensor, near: Adjacency) -> Tensor:
    """Cuts charts whose projection covers itself until none does: a small fold is cut out, a spiral is halved."""
    density = overlap_density(near.areas)
    suspects = torch.arange(chart.shape[0], device=chart.device)
    for _ in range(_SPLIT_ROUNDS):
        names, local = torch.unique(chart[suspects], return_inverse=True)
        part = Mesh(mesh.vertices, mesh.faces[suspects])
        flat = _flatten(part, near.areas[suspects], local, density)
        upper = uppermost(flat, local, density) | (altitudes(flat) <= 0)
        if not bool(upper.any()):
            break
        size = torch.bincount(local)
        share = torch.bincount(local, upper.double(), minlength=len(names)) / size
        small = (share <= _SMALL_FOLD) & (size >= _SMALLEST_WITH_FOLD)
        fold = torch.zeros_like(chart, dtype=torch.bool)
        fold[suspects[upper & small[local]]] = True
        a, b = near.pairs[chart[near.pairs[:, 0]] == chart[near.pairs[:, 1]]].unbind(1)
        ring = fold
        for _ in range(_CUT_RINGS):
            ring = ring.index_put((a[ring[b]],), ring.new_tensor(True)).index_put((b[ring[a]],), ring.new_tensor(True))
        whole = names[(share > 0) & ~small]
        suspects = suspects[(share > 0)[local]]
        label = 2 * chart + ring.long()
        halves = _halved(mesh, chart, whole)
        chart = connected(torch.where(halves != chart, halves + int(label.max()) + 1, label), near.pairs)
    return chart


def _absorb(mesh: Mesh, chart: Tensor, near: Adjacency) -> Tensor:
    """Gives small and narrow charts to larger neighbours, wherever the union still lies flat, uncovered and not squeezed."""
    count = int(chart.max()) + 1
    alone = torch.arange(count, device=chart.device)
    refused = torch.empty(0, dtype=torch.int64, device=chart.device)
    for _ in range(_ABSORB_ROUNDS):
        source, target = _offers(chart, near, count, refused)
        if not len(source):
            break
        into = alone.index_copy(0, source, target)
        for attempt in range(2):
            wrong, squeezed = _faults(mesh, chart, near, _roots(into))
            if not bool(wrong.any() | squeezed.any()):
                break
            roots, spoiled = _roots(into), torch.zeros(count, dtype=torch.bool, device=chart.device)
            spoiled[roots[chart[wrong]]] = True
            guilty = squeezed & (into != alone)
            if attempt == 0:
                a, b = near.pairs.unbind(1)
                beside = wrong.index_put((a[wrong[b]],), wrong.new_tensor(True)).index_put(
                    (b[wrong[a]],), wrong.new_tensor(True)
                )
                guilty[chart[beside & (into != alone)[chart]]] = True
                spoiled[roots[guilty.nonzero()[:, 0]]] = False
            # where nobody in particular is to blame, or it went wrong again, all of them go back
            into = torch.where(guilty | spoiled[roots], alone, into)
        refused = torch.cat([refused, (source * count + target)[into[source] == source]])
        chart = _roots(into)[chart]
    return torch.unique(chart, return_inverse=True)[1]


def _roots(into: Tensor) -> Tensor:
    """Where each chart ends up that is given to another, that is given on; always to a larger one, so there is no cycle."""
    while not torch.equal(into[into], into):
        into = into[into]
    return into


def _faults(mesh: Mesh, chart: Tensor, near: Adjacency, roots: Tensor) -> tuple[Tensor, Tensor]:
    """Of charts [C] joined to others: faces [F] that are flipped or covered there, and charts [C] that lose too much area."""
    count, density = len(roots), overlap_density(near.areas)
    grown = torch.zeros(count, dtype=torch.bool, device=chart.device)
    grown[roots[roots != torch.arange(count, device=chart.device)]] = True
    wrong, squeezed = torch.zeros_like(grown[chart]), torch.zeros_like(grown)
    here = grown[roots[chart]].nonzero()[:, 0]
    if len(here):
        local = torch.unique(roots[chart[here]], return_inverse=True)[1]
        flat = _flatten(Mesh(mesh.vertices, mesh.faces[here]), near.areas[here], local, density)
        wrong[here] = overlapping(flat, local, density) | (altitudes(flat) <= 0)
        kept = exact_sum(chart[here], flat_areas(flat), count)
        squeezed = kept < _SQUEEZED * exact_sum(chart[here], near.areas[here], count)
    return wrong, squeezed


def _offers(chart: Tensor, near: Adjacency, count: int, refused: Tensor) -> tuple[Tensor, Tensor]:
    """Small and narrow charts and, for each, the larger neighbour with the longest common border that has not been refused."""
    area = exact_sum(chart, near.areas, count)
    edges, shared = border_lengths(chart[near.pairs], near.length, count)
    source, target, shared = edges.T.reshape(-1), edges.flip(1).T.reshape(-1), shared.repeat(2)
    larger = (area[source] < area[target]) | ((area[source] == area[target]) & (source > target))
    texel = (area.sum() / 0.65).sqrt() / PACK_SIZE
    narrow = 2 * area < _NARROW_CHART * texel * exact_sum(source, shared, count)
    use = larger & ((area < _SMALL_CHART * area.sum()) | narrow)[source] & ~torch.isin(source * count + target, refused)
    source, target, shared = source[use], target[use], shared[use]
    best = torch.zeros(count, dtype=torch.float64, device=chart.device).scatter_reduce_(0, source, shared, "amax")
    wins = shared == best[source]
    into = torch.full((count,), count, dtype=torch.int64, device=chart.device)
    into.scatter_reduce_(0, source[wins], target[wins], "amin")
    offers = (into < count).nonzero()[:, 0]
    return offers, into[offers]


def _halved(mesh: Mesh, chart: Tensor, names: Tensor) -> Tensor:
    """Chart numbers in which each of the named charts is cut in two; theirs are new, all others stay."""
    inside = torch.isin(chart, names).nonzero()[:, 0]
    centres = mesh.vertices[mesh.faces[inside].long()].double().mean(1)
    result = chart.clone()
    result[inside] = _halve(centres, chart[inside]) + int(chart.max()) + 1
    return result


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


def _split_vertices(mesh: Mesh, laid: FlatCharts, uvs: Tensor) -> UnwrappedMesh:
    """One vertex per place of a source vertex in the atlas; faces in order of their chart."""
    order = torch.argsort(laid.chart, stable=True)
    corners, chart, uvs = mesh.faces[order].long().reshape(-1), laid.chart[order], uvs[order]
    faces = wedges(laid.corner[order], chart)
    count, index = int(faces.max()) + 1, faces.reshape(-1)
    source = torch.zeros(count, dtype=torch.int64, device=uvs.device)
    source[index] = corners
    uv = torch.zeros(count, 2, dtype=torch.float32, device=uvs.device)
    uv[index] = uvs.reshape(-1, 2).float()
    vertices, normals = mesh.vertices[source], vertex_normals(mesh)[source]
    return UnwrappedMesh(
        vertices=vertices,
        faces=faces.int(),
        normals=normals,
        uvs=uv,
        tangents=vertex_tangents(vertices, normals, uv, faces),
        source_vertex=source,
        chart=chart.int(),
    )
