# SPDX-License-Identifier: Apache-2.0
"""What a GLB file holds, counted: the numbers behind "is this a good asset" (docs/spec/geometry.md 18.2, 21)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from genesis_server.bake.gltf import GlbModel, read_glb
from native_ext.rasterize import overdraw, rasterize

_UV_GRID = 1024  # UV use and overlap are measured on this many texels per side, or the texture's own size if smaller


def inspect(glb: GlbModel | str | os.PathLike[str]) -> dict[str, Any]:
    """Counts and measures of a model.

    Args:
        glb: a path, or what `read_glb` returned.

    Returns:
        Plain JSON values: vertices, faces, bounds (model space, z up), textures (name to [width, height]), alpha_mode,
        degenerate_faces (no area in space), zero_uv_faces, mirrored_faces, charts, uv_use (share of the atlas under faces),
        uv_overlap (share under two faces), watertight, boundary_edges, non_manifold_edges, components.
        Edges and components are those of the surface with vertices of equal position taken as one.

    Raises:
        GenesisError: BAD_MESH for an unreadable file.
    """
    model = glb if isinstance(glb, GlbModel) else read_glb(glb)
    material = model.material
    return {
        "vertices": len(model.vertices),
        "faces": len(model.faces),
        "bounds": [model.vertices.min(0).tolist(), model.vertices.max(0).tolist()],
        "textures": {
            "base_color": list(material.base_color.shape[1::-1]),
            "metallic_roughness": list(material.metallic_roughness.shape[1::-1]),
        },
        "alpha_mode": material.alpha_mode,
        **_areas(model),
        **_atlas(model),
        **_topology(model),
    }


def _areas(model: GlbModel) -> dict[str, int]:
    corners = model.vertices.astype(np.float64)[model.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    uv = model.uvs.astype(np.float64)[model.faces]
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    turned = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # v grows downward: negative where the picture is not mirrored
    return {
        "degenerate_faces": int((area == 0).sum()),
        "zero_uv_faces": int((turned == 0).sum()),
        "mirrored_faces": int((turned > 0).sum()),
    }


def _atlas(model: GlbModel) -> dict[str, Any]:
    size = min(_UV_GRID, *model.material.base_color.shape[:2])
    size = size if size > 1 else _UV_GRID
    corners = torch.from_numpy(model.uvs[model.faces] * np.float32(size))
    used = int((rasterize(corners, size, size).face >= 0).sum())
    crowded = int((overdraw(corners, size, size) > 1).sum())
    return {
        "charts": _parts(model.faces, len(model.vertices)),
        "uv_use": round(used / size**2, 4),
        "uv_overlap": round(crowded / size**2, 6),
    }


def _topology(model: GlbModel) -> dict[str, Any]:
    _, welded = np.unique(model.vertices, axis=0, return_inverse=True)
    faces = welded.reshape(-1)[model.faces].astype(np.int64)
    ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, uses = np.unique(ends[:, 0] * (int(welded.max()) + 1) + ends[:, 1], return_counts=True)
    boundary, crowded = int((uses == 1).sum()), int((uses > 2).sum())
    return {
        "watertight": boundary == 0 and crowded == 0,
        "boundary_edges": boundary,
        "non_manifold_edges": crowded,
        "components": _parts(faces, int(welded.max()) + 1),
    }


def _parts(faces: np.ndarray, count: int) -> int:
    """Connected pieces of a face set, across shared vertices."""
    ones = np.ones(len(faces) * 2, np.int8)
    graph = coo_matrix((ones, (faces[:, [0, 0]].reshape(-1), faces[:, [1, 2]].reshape(-1))), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    return len(np.unique(label[faces[:, 0]]))
