# SPDX-License-Identifier: Apache-2.0
"""Points spread evenly over a model's surface, with what its textures say there; and means over the places around them.

A place is what lies around a point: the nearest 0.4 % of a model's points. Its mean does not see detail, which is judged on its
own, but it sees colours that have changed places, which distributions do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from genesis_server.bake.read_gltf import GlbModel
from genesis_server.report.atlas import sample

POINTS = 60_000
_PLACES = 4_000  # at which two models are compared, of each
_AROUND = 240  # points whose mean a place has


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points of a surface.

    Attributes:
        position: float32 [P, 3].
        normal: float32 [P, 3], unit, of the faces they lie in.
        values: float32 [P, 5], red, green, blue 0..255 as stored, metallic, roughness 0..1.
        detail: float32 [P], mean change of the three colours over a step along the surface, levels of 255.
    """

    position: np.ndarray
    normal: np.ndarray
    values: np.ndarray
    detail: np.ndarray


def surface_points(model: GlbModel, step: float) -> SurfacePoints:
    """POINTS random points, even over the area and the same at every call; `step` in model units."""
    rng = np.random.default_rng(0)
    corners = model.vertices.astype(np.float64)[model.faces]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(one, two)
    area = np.linalg.norm(normal, axis=1)
    total = area.sum()
    share = area / total if total > 0 else np.full(len(area), 1 / len(area))
    face = rng.choice(len(area), POINTS, p=share)
    weights = rng.dirichlet([1, 1, 1], POINTS)
    values = values_at(model, face, weights)
    steps = _texture_steps(one[face], two[face], model.uvs.astype(np.float64)[model.faces[face]], step)
    changes = [np.abs(values_at(model, face, weights, way)[:, :3] - values[:, :3]).mean(1) for way in steps]
    return SurfacePoints(
        position=(corners[face] * weights[:, :, None]).sum(1).astype(np.float32),
        normal=(normal[face] / area[face, None].clip(1e-30)).astype(np.float32),
        values=values,
        detail=(changes[0] + changes[1]) / 2,
    )


def values_at(model: GlbModel, face: np.ndarray, weights: np.ndarray, aside: np.ndarray | float = 0.0) -> np.ndarray:
    """float32 [P, 5], what the textures say at points of faces [P] with weights [P, 3], `aside` in the texture."""
    uv = (model.uvs.astype(np.float64)[model.faces[face]] * weights[:, :, None]).sum(1) + aside
    surface = np.zeros(len(face), np.int32) if model.surface is None else model.surface[face]
    values = np.zeros((len(face), 5), np.float32)
    for number, material in enumerate((model.material, *model.others)):
        here = np.flatnonzero(surface == number)
        colour = sample(material.base_color[..., :3].astype(np.float32), uv[here])
        orm = sample(material.metallic_roughness.astype(np.float32), uv[here]) / 255
        values[here] = np.concatenate([colour, orm[:, [2, 1]]], 1)
    return values


def around_places(points: SurfacePoints, values: np.ndarray) -> np.ndarray:
    """Means of values [P, C] of the points over the surroundings of some of them, float32 [_PLACES, C]."""
    places = points.position[:: len(points.position) // _PLACES]
    near = cKDTree(points.position).query(places, _AROUND)[1]
    return values[near].mean(1)


def _texture_steps(one: np.ndarray, two: np.ndarray, uvs: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """How far texture coordinates move over a step along edge `one` of each face, and across it; float64 [n, 2] each."""
    u, v = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    length = np.linalg.norm(one, axis=1, keepdims=True).clip(1e-30)
    run = (two * one).sum(1, keepdims=True) / length
    rise = np.sqrt(((two * two).sum(1, keepdims=True) - run**2).clip(1e-30))
    along = u / length
    return step * along, step * (v - run * along) / rise
