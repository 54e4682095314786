# SPDX-License-Identifier: Apache-2.0
"""From an extracted surface to a mesh worth exporting: clean-up and simplification (docs/spec/geometry.md 13, 14, 17.2).

Order matters. Sheets that touch are told apart before anything is oriented; fins of stray flags, which hang on the
surface by edges of three faces, come loose as small components and go; then winding, then holes (they need winding), then
separate vertices for separate sheets, and only then fewer faces. What simplification leaves behind is cleaned once more.
"""

from __future__ import annotations

import torch

from genesis_server.mesh.connectivity import edges_of, pair_sides
from genesis_server.mesh.holes import fill_holes
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.orientation import agreeing_links, orient
from genesis_server.mesh.repair import clean_faces, drop_dust, keep_faces, separate_sheets, sides_without_link
from genesis_server.mesh.simplify import FACES_MIN, simplify
from genesis_server.mesh.smooth import smooth
from genesis_server.protocol.errors import ErrorCode, GenesisError

_HOLE_EDGES = 24  # perimeter of the largest hole to close, in median edges: a gap of about seven voxels
_ATTEMPTS = 6  # to meet the target
_MENDING_ROUNDS = 2  # sheets that came apart show holes that could not be told before
_HOLE_PERIMETER = 0.03  # and at least this, in units of the model's box (docs/spec/geometry.md 13.3)


def finish_mesh(
    mesh: Mesh,
    faces: int,
    smoothing: int = 0,
    *,
    remesh: bool = False,
    solid: bool = False,
    resolution: int | None = None,
) -> Mesh:
    """A clean, outward wound mesh of at most `faces` faces (or a few per cent more where it cannot be had).

    No face of the result is degenerate or a duplicate, and no edge has more than two faces.

    Args:
        mesh: as `extract_mesh` returns it; winding and unused vertices do not matter.
        faces: face target, at least 4.
        smoothing: rounds of `smooth` before simplification. 0 suits exact dual vertices; 5 takes the tremble out of a small
            network's surface.
        remesh: the surface is made anew on a grid: one outer skin without non-manifold edges, holes closed; sheets stay,
            as thin slabs.
        solid: a watertight result, for printing and for booleans; implies `remesh`.
        resolution: cells per axis of the unit box for `remesh`, best that of the O-Voxel; None is taken from the median edge.

    Raises:
        GenesisError: BAD_PARAMETER for a target below 4; BAD_MESH where no face with an area is left, or vertices are
            not finite.
    """
    if remesh or solid:
        raise GenesisError(ErrorCode.BAD_PARAMETER, "Remeshing is not available yet.", "Finish the mesh without it.")
    if faces < FACES_MIN:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{faces} faces are too few for a surface.", f"Ask for at least {FACES_MIN} faces."
        )
    if not torch.isfinite(mesh.vertices).all():
        raise GenesisError(ErrorCode.BAD_MESH, "The mesh has vertices that are not finite.", "Generate the shape again.")
    mesh = repair(mesh)
    if len(mesh.faces) == 0:
        raise GenesisError(ErrorCode.BAD_MESH, "The mesh has no face with an area.", "Generate the shape with another seed.")
    mesh = smooth(mesh, smoothing)
    best, aim = mesh, faces
    for _ in range(_ATTEMPTS if len(mesh.faces) > faces else 0):
        fewer = simplify(mesh, aim)
        count = 0 if fewer is mesh else len((fewer := _mend(fewer)).faces)
        if count < FACES_MIN:  # collapsed into nothing: the shape needs more faces than were asked for
            aim *= 2
            continue
        if count < len(best.faces):
            best = fewer
        if count <= faces or aim > faces:
            break
        aim = max(aim - (count - faces), FACES_MIN)  # mended holes have to be counted in
    return best


def repair(mesh: Mesh) -> Mesh:
    """Clean-up without simplification: sheets told apart, dust dropped, wound outward, holes filled."""
    mesh = clean_faces(mesh)
    if len(mesh.faces) == 0:
        return mesh
    mesh = keep_faces(mesh, drop_dust(mesh, pair_sides(mesh, edges_of(mesh.faces))))
    return _mend(orient(mesh, pair_sides(mesh, edges_of(mesh.faces))))


def _mend(mesh: Mesh) -> Mesh:
    """An oriented mesh without duplicates, faces without area, crumbs, small holes, or edges of more than two faces."""
    for _ in range(_MENDING_ROUNDS):
        mesh = clean_faces(mesh)
        if len(mesh.faces) == 0:
            break
        mesh = keep_faces(mesh, drop_dust(mesh, agreeing_links(mesh)))
        mesh = clean_faces(fill_holes(mesh, agreeing_links(mesh), _hole_limit(mesh)))
        mesh = separate_sheets(mesh, agreeing_links(mesh))
        if not len(sides_without_link(mesh.faces, agreeing_links(mesh))):
            break
    return mesh


def _hole_limit(mesh: Mesh) -> float:
    ends = mesh.vertices[edges_of(mesh.faces).vertices]
    return max(_HOLE_PERIMETER, _HOLE_EDGES * float((ends[:, 0] - ends[:, 1]).norm(dim=1).median()))
