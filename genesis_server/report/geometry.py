# SPDX-License-Identifier: Apache-2.0
"""The shape of a model, measured: what is open, torn, doubled, flat, thin or inside out (docs/spec/geometry.md 12, 13, 18)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SLIVER_ASPECT = 10.0
NEEDLE_ASPECT = 1000.0
_FLAT = 1e-12  # area over longest edge squared below which a face counts as degenerate (13.2)
_EQUILATERAL = np.sqrt(3) / 2  # altitude over edge of the best triangle: its aspect is 1


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a welded surface.

    Attributes:
        faces: int64 [F, 3], vertices of equal position taken as one.
        points: how many positions there are.
        key: int64 [3F], edge number of the side that follows each corner.
        uses: int64 [E], faces per edge.
        along: int64 [E], sides that run from the smaller to the larger point; consistent winding has one of two.
    """

    faces: np.ndarray
    points: int
    key: np.ndarray
    uses: np.ndarray
    along: np.ndarray


def weld(vertices: np.ndarray, faces: np.ndarray) -> Edges:
    """The edges of float32 [V, 3] and int [F, 3]."""
    _, welded = np.unique(vertices + np.float32(0), axis=0, return_inverse=True)
    welded = welded.reshape(-1).astype(np.int64)
    faces = welded[faces]
    count = int(welded.max()) + 1
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    _, key, uses = np.unique(np.minimum(start, end) * count + np.maximum(start, end), return_inverse=True, return_counts=True)
    along = np.bincount(key, start < end, minlength=len(uses)).astype(np.int64)
    return Edges(faces, count, key.reshape(-1), uses, along)


def measure_shape(vertices: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
    """Counts of what can be wrong with a surface.

    Args:
        vertices: float32 [V, 3]. faces: int [F, 3].

    Returns:
        bounds, area, volume (signed; meaningful where watertight), watertight, boundary_edges, non_manifold_edges,
        degenerate_faces, duplicate_faces, sliver_faces (aspect, longest edge over lowest altitude, above 10; an equilateral
        triangle has 1), needle_faces (above 1000), worst_aspect, components, turned_edges (whose two faces disagree on the
        front), inside_out_components (closed, with negative volume).
    """
    edges = weld(vertices, faces)
    corners = vertices.astype(np.float64)[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    longest2 = ((np.roll(corners, -1, 1) - corners) ** 2).sum(2).max(1)
    same = (edges.faces == np.roll(edges.faces, -1, 1)).any(1)
    degenerate = same | (area <= _FLAT * longest2)
    aspect = _EQUILATERAL * longest2[~degenerate] / (2 * area[~degenerate])
    _, copies = np.unique(np.sort(edges.faces, axis=1), axis=0, return_counts=True)
    part = face_parts(edges.faces, edges.points)
    volumes = np.bincount(part, np.einsum("fi,fi->f", corners[:, 0], cross) / 6)
    open_side = (edges.uses != 2)[edges.key].reshape(-1, 3).any(1)
    closed = np.bincount(part, open_side) == 0
    boundary, crowded = int((edges.uses == 1).sum()), int((edges.uses > 2).sum())
    turned = (edges.uses == 2) & (edges.along != 1)
    return {
        "bounds": [vertices.min(0).tolist(), vertices.max(0).tolist()],
        "area": float(area.sum()),
        "volume": float(volumes.sum()),
        "watertight": boundary == 0 and crowded == 0,
        "boundary_edges": boundary,
        "non_manifold_edges": crowded,
        "degenerate_faces": int(degenerate.sum()),
        "duplicate_faces": int((copies - 1).sum()),
        "sliver_faces": int((aspect > SLIVER_ASPECT).sum()),
        "needle_faces": int((aspect > NEEDLE_ASPECT).sum()),
        "worst_aspect": float(aspect.max(initial=1.0)),
        "components": int(part.max()) + 1,
        "turned_edges": int(turned.sum()),
        "inside_out_components": int((closed & (volumes < 0)).sum()),
    }


def face_parts(faces: np.ndarray, count: int) -> np.ndarray:
    """Number of the connected piece of every face, across shared vertices; int64 [F]."""
    ones = np.ones(len(faces) * 2, np.int8)
    graph = coo_matrix((ones, (faces[:, [0, 0]].reshape(-1), faces[:, [1, 2]].reshape(-1))), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].reshape(-1).astype(np.int64)
