# SPDX-License-Identifier: Apache-2.0
"""Closest points on a triangle mesh (docs/spec/geometry.md 11), with the side filter of 18.1.

Formula: `distance = min_f |p - q_f|`, `q_f` the nearest point of triangle f, `q = u v0 + v v1 + w v2` with weights >= 0 that
sum to 1. Warp's hierarchy finds q; then every face that touches q is looked at, and the smallest number wins, so that a point
nearest to an edge or a vertex has one answer whatever the traversal. Faces without area (below 1e-6 of their squared edges)
are passed over: on a surface their edges belong to their neighbours too.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_TIE = 1e-6  # faces whose distances differ by less, relative to the size of the coordinates, are equally near (float32)

_EITHER_SIDE, _SAME_SIDE = wp.constant(1), wp.constant(2)  # that faces look to
_FAR_TIES = 4.0  # times the tolerance of a tie
_FLAT = 1e-6  # twice a face's area over the sum of its squared edges; at least Warp's own limit


def closest_point(
    vertices: Tensor,
    faces: Tensor,
    points: Tensor,
    max_distance: float = float("inf"),
    normals: Tensor | None = None,
    min_cosine: float = 0.5,
    outward: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The closest point of the mesh to every point.

    Args:
        vertices: float32 [V, 3].
        faces: int [F, 3], F >= 0.
        points: float32 [P, 3].
        max_distance: farther faces are not looked for. Keep it at a few voxels with `normals`: that search visits every
            face within this distance of a point whose nearest face does not qualify.
        normals: unit float32 [P, 3]; then only faces whose normal is compatible with the point's qualify, on either
            side: `|n_point . n_face| >= min_cosine`.
        min_cosine: see `normals`.
        outward: faces are wound outward, so that only those on the point's side qualify: `n_point . n_face >= min_cosine`.

    Returns:
        distance float32 [P] (inf where there is none), face int64 [P] (-1 where there is none), barycentric weights
        float32 [P, 3] (zeros where there is none). Ties go to the smallest face.
    """
    return SurfaceSearch(vertices, faces).closest(points, max_distance, normals, min_cosine, outward)


