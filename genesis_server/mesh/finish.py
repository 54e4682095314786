# SPDX-License-Identifier: Apache-2.0
"""From an extracted surface to a mesh worth exporting: clean-up and simplification (docs/spec/geometry.md 13, 14, 17.2).

Order matters. Sheets that touch are told apart before anything is oriented; fins of stray flags, which hang on the
surface by edges of three faces, come loose as small components and go; then winding, then holes (they need winding), then
separate vertices for separate sheets, a new surface where one is asked for, and only then fewer faces. Holes and handles need
faces: where a target is below what they need, larger holes are closed, and then the shape is made anew on a coarser grid.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from genesis_server.mesh.connectivity import sides_without_link
from genesis_server.mesh.holes import fill_holes
from genesis_server.mesh.mesh import Mesh, check_mesh
from genesis_server.mesh.orientation import agreeing_links, clashing, orient_sheets
from genesis_server.mesh.remesh import THICKNESS
from genesis_server.mesh.remesh import remesh as remesh_surface
from genesis_server.mesh.repair import (
    clean_faces,
    drop_dust,
    keep_faces,
    part_touching,
    separate_sheets,
    weld,
)
from genesis_server.mesh.simplify import FACES_MIN, simplify, without_slivers
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.mesh_sides import fans_of, later_duplicates

TOLERANCE = 0.02  # by which a face target may be missed
_HOLE_EDGES = 24  # perimeter of the largest hole to close, in median edges: a gap of about seven voxels
_MENDING_ROUNDS = 2  # sheets that came apart show holes that could not be told before
_HOLE_PERIMETER = 0.03  # and at least this, in units of the model's box (docs/spec/geometry.md 13.3)
_SOLID_THICKNESS = 1.0  # cells, of walls and sheets that enclose nothing, in a mesh that is to be printed
_RESOLUTIONS = (16, 1024)  # for a new surface where the caller does not say
_MEASURED = 100_000  # faces are enough for a median
_LOST = 0.005  # of the faces, gone with slivers: more of them, and it starts with as many more
_COARSER = 0.7  # step between the grids that are tried for targets below what the shape's holes and handles need
_COARSEST = 3
_SURPLUS = 3.0  # faces of the first of these grids, in targets


def finish_mesh(
    mesh: Mesh,
    faces: int,
    *,
    closed: bool = False,
    remesh: bool = False,
    solid: bool = False,
    resolution: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Mesh:
    """A clean, outward wound mesh of `faces` faces within 2 %, or of fewer where the surface has fewer.

    No face of the result is degenerate or a duplicate, and no edge has more than two faces, vertices of equal position taken
    as one. Components smaller than 3e-4 of the whole area and 64 faces are dust and go; all other parts stay, as long as the
    target leaves four faces for each.

    Args:
        mesh: as `extract_mesh` returns it; winding and unused vertices do not matter.
        faces: face target, at least 4.
        closed: the mesh is one already, clean and wound outward, as `enclosed_surface` makes it: nothing to repair or remesh.
        remesh: the surface is made anew on a grid: one closed outer skin, holes closed, voids gone; sheets stay, as slabs of
            a tenth of a cell.
        solid: as `remesh`, and what encloses nothing becomes one cell thick: for printing and booleans.
        resolution: cells per axis of the unit box for `remesh`, best that of the O-Voxel; None is taken from the median edge.
        check: called between steps; may raise to stop.

    Raises:
        GenesisError: BAD_PARAMETER for a target below 4; BAD_MESH where no face with an area is left, vertices are not finite,
            or faces name vertices that are none.
    """
    _check_target(faces)
    check_mesh(mesh)
    mesh = clean_faces(mesh) if closed else repair(mesh, check)
    if len(mesh.faces) == 0:
        raise GenesisError(ErrorCode.BAD_MESH, "The mesh has no face with an area.", "Generate the shape with another seed.")
    check()
    if (remesh or solid) and not closed:
        anew = remesh_surface(mesh, resolution or _resolution_of(mesh), _SOLID_THICKNESS if solid else THICKNESS)
        if len(anew.faces):
            mesh = without_slivers(keep_faces(anew, drop_dust(anew, agreeing_links(anew))))
        check()
    mesh = _to_target(mesh, faces, check)
    if not (remesh or solid or closed):  # a closed surface stays closed
        mesh = _without_copies(mesh)
    return part_touching(mesh)


def _check_target(faces: int) -> None:
    if faces < FACES_MIN:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{faces} faces are too few for a surface.", f"Ask for at least {FACES_MIN} faces."
        )


def _to_target(mesh: Mesh, faces: int, check: Callable[[], None]) -> Mesh:
    limit = int(faces * (1 + TOLERANCE))
    best = simplify(mesh, faces, check)
    if len(best.faces) > limit:
        clean = clean_faces(best)
        best = _fewer(best, simplify(without_slivers(_mend(clean, agreeing_links(clean))), faces, check))
    if len(best.faces) > limit and not len(sides_without_link(best.faces, agreeing_links(best))):
        best = _fewer(best, simplify(best, faces, check, eased=True))
    cells = max(_COARSEST + 1.0, _resolution_of(mesh) * min(1.0, (_SURPLUS * faces / len(mesh.faces)) ** 0.5))
    while len(best.faces) > limit and cells >= _COARSEST:
        coarse = remesh_surface(mesh, int(cells))
        if len(coarse.faces) >= FACES_MIN:
            best = _fewer(best, simplify(without_slivers(coarse), faces, check, eased=True))
        cells *= _COARSER
    shapely = without_slivers(best)
    lost = len(best.faces) - len(shapely.faces)
    if lost > _LOST * len(best.faces) and len(best.faces) <= limit:
        shapely = simplify(without_slivers(simplify(mesh, faces + lost, check)), faces, check)
    return shapely if (1 - TOLERANCE) * len(best.faces) <= len(shapely.faces) <= max(limit, len(best.faces)) else best


def _fewer(one: Mesh, two: Mesh) -> Mesh:
    return two if FACES_MIN <= len(two.faces) < len(one.faces) else one


def _resolution_of(mesh: Mesh) -> int:
    low, high = _RESOLUTIONS
    return max(low, min(high, round(1 / max(_median_edge(mesh), 1e-6))))


def _median_edge(mesh: Mesh) -> float:
    """Over the sides of faces: inner edges count twice, which the middle of them does not mind."""
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // _MEASURED)].long()]
    return float((corners - corners.roll(1, 1)).norm(dim=2).median())


def repair(mesh: Mesh, check: Callable[[], None] = lambda: None) -> Mesh:
    """Clean-up without simplification: sheets told apart, dust dropped, wound outward, holes filled; `check` as above."""
    mesh = clean_faces(mesh)
    if len(mesh.faces) == 0:
        return mesh
    check()
    mesh, links, part = orient_sheets(mesh)
    check()
    agree = ~clashing(mesh.faces, links)
    return _mend(mesh, links, part) if bool(agree.all()) else _mend(mesh, links[agree])


def _mend(mesh: Mesh, links: Tensor, part: Tensor | None = None) -> Mesh:
    """An oriented mesh without duplicates, faces without area, crumbs, small holes, or edges of more than two faces.

    Args:
        mesh: has neither duplicates nor faces without area.
        links: as `agreeing_links` finds them.
        part: int64 [F], components over the links, where they are known.
    """
    for _ in range(_MENDING_ROUNDS):
        whole = keep_faces(mesh, drop_dust(mesh, links, part))
        part = None
        if len(whole.faces) != len(mesh.faces):
            mesh, links = whole, agreeing_links(whole)
        filled = fill_holes(mesh, links, _hole_limit(mesh))
        if filled is not mesh:
            mesh = clean_faces(filled)
            links = agreeing_links(mesh)
        mesh, links = separate_sheets(mesh, links)
        if not len(sides_without_link(mesh.faces, links)):
            break
    return mesh


def _without_copies(mesh: Mesh) -> Mesh:
    """Without faces that lie where another does; but two closed surfaces that touch back to back stay closed."""
    faces = weld(mesh).faces
    fans = fans_of(faces, int(faces.max()) + 1)
    copies = later_duplicates(faces, fans)
    backs = copies & ~later_duplicates(faces, fans, turned=False)
    if bool(backs.any()):
        backs[sides_without_link(mesh.faces, agreeing_links(mesh)) // 3] = False
        copies &= ~backs
    return keep_faces(mesh, ~copies)


def _hole_limit(mesh: Mesh) -> float:
    return max(_HOLE_PERIMETER, _HOLE_EDGES * _median_edge(mesh))
