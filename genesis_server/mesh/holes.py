# SPDX-License-Identifier: Apache-2.0
"""Holes closed with the winding of their surroundings (docs/spec/geometry.md 13.3).

Loops are walked along the sides where the surface ends; a loop that meets itself in a vertex is two holes. Up to
`_CLIPPED` edges get the triangulation of least area, longer ones a fan around their middle. Loops longer than the limit are
openings of the object, and the rim of a small sheet is not a hole in it: both stay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genesis_server.mesh.connectivity import ends_of, link_components, sides_without_link
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas
from native_ext.segment_sum import sum_by_row

_CLIPPED = 12  # edges; least area costs n^3
_RIM_SHARE = 0.4  # a filling larger than this share of its component would be the back of a sheet


def fill_holes(mesh: Mesh, links: Tensor, perimeter_max: float, clipped: int = _CLIPPED) -> Mesh:
    """Close all holes up to a perimeter.

    Args:
        mesh: consistently wound over its links.
        links: int64 [L, 2] sides over which the surface goes on.
        perimeter_max: longest loop to close, in units of the mesh.
        clipped: most edges of a loop that gets no vertex in its middle.

    Returns:
        The mesh with new faces at the end, and new vertices in the middle of the longer loops.
    """
    rim = sides_without_link(mesh.faces, links)
    loops = _loops(rim, mesh.faces)
    if not loops:
        return mesh
    used, vertex = torch.unique(mesh.faces.long().reshape(-1)[rim], return_inverse=True)
    points, vertex, sides_of = mesh.vertices[used].double().cpu().numpy(), vertex.cpu().numpy(), rim.cpu().numpy()
    room = _RIM_SHARE * _area_around(mesh, links, rim // 3)
    vertices, faces = [points], []  # the rim's, then new ones
    extra = len(points)
    for size in sorted({len(loop) for loop in loops} - {1, 2}):
        sides = np.searchsorted(sides_of, np.array([loop for loop in loops if len(loop) == size]))
        ring = vertex[sides][:, ::-1]
        length, area = _measure(points[ring])
        ring = ring[(length <= perimeter_max) & (area <= room[sides].max(1))]
        if size <= clipped:
            faces.append(_least_area(points, ring))
            continue
        vertices.append(points[ring].mean(1))
        middle = np.broadcast_to(extra + np.arange(len(ring))[:, None], ring.shape)
        faces.append(np.stack([ring, np.roll(ring, -1, 1), middle], 2).reshape(-1, 3))
        extra += len(ring)
    device, count = mesh.faces.device, len(mesh.vertices)
    name = torch.cat([used, torch.arange(count, count + extra - len(used), device=device)])
    new = torch.from_numpy(np.concatenate(vertices)[len(points) :]).to(device, mesh.vertices.dtype)
    filled = name[torch.from_numpy(np.concatenate(faces)).to(device)] if faces else name.new_zeros(0, 3)
    return Mesh(torch.cat([mesh.vertices, new]), torch.cat([mesh.faces, filled.to(mesh.faces.dtype)]))


def _loops(rim: Tensor, faces: Tensor) -> list[list[int]]:
    """Simple closed loops of sides, each running with its faces."""
    sides = rim.tolist()
    start = dict(zip(sides, faces.long().reshape(-1)[rim].tolist(), strict=True))
    end = dict(zip(sides, ends_of(faces)[rim].tolist(), strict=True))
    leaving: dict[int, list[int]] = {}
    for side in reversed(sides):
        leaving.setdefault(start[side], []).append(side)
    loops = []
    for side in sides:
        if side not in leaving[start[side]]:
            continue
        leaving[start[side]].remove(side)
        path, place = [side], {start[side]: 0}
        while path:
            vertex = end[path[-1]]
            if vertex in place:  # back where the path has been: what lies between is a loop of its own
                first = place[vertex]
                loops.append(path[first:])
                for done in path[first:]:
                    del place[start[done]]
                path = path[:first]
            elif leaving.get(vertex):
                place[vertex] = len(path)
                path.append(leaving[vertex].pop())
            else:
                break  # an end without a continuation: faces that could not be oriented meet here
    return loops


def _area_around(mesh: Mesh, links: Tensor, faces: Tensor) -> np.ndarray:
    """Areas [n] of the components of faces int64 [n]."""
    part = link_components(links, len(mesh.faces))
    total = sum_by_row(part, face_areas(mesh)[:, None], int(part.max()) + 1)[:, 0]
    return total[part[faces]].cpu().numpy()


def _measure(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Perimeters and areas [n] of rings [n, k, 3]; the area of the fan around the mean tells a hole from a sheet's rim."""
    spokes = rings - rings.mean(1, keepdims=True)
    following = np.roll(spokes, -1, 1)
    length = np.linalg.norm(following - spokes, axis=2).sum(1)
    return length, np.linalg.norm(np.cross(spokes, following), axis=2).sum(1) / 2


def _least_area(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Triangles [m, 3] of all rings [n, k]: dynamic programming over chords, all rings of one size at once."""
    corners, size = points[ring], ring.shape[1]
    cost = np.zeros((size, size, len(ring)))
    split = np.zeros((size, size, len(ring)), np.int64)
    for gap in range(2, size):
        for low in range(size - gap):
            high = low + gap
            middle = np.arange(low + 1, high)
            base = corners[:, high] - corners[:, low]
            apex = corners[:, middle] - corners[:, low, None]
            area = np.linalg.norm(np.cross(base[:, None], apex), axis=2).T
            total = area + cost[low, middle] + cost[middle, high]
            best = total.argmin(0)
            split[low, high] = middle[best]
            cost[low, high] = total[best, np.arange(len(ring))]
    triangles = []
    for number in range(len(ring)):
        chords = [(0, size - 1)]
        while chords:
            low, high = chords.pop()
            if high - low >= 2:
                middle = split[low, high, number]
                triangles.append(ring[number, [low, middle, high]])
                chords += [(low, middle), (middle, high)]
    return np.array(triangles, np.int64).reshape(-1, 3)