class SurfaceSearch:
    """The search tree of one mesh, for many queries.

    Args:
        vertices, faces: as of `closest_point`; copied where they must be.
    """

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        wp.init()
        self._vertices = vertices.float().contiguous()
        self._solid = _faces_with_area(self._vertices, faces)
        self._indices = faces[self._solid].int().contiguous().view(-1)  # Warp's mesh refers to both
        self._mesh = None
        if len(self._solid):
            with wp.ScopedStream(wp.stream_from_torch(vertices.device) if vertices.is_cuda else None):
                self._mesh = wp.Mesh(points=wp.from_torch(self._vertices, dtype=wp.vec3), indices=wp.from_torch(self._indices))

    def closest(
        self,
        points: Tensor,
        max_distance: float = float("inf"),
        normals: Tensor | None = None,
        min_cosine: float = 0.5,
        outward: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `closest_point`."""
        device = points.device
        distance = torch.full((len(points),), float("inf"), dtype=torch.float32, device=device)
        face = torch.full((len(points),), -1, dtype=torch.int32, device=device)
        weights = torch.zeros((len(points), 3), dtype=torch.float32, device=device)
        if self._mesh is None or len(points) == 0:
            return distance, face.long(), weights
        extent = float(self._vertices.abs().max()) + float(points.abs().max())
        reach = min(float(max_distance), 4.0 * extent + 1.0)  # no point is farther than this
        given = points if normals is None else normals
        with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
            wp.launch(
                _closest,
                dim=len(points),
                inputs=[
                    self._mesh.id,
                    wp.from_torch(points.float().contiguous(), dtype=wp.vec3),
                    wp.from_torch(given.float().contiguous(), dtype=wp.vec3),
                    0 if normals is None else _SAME_SIDE if outward else _EITHER_SIDE,
                    float(min_cosine),
                    reach,
                    _TIE * extent,
                    wp.from_torch(distance),
                    wp.from_torch(face),
                    wp.from_torch(weights, dtype=wp.vec3),
                ],
                device=wp.device_from_torch(device),
            )
        face = face.long()
        return distance, torch.where(face >= 0, self._solid[face.clamp(min=0)], -1), weights


def _faces_with_area(vertices: Tensor, faces: Tensor) -> Tensor:
    """int64 numbers of the faces with an area to speak of, ascending. Warp's query would skip most of the others."""
    a, b, c = vertices[faces.long()].unbind(1)
    edges = ((b - a) ** 2 + (c - b) ** 2 + (a - c) ** 2).sum(1)
    return torch.nonzero(torch.linalg.cross(b - a, c - a).norm(dim=1) > _FLAT * edges)[:, 0]


@wp.func
def _segment_weight(a: wp.vec3, b: wp.vec3, p: wp.vec3) -> float:
    ab = b - a
    length2 = wp.dot(ab, ab)
    if length2 == 0.0:
        return 0.0
    return wp.clamp(wp.dot(p - a, ab) / length2, 0.0, 1.0)


@wp.func
def _nearest_weights(a: wp.vec3, b: wp.vec3, c: wp.vec3, p: wp.vec3) -> wp.vec3:
    """Barycentric weights of the triangle's point nearest to p: its foot point if that is inside, else on an edge."""
    n = wp.cross(b - a, c - a)
    area2 = wp.dot(n, n)
    if area2 > 0.0:
        u = wp.dot(wp.cross(c - b, p - b), n) / area2
        v = wp.dot(wp.cross(a - c, p - c), n) / area2
        w = 1.0 - u - v
        if u >= 0.0 and v >= 0.0 and w >= 0.0:
            return wp.vec3(u, v, w)
    t = _segment_weight(a, b, p)
    best = wp.vec3(1.0 - t, t, 0.0)
    near = wp.length_sq(a + t * (b - a) - p)
    t = _segment_weight(b, c, p)
    d = wp.length_sq(b + t * (c - b) - p)
    if d < near:
        near = d
        best = wp.vec3(0.0, 1.0 - t, t)
    t = _segment_weight(c, a, p)
    d = wp.length_sq(c + t * (a - c) - p)
    if d < near:
        best = wp.vec3(t, 0.0, 1.0 - t)
    return best


@wp.func
def _fits(mesh: wp.uint64, f: int, normal: wp.vec3, filtered: int, min_cosine: float) -> bool:
    if filtered == 0:
        return True
    cosine = wp.dot(wp.mesh_eval_face_normal(mesh, f), normal)
    if filtered == _SAME_SIDE:
        return cosine >= min_cosine
    return wp.abs(cosine) >= min_cosine


@wp.func
def _nearest_on(mesh: wp.uint64, f: int, p: wp.vec3) -> wp.vec3:
    a = wp.mesh_get_point(mesh, 3 * f)
    b = wp.mesh_get_point(mesh, 3 * f + 1)
    c = wp.mesh_get_point(mesh, 3 * f + 2)
    w = _nearest_weights(a, b, c, p)
    return w[0] * a + w[1] * b + w[2] * c


@wp.func
def _nearest_fitting(mesh: wp.uint64, p: wp.vec3, normal: wp.vec3, filtered: int, min_cosine: float, reach: float) -> int:
    """The nearest compatible face within reach, or -1: every face in a box around the point is looked at."""
    winner = int(-1)
    best = reach
    pad = wp.vec3(reach, reach, reach)
    f = int(0)
    query = wp.mesh_query_aabb(mesh, p - pad, p + pad)
    while wp.mesh_query_aabb_next(query, f):
        if _fits(mesh, f, normal, filtered, min_cosine):
            d = wp.length(_nearest_on(mesh, f, p) - p)
            if d < best or (d == best and f < winner):
                best = d
                winner = f
    return winner


@wp.func
def _smallest_tied(
    mesh: wp.uint64, winner: int, p: wp.vec3, normal: wp.vec3, filtered: int, min_cosine: float, tie: float
) -> int:
    """Of the compatible faces that touch the winner's nearest point, the one with the smallest number. No other touches a point
    that is far from all of its edges."""
    a = wp.mesh_get_point(mesh, 3 * winner)
    b = wp.mesh_get_point(mesh, 3 * winner + 1)
    c = wp.mesh_get_point(mesh, 3 * winner + 2)
    w = _nearest_weights(a, b, c, p)
    longest = wp.sqrt(wp.max(wp.length_sq(b - a), wp.max(wp.length_sq(c - b), wp.length_sq(a - c))))
    if wp.min(w[0], wp.min(w[1], w[2])) * wp.length(wp.cross(b - a, c - a)) > _FAR_TIES * tie * longest:
        return winner
    q = w[0] * a + w[1] * b + w[2] * c
    limit = wp.length(q - p) + tie
    pad = wp.vec3(tie, tie, tie)
    smallest = winner
    f = int(0)
    query = wp.mesh_query_aabb(mesh, q - pad, q + pad)
    while wp.mesh_query_aabb_next(query, f):
        if f < smallest and _fits(mesh, f, normal, filtered, min_cosine):
            if wp.length(_nearest_on(mesh, f, p) - p) <= limit:
                smallest = f
    return smallest


@wp.kernel
def _closest(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    filtered: int,
    min_cosine: float,
    reach: float,
    tie: float,
    distance: wp.array(dtype=float),
    face: wp.array(dtype=int),
    weights: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    p = points[i]
    winner = int(-1)
    nearest = wp.mesh_query_point_no_sign(mesh, p, reach)
    if nearest.result:
        winner = nearest.face
        if not _fits(mesh, winner, normals[i], filtered, min_cosine):
            winner = _nearest_fitting(mesh, p, normals[i], filtered, min_cosine, reach)
    if winner >= 0:
        winner = _smallest_tied(mesh, winner, p, normals[i], filtered, min_cosine, tie)
        a = wp.mesh_get_point(mesh, 3 * winner)
        b = wp.mesh_get_point(mesh, 3 * winner + 1)
        c = wp.mesh_get_point(mesh, 3 * winner + 2)
        w = _nearest_weights(a, b, c, p)
        distance[i] = wp.length(w[0] * a + w[1] * b + w[2] * c - p)
        face[i] = winner
        weights[i] = w
