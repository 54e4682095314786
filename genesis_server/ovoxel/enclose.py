# SPDX-License-Identifier: Apache-2.0
"""The closed surface of an O-Voxel whose flags are partly wrong, as small networks make them.

A missing flag is a pinhole, a missing cell a crack, a stray flag a fin; repairing the mesh that comes out of them has to guess
from what is torn already. Here all flags together say first which corners of the grid lie inside (`native_ext.inside_corners`),
and then the border of that set is the surface: closed, wound outward, with the predicted dual vertices where there are any.
Flags between corners that are both outside are sheets thinner than a voxel: those of some size become one voxel thick. Where
more than a third of the flags are wrong the network did not know, and holes, cracks and pockets of up to ten voxels are closed.
What nobody sees from outside goes, and so do fragments of fewer than `_FRAGMENT` faces, a ball of 4.5 voxels across.
"""

from __future__ import annotations

import torch
from scipy.ndimage import binary_fill_holes, generate_binary_structure
from torch import Tensor

from genesis_server.mesh.connectivity import link_components, pair_sides
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_crosses
from genesis_server.mesh.orientation import agreeing_links, orient
from genesis_server.mesh.repair import keep_faces, separate_sheets
from genesis_server.mesh.smooth import smooth
from genesis_server.ovoxel.corners import corner_box, differing_edges, unit
from genesis_server.ovoxel.voxels import OVoxel
from native_ext.dual_contour import CORNERS, Contour, contour, mean_points
from native_ext.dual_grid_mesh import dual_grid_quads, flatter_diagonal, split_quads
from native_ext.inside_corners import close_gaps, inside_corners, tidy_corners, torn_corners
from native_ext.segment_sum import sum_by_row
from native_ext.voxel_lookup import VoxelLookup

_CORNERS_MAX = 20_000_000  # of the box, for a grid of 256 cells per axis; larger O-Voxels come from networks that tear less
_EXPLAINED = 0.5  # of the flags, at least: else this is no solid but sheets, and stays as it is
_MENDED = 0.005  # of the flags, at least, have to be added: else there is nothing to mend
_WALLED_IN = 0.45  # of the flags, at most, may be added: sheets that stand around something would get walls between them
_FRAGMENT = 128  # faces
_SHEET = 32  # faces; fewer are stray flags
SMOOTHING = 8  # rounds that take out the tremble of predicted dual vertices
_MEMBRANE_ROUNDS = 12  # by which vertices that nothing predicted are drawn between their neighbours


def enclosed_surface(voxels: OVoxel, smoothing: int = SMOOTHING) -> Mesh | None:
    """The closed surface, or None where the voxels have none that would be better than what `extract_mesh` returns.

    That is so where every flag agrees with its neighbours, where most belong to sheets, and in boxes of more than 256 cells
    per axis.

    Args:
        voxels: cells inside the grid, finite dual vertices.
        smoothing: rounds of `smooth`; none are enough to look at.
    """
    if len(voxels.coords) == 0:
        return None
    low, size = corner_box(voxels.coords)
    if size[0] * size[1] * size[2] > _CORNERS_MAX:
        return None
    cells = voxels.coords.long() - low
    edges = _flagged_edges(cells, voxels.intersected, size)
    flags = sum(len(edge) for edge in edges)
    if _contradictions(edges, size) < 4 * _MENDED * flags:
        return None
    crossed = torch.zeros(3, *size, dtype=torch.bool, device=cells.device)
    for axis, edge in enumerate(edges):
        crossed[axis].view(-1)[edge] = True
    solid = inside_corners(crossed)
    differ = differing_edges(solid)
    missing = int((differ & ~crossed).sum())
    if int((crossed & differ).sum()) < _EXPLAINED * flags or not _MENDED * flags <= missing <= _WALLED_IN * flags:
        return None
    whole = close_gaps(solid, torn_corners(crossed, differ))
    shape = _contour(_without_voids(tidy_corners(_with_sheets(whole, crossed & ~differ, cells, voxels.dual_vertices))))
    points = _placed(shape, cells, voxels.dual_vertices, size)
    vertices = ((points + low) / voxels.resolution - 0.5).float()
    surface = Mesh(vertices, split_quads(shape.quads, flatter_diagonal(vertices, shape.quads)))
    return smooth(_without_fragments(*separate_sheets(surface, agreeing_links(surface))), smoothing)


def _flagged_edges(cells: Tensor, flags: Tensor, size: tuple[int, ...]) -> list[Tensor]:
    """For each axis the flagged edges along it, by the number of their low corner in the box; int64, each once."""
    stride = torch.tensor(_strides(size), device=cells.device)
    corner = ((cells + 1) * stride).sum(1)  # the owned edges end at the upper corner
    return [corner[flags[:, axis]] - stride[axis] for axis in range(3)]


