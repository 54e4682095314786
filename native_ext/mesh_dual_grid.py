# SPDX-License-Identifier: Apache-2.0
"""A triangle mesh as a flexible dual grid (docs/spec/geometry.md 3): active cells, dual vertices, flags of crossed edges."""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.dual_points import group, solve_dual_points, walk_segments
from native_ext.grid_crossings import grid_crossings
from native_ext.triangle_cells import triangle_cells
from native_ext.voxel_lookup import VoxelLookup


def mesh_to_dual_grid(
    vertices: Tensor,
    faces: Tensor,
    low: Tensor,
    high: Tensor,
    size: tuple[int, int, int],
    face_term: bool = True,
    boundary_weight: float = 0.2,
    regularisation: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells that the mesh touches, their dual vertices and flags; an open mesh's rims count as feature lines.

    Args:
        vertices: float32 [V, 3].
        faces: int [F, 3], indices into `vertices`; edges of one face are boundary edges, so weld first.
        low, high: float32 [3], corners of the grid's box.
        size: cells per axis.
        face_term: faces that pass a cell without crossing a grid line there count too.
        boundary_weight, regularisation: weights of the squared distances to boundary edges and to the mean crossing.

    Returns:
        coords int32 [N, 3] ascending in x, y, z; offsets float64 [N, 3] from the cells' low corners in cells, 0..1;
        intersected bool [N, 3].
    """
    cell_size = ((high - low) / torch.tensor(size, device=low.device)).float()
    step = cell_size.double()
    local = (vertices - low).float()
    crossings = grid_crossings(local, faces, size, cell_size)
    keys, row = torch.unique(_keys(crossings.touched(), size), return_inverse=True)
    coords = torch.stack([keys // (size[1] * size[2]), keys // size[2] % size[1], keys % size[2]], 1)
    intersected = torch.zeros(len(coords), 3, dtype=torch.bool, device=faces.device)
    intersected[row[:, 0], crossings.axis] = True
    number = torch.arange(len(row), device=faces.device)[:, None].expand(-1, 4).reshape(-1)
    touching = group(row.reshape(-1), number, len(coords))
    find = VoxelLookup(coords, size)
    if face_term:
        triangle, overlapped = triangle_cells(local, faces, find, cell_size)
    else:
        triangle = overlapped = number[:0]
    ends = local.double()[_boundary_edges(faces)] if boundary_weight > 0 else step.new_zeros(0, 2, 3)
    segment, passed = walk_segments(ends, step)
    passed = find(passed)
    dual = solve_dual_points(
        coords,
        step,
        local.double()[faces.long()],
        touching,
        crossings.point,
        crossings.triangle,
        group(overlapped, triangle, len(coords)),
        group(passed[passed >= 0], segment[passed >= 0], len(coords)),
        ends,
        boundary_weight,
        regularisation,
    )
    return coords.int(), dual / step, intersected


def _keys(cells: Tensor, size: tuple[int, int, int]) -> Tensor:
    return (cells[..., 0] * size[1] + cells[..., 1]) * size[2] + cells[..., 2]


def _boundary_edges(faces: Tensor) -> Tensor:
    """int64 [B, 2], edges of exactly one face."""
    start = faces.long().reshape(-1)
    end = faces.long().roll(-1, 1).reshape(-1)
    key, count = torch.unique(torch.minimum(start, end) << 32 | torch.maximum(start, end), return_counts=True)
    key = key[count == 1]
    return torch.stack([key >> 32, key & 0xFFFFFFFF], 1)
