# SPDX-License-Identifier: Apache-2.0
"""A baked model held against the truth: colours of an analytic solid, normals of the surface before simplification.

Everything is read back from the GLB and sampled as a viewer does; nothing of the bake is used but the file.
"""

from __future__ import annotations

import numpy as np
import torch

from genesis_server.bake.read_gltf import GlbModel
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.report.atlas import sample
from native_ext.closest_point import closest_point
from tests.analytic import Solid

POINTS = 100_000


class SurfacePoints:
    """Random points on a model, spread evenly by area.

    Attributes:
        position, normal: float64 [n, 3], the normal interpolated as a renderer does, not of unit length.
        uv: float64 [n, 2].
        tangent: float64 [n, 3] or None.
    """

    def __init__(self, model: GlbModel, count: int = POINTS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        corners = model.vertices.astype(np.float64)[model.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        face = rng.choice(len(area), count, p=area / area.sum())
        weight = rng.dirichlet([1, 1, 1], count)[:, :, None]

        def between(values: np.ndarray) -> np.ndarray:
            return (values.astype(np.float64)[model.faces[face]] * weight).sum(1)

        self.position, self.normal, self.uv = between(model.vertices), between(model.normals), between(model.uvs)
        self.tangent = None if model.tangents is None else between(model.tangents[:, :3])


def colour_error(model: GlbModel, solid: Solid, points: SurfacePoints) -> np.ndarray:
    """Difference of base colour, metallic and roughness to the closed form, float [n, 5], of 255."""
    material = model.material
    base, surface = material.base_color.astype(np.float32), material.metallic_roughness.astype(np.float32)
    found = np.concatenate([sample(base[..., :3], points.uv), sample(surface, points.uv)[:, [2, 1]]], 1)
    return np.abs(found - solid.colour(points.position)[:, :5] * 255)


def shading_normals(model: GlbModel, points: SurfacePoints, mapped: bool) -> np.ndarray:
    """Unit normals [n, 3] that a renderer shades with, with or without the normal map."""
    if not mapped:
        return _unit(points.normal)
    picture = model.material.normal
    texel = sample(picture.astype(np.float32), points.uv) / np.iinfo(picture.dtype).max * 2 - 1
    bitangent = np.cross(points.normal, points.tangent)
    return _unit(texel[:, :1] * points.tangent + texel[:, 1:2] * bitangent + texel[:, 2:] * points.normal)


def dense_normals(dense: Mesh, points: SurfacePoints) -> np.ndarray:
    """Smooth unit normals [n, 3] of a consistently wound dense mesh at the nearest points that face the same way."""
    facing = torch.from_numpy(_unit(points.normal)).float()
    position = torch.from_numpy(points.position).float()
    _, face, weights = closest_point(dense.vertices, dense.faces, position, 0.05, facing, 0.3)
    normals = (vertex_normals(dense)[dense.faces[face].long()] * weights[:, :, None]).sum(1).double().numpy()
    return _unit(normals)


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees [n] between unit vectors."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))


def true_normals(solid: Solid, points: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """Unit gradient of the solid's distance [n, 3]."""
    offsets = np.eye(3) * step
    return _unit(np.stack([solid.distance(points + e) - solid.distance(points - e) for e in offsets], 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
