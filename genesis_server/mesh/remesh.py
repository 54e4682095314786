# SPDX-License-Identifier: Apache-2.0
"""A new surface over an old one: closed, one skin, where the old one was (docs/spec/geometry.md 15, one-sided).

Inside is what the oriented surface winds around, and what lies within `_REACH` cells of faces that enclose nothing: open
sheets, and walls too thin for a corner of the grid between their sides. The border of that set becomes the surface. Where an
old face crosses an edge of the grid, it says where the vertex goes, so nothing is displaced; sheets come out as slabs of
the asked thickness; where a hole was, the surface on which the winding number is one half closes it. Voids go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.mesh.connectivity import components, ends_of, link_components, sides_without_link
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas, face_normals
from genesis_server.mesh.orientation import agreeing_links
from genesis_server.mesh.repair import keep_faces, separate_sheets
from native_ext.closest_point import SurfaceSearch
from native_ext.dual_contour import CORNERS, Contour, contour, feature_points, grow_cells
from native_ext.dual_grid_mesh import flatter_diagonal, split_quads
from native_ext.grid_crossings import Crossings, grid_crossings
from native_ext.segment_sum import sum_by_row
from native_ext.winding import WindingNumber

THICKNESS = 0.1  # of a slab, in cells: two sides for any renderer, and nothing that anyone could see
_PAD = 4  # cells around the unit box
_REACH = 0.9  # cells; at least half the diagonal of a cell, so that a slab has no gaps whatever its direction
_OPENING = 0.15  # of its area; a component with a larger opening is a sheet, one with many smaller ones is torn
_DRAW = 0.02  # of a vertex towards the mean of its crossings
_HALVINGS = 5  # of an edge on which the winding number passes one half


def remesh(mesh: Mesh, resolution: int, thickness: float = THICKNESS) -> Mesh:
    """The outer skin of a surface, closed, without edges of more than two faces.

    Args:
        mesh: clean and wound outward, as `repair` leaves it, inside the box [-0.5, 0.5]^3; torn, open or closed.
        resolution: cells per axis of that box, best those of the O-Voxel: then parts are as fine as they were.
        thickness: of what encloses nothing, in cells.

    Returns:
        The new surface; empty where the mesh crosses no line of the grid.
    """
    sides = resolution + 2 * _PAD
    grid = Mesh((mesh.vertices + 0.5) * resolution + _PAD, mesh.faces)
    crossings = grid_crossings(grid.vertices, grid.faces, (sides,) * 3, torch.ones(3, device=grid.vertices.device))
    if len(crossings.cell) == 0:
        return Mesh(mesh.vertices[:0], mesh.faces[:0])
    field = _Field(grid, _open_parts(mesh), crossings, sides)
    cells, corners = grow_cells(field.start, sides, field.inside_corners)
    shape = contour(cells, corners, sides)
    vertices = ((_place(shape, field, crossings, sides, thickness) - _PAD) / resolution - 0.5).float()
    surface = _without_voids(Mesh(vertices, split_quads(shape.quads, flatter_diagonal(vertices, shape.quads))))
    return separate_sheets(surface, agreeing_links(surface))[0] if len(surface.faces) else surface


class _Field:
    """Inside and outside in grid coordinates.

    Attributes:
        thickened: bool [F], faces that enclose nothing.
        start: int64 [n, 3], cells that the surface passes, and those beside what is thickened.
    """

    def __init__(self, grid: Mesh, open_parts: Tensor, crossings: Crossings, sides: int) -> None:
        self.grid, self.sides = grid, sides
        self.winding = WindingNumber(grid.vertices, grid.faces[~open_parts])
        touched = torch.unique(_key(crossings.touched(), sides), return_inverse=True)
        cells, row = _cell(touched[0], sides), touched[1]
        corner = _key(cells[:, None] + torch.tensor(CORNERS, device=cells.device), sides + 1)
        self._known, which = torch.unique(corner, return_inverse=True)
        self._winds = self.winding.inside(_cell(self._known, sides + 1).float())
        along = torch.nn.functional.one_hot(crossings.axis, 3)
        low = crossings.cell + 1 - along  # a cell owns edges at its upper corner
        ends = self.winds(low) | self.winds(low + along)
        lost = ~ends | open_parts[crossings.triangle]  # the surface crosses the edge, and both its ends are outside
        self.thickened = open_parts.clone()
        self.thickened[crossings.triangle[lost]] = True
        self.sheets = SurfaceSearch(grid.vertices, grid.faces[self.thickened])
        around = torch.tensor([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], device=cells.device)
        beside = cells[torch.unique(row[self.thickened[crossings.triangle]])]
        self.start = torch.cat([cells, (beside[:, None] + around).view(-1, 3)])

    def winds(self, corners: Tensor) -> Tensor:
        """bool [n], int64 corners [n, 3] around which the enclosing faces wind."""
        keys = _key(corners, self.sides + 1)
        place = torch.searchsorted(self._known, keys).clamp(max=len(self._known) - 1)
        known = self._known[place] == keys
        inside = self._winds[place] & known
        new = torch.nonzero(~known)[:, 0]
        inside[new] = self.winding.inside(corners[new].float())
        return inside

    def inside_corners(self, corners: Tensor) -> Tensor:
        """bool [n] of int64 corners [n, 3]."""
        inside = self.winds(corners)
        rest = torch.nonzero(~inside)[:, 0]
        inside[rest] = self.beside_sheet(corners[rest].float())
        return inside

    def beside_sheet(self, points: Tensor) -> Tensor:
        """bool [P]."""
        return self.sheets.closest(points, _REACH + 0.1)[0] < _REACH


def _place(shape: Contour, field: _Field, crossings: Crossings, sides: int, thickness: float) -> Tensor:
    """float64 [P, 3], the vertices in grid coordinates."""
    axis = torch.nn.functional.one_hot(shape.crossed[:, 0], 3)
    low, high = shape.crossed[:, 1:].double(), (shape.crossed[:, 1:] + axis).double()
    inner = torch.where(shape.rising[:, None], low, high)
    outer = low + high - inner
    points, normals = (low + high) / 2, torch.zeros_like(low)
    ends_in_sheet = ~field.winds(inner.long())
    crossing = _crossing_of(shape, crossings, field.thickened, sides)
    hit = (crossing >= 0) & ~ends_in_sheet
    points[hit] = crossings.point[crossing[hit]]
    normals[hit] = face_normals(field.grid)[crossings.triangle[crossing[hit]]].double()
    cap = torch.nonzero(~hit & ~ends_in_sheet)[:, 0]
    points[cap] = _halve(field, inner[cap], outer[cap])
    slab = torch.nonzero(ends_in_sheet)[:, 0]
    points[slab] = _on_slab(field, points[slab], thickness)
    vertices = feature_points(shape, points, normals, _DRAW)
    free = torch.zeros(len(shape.patch_cell), dtype=torch.bool, device=vertices.device)
    free[shape.incident_patch[ends_in_sheet[shape.incident_edge]]] = True
    cell = shape.cells[shape.patch_cell].double()
    return torch.where(free[:, None], vertices, torch.minimum(torch.maximum(vertices, cell), cell + 1))


def _crossing_of(shape: Contour, crossings: Crossings, thickened: Tensor, sides: int) -> Tensor:
    """int64 [E], the first crossing on each edge by a face that encloses something; -1 where there is none."""
    solid = torch.nonzero(~thickened[crossings.triangle])[:, 0]
    if len(solid) == 0:
        return torch.full((len(shape.crossed),), -1, device=solid.device)
    axis = crossings.axis[solid]
    owner = torch.nn.functional.one_hot(axis, 3)
    keys = _key(crossings.cell[solid] + 1 - owner, sides + 1) * 3 + axis  # the owned edge is at the cell's upper corner
    keys, order = torch.sort(keys, stable=True)
    wanted = _key(shape.crossed[:, 1:], sides + 1) * 3 + shape.crossed[:, 0]
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, solid[order[place]], -1)


def _halve(field: _Field, inner: Tensor, outer: Tensor) -> Tensor:
    """Where the winding number passes one half between points inside and outside."""
    for _ in range(_HALVINGS):
        middle = (inner + outer) / 2
        inside = field.winding.inside(middle.float())[:, None]
        inner, outer = torch.where(inside, middle, inner), torch.where(inside, outer, middle)
    return (inner + outer) / 2


def _on_slab(field: _Field, points: Tensor, thickness: float) -> Tensor:
    """Points dropped on what is thickened, half the thickness this side of it."""
    _, face, weights = field.sheets.closest(points.float())
    faces = field.grid.faces[field.thickened]
    foot = (weights[..., None] * field.grid.vertices[faces[face].long()]).sum(1).double()
    return foot + torch.nn.functional.normalize(points - foot, dim=1) * (thickness / 2)


def _open_parts(mesh: Mesh) -> Tensor:
    """bool [F], components with an opening that is large beside their area.

    Openings are measured by the length of the vector area of their rim, whatever its shape.
    """
    links = agreeing_links(mesh)
    part = link_components(links, len(mesh.faces))
    parts = int(part.max()) + 1
    area = sum_by_row(part, face_areas(mesh)[:, None], parts)[:, 0]
    rim = sides_without_link(mesh.faces, links)
    start, end = mesh.faces.long().reshape(-1)[rim], ends_of(mesh.faces)[rim]
    loop = torch.unique(components(torch.stack([start, end], 1), len(mesh.vertices))[start], return_inverse=True)[1]
    loops = int(loop.max()) + 1 if len(loop) else 0
    points = mesh.vertices.double()
    vector = sum_by_row(loop, torch.linalg.cross(points[start], points[end]) / 2, loops)
    owner = torch.zeros(loops, dtype=torch.int64, device=loop.device)
    owner[loop] = part[rim // 3]  # a loop of several components counts for one of them
    opening = torch.zeros_like(area).scatter_reduce_(0, owner, vector.norm(dim=1), "amax")
    return (opening > _OPENING * area)[part]


def _without_voids(mesh: Mesh) -> Mesh:
    """Without the components that face inward: what nobody can see from outside."""
    part = link_components(agreeing_links(mesh), len(mesh.faces))
    a, b, c = mesh.vertices.double()[mesh.faces.long()].unbind(1)
    volume = sum_by_row(part, (a * torch.linalg.cross(b, c)).sum(1, keepdim=True), int(part.max()) + 1)[:, 0]
    return keep_faces(mesh, (volume > 0)[part])


def _key(cells: Tensor, sides: int) -> Tensor:
    return (cells[..., 0] * sides + cells[..., 1]) * sides + cells[..., 2]


def _cell(keys: Tensor, sides: int) -> Tensor:
    return torch.stack([keys // (sides * sides), keys // sides % sides, keys % sides], -1)
