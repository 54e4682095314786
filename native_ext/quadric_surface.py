# SPDX-License-Identifier: Apache-2.0
"""A surface with a quadric at every vertex, as `edge_collapse` and `edge_flip` change it step by step.

Every vertex carries a quadric, the sum of `area (n.x - d)^2` over the faces it has swallowed (Garland & Heckbert, 1997) and of
planes upright on open edges.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

from native_ext.mesh_sides import Fans, turn_side

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

_DRAW = wp.constant(1e-3)  # weight of the edge's middle beside the quadric's mean eigenvalue
_RIM_WEIGHT = wp.constant(10.0)  # of the planes upright on open edges, beside their squared length
_FARTHEST = wp.constant(1.5)  # a minimum farther from the middle, in edge lengths, is not trusted
_SPLIT_MIN = 1 << 15  # threads; fewer are not worth another core


@dataclass
class Surface:
    """A mesh while it is being simplified; replaced in place step by step.

    Attributes:
        points: float64 [V, 3]; vertices that no face uses stay.
        faces: int32 [F, 3], F < 2^31 / 3.
        rim: int32 [V], 1 for ends of open edges.
        matrix, vector, constant: the quadrics x'Ax - 2b'x + c, float64 [V, 3, 3], [V, 3], [V].
    """

    points: Tensor
    faces: Tensor
    rim: Tensor
    matrix: Tensor
    vector: Tensor
    constant: Tensor


def start_surface(points: Tensor, faces: Tensor, fans: Fans) -> Surface:
    """The surface with the quadrics of its own faces."""
    count, device = len(points), points.device
    surface = Surface(
        points.double().contiguous(),
        faces.int().contiguous(),
        torch.zeros(count, dtype=torch.int32, device=device),
        torch.zeros(count, 3, 3, dtype=torch.float64, device=device),
        torch.zeros(count, 3, dtype=torch.float64, device=device),
        torch.zeros(count, dtype=torch.float64, device=device),
    )
    View(surface, fans).launch(_first_quadrics, count, [], split=True)
    return surface


class View:
    """A surface and its fans as kernels see them, for as many launches as happen before one of them is replaced."""

    def __init__(self, surface: Surface, fans: Fans) -> None:
        wp.init()
        self._device = surface.points.device
        self._arrays = {
            "points": wp.from_torch(surface.points, dtype=wp.vec3d),
            "corner": wp.from_torch(surface.faces.reshape(-1)),
            "rim": wp.from_torch(surface.rim),
            "matrix": wp.from_torch(surface.matrix, dtype=wp.mat33d),
            "vector": wp.from_torch(surface.vector, dtype=wp.vec3d),
            "constant": wp.from_torch(surface.constant),
            "side": wp.from_torch(fans.side),
            "start": wp.from_torch(fans.start),
        }
        self._whole = self._from(0)

    def _from(self, first: int) -> Arrays:
        arrays = Arrays()
        arrays.first = first
        for name, array in self._arrays.items():
            setattr(arrays, name, array)
        return arrays

    def launch(self, kernel: wp.Kernel, threads: int, inputs: list, split: bool = False) -> None:
        """Run a kernel whose first argument are the `Arrays`.

        Args:
            split: the kernel counts from `m.first`, and its threads write to places of their own: all cores of a CPU share
                them, where Warp would use one.
        """
        if threads == 0:
            return
        device = wp.device_from_torch(self._device)
        if self._device.type == "cpu" and split and threads >= _SPLIT_MIN:

            def run(first: int, count: int) -> None:
                wp.launch(kernel, dim=count, inputs=[self._from(first), *inputs], device=device)

            share = -(-threads // (os.cpu_count() or 1))
            with ThreadPoolExecutor() as pool:
                parts = [pool.submit(run, first, min(share, threads - first)) for first in range(0, threads, share)]
            for part in parts:
                part.result()
            return
        with wp.ScopedStream(wp.stream_from_torch(self._device) if self._device.type == "cuda" else None):
            wp.launch(kernel, dim=threads, inputs=[self._whole, *inputs], device=device)


@wp.struct
class Arrays:
    """`Surface` and `Fans` as kernels see them; `corner` are the faces, flat; `first` the number of the first thread."""

    first: int
    points: wp.array(dtype=wp.vec3d)
    corner: wp.array(dtype=int)
    rim: wp.array(dtype=int)
    matrix: wp.array(dtype=wp.mat33d)
    vector: wp.array(dtype=wp.vec3d)
    constant: wp.array(dtype=wp.float64)
    side: wp.array(dtype=int)
    start: wp.array(dtype=int)


@wp.func
def shared_faces(m: Arrays, a: int, b: int) -> int:
    """How many faces have both vertices."""
    count = int(0)
    for at in range(m.start[a], m.start[a + 1]):
        s = m.side[at]
        if m.corner[turn_side(s, 1)] == b or m.corner[turn_side(s, 2)] == b:
            count += 1
    return count


@wp.kernel
def _first_quadrics(m: Arrays):
    v = m.first + wp.tid()
    matrix = wp.mat33d()
    vector = wp.vec3d()
    constant = wp.float64(0.0)
    on_rim = int(0)
    p = m.points[v]
    for at in range(m.start[v], m.start[v + 1]):
        s = m.side[at]
        b = m.corner[turn_side(s, 1)]
        c = m.corner[turn_side(s, 2)]
        n = wp.cross(m.points[b] - p, m.points[c] - p)
        area = wp.length(n) * wp.float64(0.5)
        n = wp.normalize(n)
        d = wp.dot(n, p)
        matrix += area * wp.outer(n, n)
        vector += (area * d) * n
        constant += area * d * d
        for k in range(2):
            w = b
            if k == 1:
                w = c
            if shared_faces(m, v, w) == 1:
                on_rim = 1
                along = m.points[w] - p
                upright = wp.normalize(wp.cross(n, along))
                weight = wp.float64(_RIM_WEIGHT) * wp.length_sq(along)
                e = wp.dot(upright, p)
                matrix += weight * wp.outer(upright, upright)
                vector += (weight * e) * upright
                constant += weight * e * e
    m.matrix[v] = matrix
    m.vector[v] = vector
    m.constant[v] = constant
    m.rim[v] = on_rim


@wp.func
def place_edge(m: Arrays, a: int, b: int) -> wp.vec3d:
    """Where the edge goes."""
    matrix = m.matrix[a] + m.matrix[b]
    middle = wp.float64(0.5) * (m.points[a] + m.points[b])
    draw = wp.float64(_DRAW) * wp.trace(matrix) + wp.float64(1.0e-300)
    right = m.vector[a] + m.vector[b] - matrix @ middle
    step = wp.inverse(matrix + draw * wp.identity(n=3, dtype=wp.float64)) @ right
    if wp.length(step) > wp.float64(_FARTHEST) * wp.length(m.points[a] - m.points[b]):
        return middle
    return middle + step


@wp.func
def quadric_error(m: Arrays, v: int, x: wp.vec3d) -> wp.float64:
    """Of vertex v at x."""
    return wp.dot(x, m.matrix[v] @ x) - wp.float64(2.0) * wp.dot(m.vector[v], x) + m.constant[v]