def _contradictions(edges: list[Tensor], size: tuple[int, ...]) -> int:
    """Faces of cells with an odd number of flagged edges, which no set of corners explains; four around every wrong flag."""
    stride = _strides(size)
    odd = torch.zeros(3, size[0] * size[1] * size[2], dtype=torch.bool, device=edges[0].device)
    for axis, edge in enumerate(edges):
        b, d = (axis + 1) % 3, (axis + 2) % 3
        for face, across in ((odd[b], d), (odd[d], b)):  # the faces on both sides of the edge, upright on b and on d
            for here in (edge, edge - stride[across]):
                face[here] = ~face[here]
    return int(torch.count_nonzero(odd))


def _strides(size: tuple[int, ...]) -> tuple[int, int, int]:
    return size[1] * size[2], size[2], 1


def _with_sheets(solid: Tensor, stray: Tensor, cells: Tensor, dual: Tensor) -> Tensor:
    """The corners inside, and those behind sheets.

    Args:
        solid: bool [X, Y, Z].
        stray: bool [3, X, Y, Z], flagged edges with equal ends.
        cells: int64 [N, 3]; dual: float32 [N, 3] offsets.
    """
    flags = torch.zeros(len(cells), 3, dtype=torch.bool, device=cells.device)
    for axis in range(3):
        x, y, z = (cells + 1 - unit(axis, cells.device)).unbind(1)
        flags[:, axis] = stray[axis, x, y, z] & ~solid[x, y, z]
    quads = dual_grid_quads(cells, flags, tuple(solid.shape))
    if len(quads) == 0:
        return solid
    vertices = (cells + dual).float()
    sheet = Mesh(vertices, split_quads(quads, flatter_diagonal(vertices, quads)))
    links = pair_sides(sheet)
    part = link_components(links, len(sheet.faces))
    large = (torch.bincount(part) >= _SHEET)[part][::2]
    step = (cells[quads[:, 2]] - cells[quads[:, 0]]).argmin(1)  # the axis, along which the four cells do not differ
    normal = face_crosses(orient(sheet, links)[0]).view(-1, 2, 3).sum(1).gather(1, step[:, None])[:, 0]
    axis = torch.eye(3, dtype=torch.int64, device=cells.device)[step]
    behind = cells[quads[:, 0]] + 1 - axis + axis * (normal < 0)[:, None]
    x, y, z = behind[large].unbind(1)
    thicker = solid.clone()
    thicker[x, y, z] = True
    return thicker


def _without_voids(solid: Tensor) -> Tensor:
    """Everything inside that the outside does not reach; it passes between corners that touch along a diagonal."""
    filled = binary_fill_holes(solid.cpu().numpy(), generate_binary_structure(3, 2))
    return torch.from_numpy(filled).to(solid.device)


def _contour(solid: Tensor) -> Contour:
    side = max(solid.shape)
    x, y, z = (count - 1 for count in solid.shape)
    inside = sum(solid[i : i + x, j : j + y, k : k + z].to(torch.uint8) for i, j, k in CORNERS)
    cells = torch.nonzero((inside > 0) & (inside < 8))
    i, j, k = cells.unbind(1)
    return contour(cells, torch.stack([solid[i + a, j + b, k + c] for a, b, c in CORNERS], 1), side)


def _placed(shape: Contour, cells: Tensor, dual: Tensor, size: tuple[int, ...]) -> Tensor:
    """float64 [P, 3], the predicted dual vertex where a cell has one and a single patch; membranes between those."""
    axis = torch.nn.functional.one_hot(shape.crossed[:, 0], 3)
    points = mean_points(shape, shape.crossed[:, 1:] + axis * 0.5)
    row = VoxelLookup(cells, size)(shape.cells)[shape.patch_cell]
    known = (row >= 0) & (torch.bincount(shape.patch_cell, minlength=len(shape.cells)) == 1)[shape.patch_cell]
    points[known] = (cells[row[known]] + dual[row[known]]).double()
    start, end = shape.quads.reshape(-1), shape.quads.roll(-1, 1).reshape(-1)  # an edge between two quads comes both ways
    free = ~known[start]
    start, end = start[free], end[free]
    count = torch.bincount(start, minlength=len(points)).clamp(min=1)[:, None]
    for _ in range(_MEMBRANE_ROUNDS):
        mean = sum_by_row(start, points[end], len(points)) / count
        points = torch.where(known[:, None], points, mean)
    return points


def _without_fragments(mesh: Mesh, links: Tensor) -> Mesh:
    part = link_components(links, len(mesh.faces))
    faces = torch.bincount(part)
    return keep_faces(mesh, (faces >= min(_FRAGMENT, int(faces.max())))[part])
