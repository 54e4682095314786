# SPDX-License-Identifier: Apache-2.0
"""The two steps of smoothing a surface through its face normals (Sun, Rosin, Martin & Langbein 2007).

`filter_normals`: `n_f <- normalise(A_f n_f + sum over neighbours g of max(n_f . n_g - T, 0)^2 A_g n_g)`.
`follow_normals`: `v <- v + mean over the faces f around v of n_f (n_f . (c_f - v))`, c the faces' centres.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from native_ext.mesh_sides import Fans, turn_side

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor


def filter_normals(normal: Tensor, area: Tensor, beside: Tensor, cosine: float, rounds: int) -> Tensor:
    """float64 [F, 3], unit normals after some rounds.

    Args:
        normal: float64 [F, 3], unit, or zero; area: float64 [F].
        beside: int32 [F, 3], faces across the sides; -1 for none.
        cosine: T; neighbours turned further do not listen to each other.
    """
    wp.init()
    for _ in range(rounds):
        out = torch.empty_like(normal)
        _launch(
            _filter, normal, [_vectors(normal), wp.from_torch(area), wp.from_torch(beside), wp.float64(cosine), _vectors(out)]
        )
        normal = out
    return normal


def follow_normals(vertices: Tensor, faces: Tensor, fans: Fans, normal: Tensor, rounds: int) -> Tensor:
    """float64 [V, 3], vertices that have followed the normals float64 [F, 3] of int32 [F, 3] faces; fans are theirs."""
    wp.init()
    corner, side, start = (wp.from_torch(t) for t in (faces.reshape(-1), fans.side, fans.start))
    for _ in range(rounds):
        out = torch.empty_like(vertices)
        _launch(_follow, vertices, [_vectors(vertices), corner, side, start, _vectors(normal), _vectors(out)])
        vertices = out
    return vertices


def _vectors(rows: Tensor) -> wp.array:
    return wp.from_torch(rows, dtype=wp.vec3d)


def _launch(kernel: wp.Kernel, rows: Tensor, inputs: list) -> None:
    if len(rows):
        with wp.ScopedStream(wp.stream_from_torch(rows.device) if rows.is_cuda else None):
            wp.launch(kernel, dim=len(rows), inputs=inputs, device=wp.device_from_torch(rows.device))


@wp.kernel
def _filter(
    normal: wp.array(dtype=wp.vec3d),
    area: wp.array(dtype=wp.float64),
    beside: wp.array2d(dtype=int),
    cosine: wp.float64,
    out: wp.array(dtype=wp.vec3d),
):
    f = wp.tid()
    total = area[f] * normal[f]
    for k in range(3):
        g = beside[f, k]
        if g >= 0:
            weight = wp.max(wp.dot(normal[f], normal[g]) - cosine, wp.float64(0.0))
            total += weight * weight * area[g] * normal[g]
    out[f] = wp.normalize(total)


@wp.kernel
def _follow(
    vertices: wp.array(dtype=wp.vec3d),
    corner: wp.array(dtype=int),
    side: wp.array(dtype=int),
    start: wp.array(dtype=int),
    normal: wp.array(dtype=wp.vec3d),
    out: wp.array(dtype=wp.vec3d),
):
    v = wp.tid()
    p = vertices[v]
    step = wp.vec3d()
    for at in range(start[v], start[v + 1]):
        s = side[at]
        spokes = vertices[corner[turn_side(s, 1)]] + vertices[corner[turn_side(s, 2)]] - wp.float64(2.0) * p
        n = normal[s / 3]
        step += wp.dot(n, spokes) * n
    count = wp.max(start[v + 1] - start[v], 1)
    out[v] = p + step / (wp.float64(3.0) * wp.float64(count))
