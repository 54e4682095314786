# SPDX-License-Identifier: Apache-2.0
"""One parallel step of quadric edge collapse (docs/spec/geometry.md 14, with its required improvements).

Every vertex carries a quadric, the sum of `area (n.x - d)^2` over the faces it has swallowed (Garland & Heckbert, 1997) and of
planes upright on open edges. Edge (a, b) would move to the minimum x of `q_a + q_b`, drawn a little towards its middle, at cost
`(q_a + q_b)(x) + l tr(A) |a - b|^2`. It may, if the link condition holds and no face around it turns or becomes a sliver.
Edges that are cheaper than all others around them collapse together: their rings of faces are disjoint. Costs are compared as
64-bit keys, cost first and a scrambled edge number second, with integer atomics: the result does not depend on scheduling.

An edge is named by the side `3 f + i` of its face with the smallest number.
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
wp.set_module_options({"enable_backward": False})

NEVER = (1 << 63) - 1  # key of an edge that may not collapse
_DRAW = wp.constant(1e-3)  # weight of the edge's middle beside the quadric's mean eigenvalue
_RIM_WEIGHT = wp.constant(10.0)  # of the planes upright on open edges, beside their squared length
_SPLIT_MIN = 1 << 15  # threads; fewer are not worth another core
_FARTHEST = wp.constant(1.5)  # a minimum farther from the middle, in edge lengths, is not trusted
_KEPT_BITS = 0xFFF00000  # of the cost: 12 bits, an eighth; nearly equal costs are compared by the scrambled number
_SCRAMBLE = 0x9E3779B1  # odd, so that multiplication modulo 2^32 is one to one


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
    launch(_first_quadrics, count, surface, fans, [], split=True)
    return surface


def collapse_costs(surface: Surface, fans: Fans, length_weight: float) -> Tensor:
    """float32 [3F], cost of collapsing the edge of each side; inf for sides that name no edge, and for edges that may not.

    Args:
        length_weight: l of the formula; it spreads vertices over flat places.
    """
    cost = torch.empty(3 * len(surface.faces), dtype=torch.float32, device=surface.points.device)
    launch(_costs, len(cost), surface, fans, [wp.float64(length_weight), wp.from_torch(cost)], split=True)
    return cost


def collapse_keys(
    surface: Surface, fans: Fans, cost: Tensor, limit: float, min_cosine: float, min_quality: float
) -> tuple[Tensor, Tensor]:
    """Keys of the edges with a cost up to a limit that may collapse.

    Args:
        cost: as `collapse_costs` returns it.
        limit: highest cost.
        min_cosine: of the angle by which a face may turn.
        min_quality: `4 sqrt(3) area / sum(edges^2)`, 1 for an equilateral face; a face may only come out below if it was
            worse before.

    Returns:
        int64 [3F], `NEVER` where the edge may not; int32 [3F], faces that would go.
    """
    allowed = torch.zeros(len(cost), dtype=torch.int32, device=cost.device)
    cheap = torch.nonzero(cost <= limit)[:, 0]  # threads without work would wait for those beside them
    numbers = [wp.from_torch(cheap.int()), wp.float64(min_cosine), wp.float64(min_quality)]
    launch(_allowed, len(cheap), surface, fans, [*numbers, wp.from_torch(allowed)], split=True)
    cheap = cheap[allowed[cheap] > 0]
    key = torch.full((len(cost),), NEVER, dtype=torch.int64, device=cost.device)
    key[cheap] = (cost[cheap].view(torch.int32).long() & _KEPT_BITS) << 31 | cheap * _SCRAMBLE & 0xFFFFFFFF
    return key, allowed


def independent_sides(surface: Surface, fans: Fans, key: Tensor, rounds: int) -> Tensor:
    """int64 sides whose edges can collapse together, ascending: cheapest around them, then cheapest among what is left.

    Args:
        key: int64 [3F], `NEVER` where nothing may happen.
        rounds: how often what is left is looked at.
    """
    device, count = key.device, len(surface.points)
    chosen = torch.zeros(len(key), dtype=torch.int32, device=device)
    busy = torch.zeros(count, dtype=torch.int32, device=device)
    marks = [wp.from_torch(t) for t in (key, busy)]
    for _ in range(rounds):
        nearest = torch.full((count,), NEVER, dtype=torch.int64, device=device)
        around = torch.full((count,), NEVER, dtype=torch.int64, device=device)
        both = [wp.from_torch(nearest), wp.from_torch(around)]
        launch(_least_at_ends, len(key), surface, fans, [*marks, both[0]])
        launch(_least_around, len(surface.faces), surface, fans, both)
        launch(_choose, len(key), surface, fans, [*marks, both[1], wp.from_torch(chosen)])
        launch(_occupy, len(key), surface, fans, [wp.from_torch(chosen), marks[1]])
    return torch.nonzero(chosen)[:, 0]


def collapse(surface: Surface, fans: Fans, sides: Tensor) -> None:
    """Collapse independent edges in place; faces that lose their area go, the others keep their order.

    Args:
        sides: int64, as `independent_sides` chose them, or some of them.
    """
    into = torch.arange(len(surface.points), dtype=torch.int32, device=sides.device)
    launch(_collapse, len(sides), surface, fans, [wp.from_torch(sides.int()), wp.from_torch(into)])
    faces = into[surface.faces.long()]
    surface.faces = faces[(faces != faces.roll(1, 1)).all(1)]


def launch(kernel: wp.Kernel, threads: int, surface: Surface, fans: Fans, inputs: list, split: bool = False) -> None:
    """Run a kernel whose first argument are the `Arrays` of a surface.

    Args:
        split: the kernel counts from `m.first`, and its threads write to places of their own: all cores of a CPU share them,
            where Warp would use one.
    """
    wp.init()
    if threads == 0:
        return
    device = surface.points.device

    def run(first: int, count: int) -> None:
        arrays = Arrays()
        arrays.first = first
        arrays.points = wp.from_torch(surface.points, dtype=wp.vec3d)
        arrays.corner = wp.from_torch(surface.faces.reshape(-1))
        arrays.rim = wp.from_torch(surface.rim)
        arrays.matrix = wp.from_torch(surface.matrix, dtype=wp.mat33d)
        arrays.vector = wp.from_torch(surface.vector, dtype=wp.vec3d)
        arrays.constant = wp.from_torch(surface.constant)
        arrays.side = wp.from_torch(fans.side)
        arrays.start = wp.from_torch(fans.start)
        wp.launch(kernel, dim=count, inputs=[arrays, *inputs], device=wp.device_from_torch(device))

    if device.type == "cpu" and split and threads >= _SPLIT_MIN:
        share = -(-threads // (os.cpu_count() or 1))
        with ThreadPoolExecutor() as pool:
            parts = [pool.submit(run, first, min(share, threads - first)) for first in range(0, threads, share)]
        for part in parts:
            part.result()
        return
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        run(0, threads)


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
def _place(m: Arrays, a: int, b: int) -> wp.vec3d:
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
def _error(m: Arrays, v: int, x: wp.vec3d) -> wp.float64:
    return wp.dot(x, m.matrix[v] @ x) - wp.float64(2.0) * wp.dot(m.vector[v], x) + m.constant[v]


@wp.kernel
def _costs(m: Arrays, length_weight: wp.float64, cost: wp.array(dtype=float)):
    s = m.first + wp.tid()
    cost[s] = wp.inf
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    shared = int(0)
    for at in range(m.start[a], m.start[a + 1]):
        t = m.side[at]
        if m.corner[turn_side(t, 1)] == b or m.corner[turn_side(t, 2)] == b:
            shared += 1
            if t // 3 < s // 3:
                return
    if shared > 2 or (shared == 2 and m.rim[a] == 1 and m.rim[b] == 1):
        return
    x = _place(m, a, b)
    weight = wp.trace(m.matrix[a]) + wp.trace(m.matrix[b])
    length2 = wp.length_sq(m.points[a] - m.points[b])
    error = wp.max(_error(m, a, x) + _error(m, b, x), wp.float64(0.0))
    cost[s] = float(error + length_weight * weight * length2)


@wp.func
def _worsens(p: wp.vec3d, q: wp.vec3d, before: wp.vec3d, after: wp.vec3d, cosine: wp.float64, quality: wp.float64) -> bool:
    """Whether face (p, q, before) turns too far or becomes a sliver when its third corner moves."""
    old = wp.cross(p - before, q - before)
    new = wp.cross(p - after, q - after)
    if wp.dot(old, new) < cosine * wp.length(old) * wp.length(new):
        return True
    base = wp.length_sq(p - q)
    shape = wp.length(new) / (base + wp.length_sq(p - after) + wp.length_sq(q - after))
    shape_before = wp.length(old) / (base + wp.length_sq(p - before) + wp.length_sq(q - before))
    return wp.float64(3.4641016) * shape < quality and shape <= shape_before


@wp.kernel
def _allowed(
    m: Arrays,
    sides: wp.array(dtype=int),
    cosine: wp.float64,
    quality: wp.float64,
    allowed: wp.array(dtype=int),
):
    s = sides[m.first + wp.tid()]
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    x = _place(m, a, b)
    apex_one = int(-1)
    apex_two = int(-1)
    going = int(0)
    for at in range(m.start[a], m.start[a + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n == b or p == b:
            apex_two = apex_one
            apex_one = n + p - b
            going += 1
    staying = int(0)
    closed = int(0)
    for at in range(m.start[b], m.start[b + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n != a and p != a:
            staying += 1
            if going == 2 and (n == apex_one or n == apex_two) and (p == apex_one or p == apex_two):
                closed += 1
            if _worsens(m.points[n], m.points[p], m.points[b], x, cosine, quality):
                return
    for at in range(m.start[a], m.start[a + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n != b and p != b:
            staying += 1
            if going == 2 and (n == apex_one or n == apex_two) and (p == apex_one or p == apex_two):
                closed += 1
            if _worsens(m.points[n], m.points[p], m.points[a], x, cosine, quality):
                return
            if n != apex_one and n != apex_two:
                if shared_faces(m, b, n) > 0:
                    return
            if p != apex_one and p != apex_two:
                if shared_faces(m, b, p) > 0:
                    return
    if staying > 0 and closed < 2:
        allowed[s] = going


@wp.kernel
def _least_at_ends(m: Arrays, key: wp.array(dtype=wp.int64), busy: wp.array(dtype=int), least: wp.array(dtype=wp.int64)):
    s = wp.tid()
    if key[s] == wp.int64(NEVER):
        return
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    if busy[a] == 0 and busy[b] == 0:
        wp.atomic_min(least, a, key[s])
        wp.atomic_min(least, b, key[s])


@wp.kernel
def _least_around(m: Arrays, least: wp.array(dtype=wp.int64), around: wp.array(dtype=wp.int64)):
    f = wp.tid()
    best = wp.min(wp.min(least[m.corner[3 * f]], least[m.corner[3 * f + 1]]), least[m.corner[3 * f + 2]])
    for k in range(3):
        wp.atomic_min(around, m.corner[3 * f + k], best)


@wp.kernel
def _choose(
    m: Arrays,
    key: wp.array(dtype=wp.int64),
    busy: wp.array(dtype=int),
    around: wp.array(dtype=wp.int64),
    chosen: wp.array(dtype=int),
):
    s = wp.tid()
    if key[s] == wp.int64(NEVER):
        return
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    if busy[a] == 0 and busy[b] == 0 and around[a] == key[s] and around[b] == key[s]:
        chosen[s] = 1


@wp.kernel
def _occupy(m: Arrays, chosen: wp.array(dtype=int), busy: wp.array(dtype=int)):
    s = wp.tid()
    if chosen[s] == 0:
        return
    for k in range(2):
        v = m.corner[turn_side(s, k)]
        for at in range(m.start[v], m.start[v + 1]):
            t = m.side[at]
            for j in range(3):
                busy[m.corner[turn_side(t, j)]] = 1


@wp.kernel
def _collapse(m: Arrays, sides: wp.array(dtype=int), into: wp.array(dtype=int)):
    s = sides[wp.tid()]
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    m.points[a] = _place(m, a, b)
    m.matrix[a] = m.matrix[a] + m.matrix[b]
    m.vector[a] = m.vector[a] + m.vector[b]
    m.constant[a] = m.constant[a] + m.constant[b]
    m.rim[a] = wp.max(m.rim[a], m.rim[b])
    into[b] = a
