# SPDX-License-Identifier: Apache-2.0
"""A thickened closed surface around any mesh: its unsigned distance, contoured (docs/spec/geometry.md 15, as published).

Two shells around every closed component, a slab around every sheet, vertices at the mean of their cell's crossings. What
exports use is `genesis_server.mesh.remesh`, which has one shell and displaces nothing; this is the operator that others' meshes
were made with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.closest_point import SurfaceSearch
from native_ext.dual_contour import CORNERS, EDGES
from native_ext.dual_grid_mesh import dual_grid_quads, flatter_diagonal, split_quads

_COARSEST = 32
_NEAR = 0.87  # cells; half the diagonal of a cell is 0.866


def narrow_band_surface(
    vertices: Tensor,
    faces: Tensor,
    centre: Tensor,
    scale: float,
    resolution: int,
    band: float = 1.0,
    project_back: float = 0.0,
    flatter: bool = True,
) -> tuple[Tensor, Tensor]:
    """The surface at a distance of `band` cells.

    Args:
        vertices: float32 [V, 3]; faces: int [F, 3].
        centre: float32 [3], scale: side of the cubic grid; it must hold the mesh and the band.
        resolution: cells per axis, divisible by 2 until it is 32 or less.
        band: distance, in cells.
        project_back: share of the way back to the mesh, 0 to 1.
        flatter: split quads along the flatter diagonal; otherwise 0-2 always, as published.

    Returns:
        float32 [W, 3] and int32 [G, 3], normals away from the mesh.
    """
    tree = SurfaceSearch(vertices, faces)
    iso = band * scale / resolution

    def world(points: Tensor, cells: int) -> Tensor:
        return ((points / cells - 0.5) * scale + centre).float()

    level = resolution
    while level > _COARSEST and level % 2 == 0:
        level //= 2
    axis = torch.arange(level, device=vertices.device)
    cells = torch.cartesian_prod(axis, axis, axis)
    children = torch.tensor(CORNERS, device=cells.device)
    while True:
        distance = tree.closest(world(cells + 0.5, level))[0]
        cells = cells[(distance - iso).abs() < _NEAR * scale / level]
        if level == resolution:
            break
        cells, level = (2 * cells[:, None] + children).view(-1, 3), 2 * level
    sides = resolution + 1
    corner = cells[:, None] + children
    keys, which = torch.unique((corner[..., 0] * sides + corner[..., 1]) * sides + corner[..., 2], return_inverse=True)
    grid = torch.stack([keys // (sides * sides), keys // sides % sides, keys % sides], 1)
    value = (tree.closest(world(grid, resolution))[0] - iso)[which]
    rising = torch.zeros_like(cells)
    for a in range(3):
        low = [1, 1, 1]
        low[a] = 0
        start, end = value[:, CORNERS.index(tuple(low))], value[:, 7]
        rising[:, a] = ((start < 0) & (end >= 0)).long() - ((start >= 0) & (end < 0)).long()
    dual = cells + _mean_crossings(value)
    quads = dual_grid_quads(cells, rising != 0, resolution)
    corners = world(dual, resolution)
    triangles = split_quads(
        quads, flatter_diagonal(corners, quads) if flatter else torch.ones_like(quads[:, 0], dtype=torch.bool)
    )
    up = _owned_sign(quads, cells, rising) > 0
    triangles = torch.where(up.repeat_interleave(2)[:, None], triangles[:, [0, 2, 1]], triangles)
    used, number = torch.unique(triangles, return_inverse=True)
    corners = corners[used.long()]
    if project_back > 0:
        _, face, weights = tree.closest(corners)
        foot = (weights[..., None] * vertices[faces[face].long()]).sum(1)
        corners = corners - project_back * (corners - foot)
    return corners, number.int()


def _mean_crossings(value: Tensor) -> Tensor:
    """float32 [N, 3], mean sign change on the edges of cells with corner values [N, 8]; the middle if there is none."""
    total, count = torch.zeros(len(value), 3, device=value.device), torch.zeros(len(value), 1, device=value.device)
    for axis, low in EDGES:
        high = list(low)
        high[axis] = 1
        start, end = value[:, CORNERS.index(low)], value[:, CORNERS.index(tuple(high))]
        crosses = (start < 0) != (end < 0)
        point = torch.tensor(low, dtype=torch.float32, device=value.device).repeat(len(value), 1)
        point[:, axis] = torch.where(crosses, -start / torch.where(crosses, end - start, 1.0), 0.0)
        total, count = total + crosses[:, None] * point, count + crosses[:, None]
    return torch.where(count > 0, total / count.clamp(min=1), 0.5)


def _owned_sign(quads: Tensor, cells: Tensor, rising: Tensor) -> Tensor:
    """int64 [Q], sign of the edge that the first cell of each quad owns, the axis being told by where the third cell lies."""
    step = cells[quads[:, 2]] - cells[quads[:, 0]]  # (0, 1, 1), (1, 0, 1) or (1, 1, 0)
    return rising[quads[:, 0]].gather(1, step.argmin(1, keepdim=True))[:, 0]
