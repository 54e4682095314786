# SPDX-License-Identifier: Apache-2.0
"""One round of edge collapses on a mesh with texture coordinates (docs/spec/geometry.md 14, 19.7).

A *wedge* is a vertex of the mesh with texture coordinates; several wedges at one *point* of the surface make a seam. A collapse
moves point b into a neighbour a: nothing is placed anew, so positions and texture coordinates stay those of the finest mesh.
Where a chart that meets b goes on to a along their edge, its faces take a's wedge. Where it does not, its wedge *slides*: it
moves to a and keeps its texture coordinates. The seam then runs through a, the chart beyond it gives way, and the texture is
stretched by as much as the seam moved: so charts that are small beside a level's faces vanish, and corners where charts meet.

Cost: `x^T (Q_a + Q_b) x` at a, quadrics summed over all collapses (Garland & Heckbert 1997), and for every face that slides
its area times the squared distance from where its wedge was at first. Refused: a changed link (Dey et al. 1999), a face turned,
thin, or mirrored in the texture, and a border that would leave its old course by more than a given distance in the texture.

Of the proposals those are carried out that are the cheapest at every face around a and b, then those among what is left;
integer keys decide ties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import warp as wp
from torch import Tensor

from native_ext.mesh_sides import fans_of
from native_ext.wedge_rings import FORKED, SLIDES, WedgeMesh, corner_at, faces_with, faces_with_wedges, link_is_kept, wedge_at

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

_NO_KEY = 2**63 - 1
_CHOICES = 3  # of proposals per round; each finds some among what is left
_MAX_RING = wp.constant(64)  # faces around a point; more is left alone


@dataclass(frozen=True)
class Wedges:
    """A mesh with texture coordinates during its collapse.

    Attributes:
        positions: float32 [P, 3] of points.
        uvs: float32 [W, 2] of wedges.
        home: float32 [W, 3], where in space the texture of each wedge belongs.
        point: int32 [W], the point of each wedge.
        faces: int32 [F, 3], wedges.
        quadrics: float32 [P, 10], xx xy xz xd yy yz yd zz zd dd.
        drift: float32 [W], how far the border of its chart has left its course there, in texture units.
    """

    positions: Tensor
    uvs: Tensor
    home: Tensor
    point: Tensor
    faces: Tensor
    quadrics: Tensor
    drift: Tensor


@dataclass(frozen=True)
class Guard:
    """What a collapse may do to the faces around it.

    Attributes:
        drift: how far a border may leave its course, in texture units.
        turn: cosine between a face's normal before and after.
        thin: twice a face's area over its longest edge squared, in space; half of that in the texture. 1 / aspect.
        fan: faces around a point after a collapse: no fans of long thin faces.
        slide: weight of the squared distance by which texture slides, beside that by which the surface moves.
    """

    drift: float
    turn: float = 0.3
    thin: float = 0.055
    fan: int = 14
    slide: float = 4.0


@wp.struct
class _Limits:
    drift: float
    turn: float
    thin: float
    fan: int
    slide: float


@wp.func
def _cost(m: WedgeMesh, a: int, b: int) -> float:
    x = m.positions[a]
    total = float(0.0)
    for k in range(2):
        i = wp.where(k == 0, a, b)
        q = m.quadrics[i]
        total += q[0] * x[0] * x[0] + q[4] * x[1] * x[1] + q[7] * x[2] * x[2] + q[9]
        total += 2.0 * (q[1] * x[0] * x[1] + q[2] * x[0] * x[2] + q[5] * x[1] * x[2])
        total += 2.0 * (q[3] * x[0] + q[6] * x[1] + q[8] * x[2])
    return wp.max(total, 0.0)


@wp.func
def _longest2(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> float:
    return wp.max(wp.max(wp.length_sq(b - a), wp.length_sq(c - b)), wp.length_sq(a - c))


@wp.func
def _shape(longest2: float, doubled: float) -> float:
    return doubled / wp.max(longest2, 1.0e-30)


@wp.func
def _left_course(m: WedgeMesh, b: int, w: int, wa: int, n: int) -> float:
    """How far the border of a chart is off its course if it runs from wedge wa straight to n, past w; 0 within the chart."""
    if faces_with_wedges(m, b, w, wa) != 1 or faces_with_wedges(m, b, w, n) != 1:
        return 0.0
    ab = m.uvs[n] - m.uvs[wa]
    t = wp.clamp(wp.dot(m.uvs[w] - m.uvs[wa], ab) / wp.max(wp.dot(ab, ab), 1.0e-30), 0.0, 1.0)
    aside = wp.length(m.uvs[wa] + t * ab - m.uvs[w])
    before = wp.max(m.drift[w], m.drift[wa])
    return wp.sqrt(aside * aside + before * before)  # zigzags cancel as often as they add up


@wp.func
def _slide_cost(m: WedgeMesh, b: int, a: int) -> float:
    total = float(0.0)
    w = int(-1)
    wa = int(-1)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        if corner_at(m, f, a) < 0:
            k = corner_at(m, f, b)
            if m.faces[f, k] != w:
                w = m.faces[f, k]
                wa = wedge_at(m, b, w, a)
            if wa == SLIDES:
                p = m.positions[m.point[m.faces[f, (k + 1) % 3]]]
                q = m.positions[m.point[m.faces[f, (k + 2) % 3]]]
                area = 0.5 * wp.length(wp.cross(p - m.positions[a], q - m.positions[a]))
                total += area / 3.0 * wp.length_sq(m.positions[a] - m.home[w])
    return total


@wp.func
def _fits(m: WedgeMesh, b: int, a: int, bordered: bool, limits: _Limits) -> bool:
    """Whether every face around b that stays may follow it to a."""
    w = int(-1)
    wa = int(-1)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        if corner_at(m, f, a) >= 0:
            continue
        k = corner_at(m, f, b)
        w1 = m.faces[f, (k + 1) % 3]
        w2 = m.faces[f, (k + 2) % 3]
        p1 = m.positions[m.point[w1]]
        p2 = m.positions[m.point[w2]]
        before = wp.cross(p1 - m.positions[b], p2 - m.positions[b])
        after = wp.cross(p1 - m.positions[a], p2 - m.positions[a])
        if wp.dot(before, after) < limits.turn * wp.length(before) * wp.length(after):
            return False
        old_shape = _shape(_longest2(m.positions[b], p1, p2), wp.length(before))
        least = wp.min(limits.thin, old_shape)
        if _shape(_longest2(m.positions[a], p1, p2), wp.length(after)) < least:
            return False
        if m.faces[f, k] != w:
            w = m.faces[f, k]
            wa = wedge_at(m, b, w, a)
            if wa == FORKED:
                return False
        if wa >= 0:
            u1 = m.uvs[w1] - m.uvs[wa]
            u2 = m.uvs[w2] - m.uvs[wa]
            longest2 = wp.max(wp.max(wp.length_sq(u1), wp.length_sq(u2)), wp.length_sq(u2 - u1))
            if _shape(longest2, u1[1] * u2[0] - u1[0] * u2[1]) < 0.5 * least:
                return False
            if bordered and wp.max(_left_course(m, b, w, wa, w1), _left_course(m, b, w, wa, w2)) > limits.drift:
                return False
    return True


@wp.kernel
def _propose(m: WedgeMesh, limits: _Limits, target: wp.array(dtype=int), cost: wp.array(dtype=float)):
    b = wp.tid()
    target[b] = -1
    ring = m.start[b + 1] - m.start[b]
    if ring == 0 or ring > _MAX_RING:
        return
    open_spokes = int(0)
    bordered = bool(False)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        k = corner_at(m, f, b)
        for side in range(2):
            n = m.faces[f, (k + 1 + side) % 3]
            faces = faces_with(m, b, m.point[n])
            if faces > 2:
                return
            if faces == 1:
                open_spokes += 1
            if faces == 1 or faces_with_wedges(m, b, m.faces[f, k], n) == 1:
                bordered = True
    if open_spokes != 0 and open_spokes != 2:
        return
    best = float(3.0e38)
    for i in range(m.start[b], m.start[b + 1]):
        k = corner_at(m, m.around[i], b)
        for side in range(2):
            if side == 1 and open_spokes == 0:
                continue  # around an inner point every neighbour follows it in one face
            a = m.point[m.faces[m.around[i], (k + 1 + side) % 3]]
            if open_spokes == 2 and faces_with(m, b, a) == 2:
                continue  # an end of the surface moves along it
            ring_a = m.start[a + 1] - m.start[a]
            if ring + ring_a - 4 > wp.max(limits.fan, ring_a):
                continue
            price = _cost(m, a, b)
            if bordered and price <= best:
                price += limits.slide * _slide_cost(m, b, a)
            if price > best or (price == best and a >= target[b] and target[b] >= 0):
                continue
            if _fits(m, b, a, bordered, limits) and link_is_kept(m, b, a):
                best = price
                target[b] = a
                cost[b] = price


@wp.kernel
def _claim(
    m: WedgeMesh,
    keys: wp.array(dtype=wp.int64),
    target: wp.array(dtype=int),
    taken: wp.array(dtype=wp.bool),
    owner: wp.array(dtype=wp.int64),
):
    b = wp.tid()
    if keys[b] == wp.int64(_NO_KEY):
        return
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(m.start[p], m.start[p + 1]):
            if taken[m.around[i]]:
                return
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(m.start[p], m.start[p + 1]):
            wp.atomic_min(owner, m.around[i], keys[b])


@wp.kernel
def _win(
    m: WedgeMesh,
    keys: wp.array(dtype=wp.int64),
    target: wp.array(dtype=int),
    taken: wp.array(dtype=wp.bool),
    owner: wp.array(dtype=wp.int64),
    wins: wp.array(dtype=wp.bool),
):
    b = wp.tid()
    if keys[b] == wp.int64(_NO_KEY):
        return
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(m.start[p], m.start[p + 1]):
            if owner[m.around[i]] != keys[b]:
                return
    wins[b] = True
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(m.start[p], m.start[p + 1]):
            taken[m.around[i]] = True


@wp.kernel
def _collapse(
    m: WedgeMesh,
    chosen: wp.array(dtype=int),
    target: wp.array(dtype=int),
    point: wp.array(dtype=int),
    faces: wp.array2d(dtype=int),
    quadrics: wp.array2d(dtype=float),
    drift: wp.array(dtype=float),
    alive: wp.array(dtype=wp.bool),
):
    """From what is in m to what the other arrays, copies of it, become."""
    b = chosen[wp.tid()]
    a = target[b]
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        if corner_at(m, f, a) >= 0:
            alive[f] = False
            continue
        k = corner_at(m, f, b)
        w = m.faces[f, k]
        wa = wedge_at(m, b, w, a)
        if wa < 0:
            point[w] = a
            continue
        faces[f, k] = wa
        for side in range(2):
            n = m.faces[f, (k + 1 + side) % 3]
            course = _left_course(m, b, w, wa, n)
            wp.atomic_max(drift, wa, course)
            wp.atomic_max(drift, n, course)
    for c in range(10):
        quadrics[a, c] = m.quadrics[a, c] + m.quadrics[b, c]


def view_of(mesh: Wedges) -> WedgeMesh:
    """The mesh as kernels see it, with the faces around its points; within the scope of its device."""
    fans = fans_of(mesh.point[mesh.faces.long()], len(mesh.positions))
    w, m = wp.from_torch, WedgeMesh()
    m.positions, m.home, m.uvs = w(mesh.positions, wp.vec3), w(mesh.home, wp.vec3), w(mesh.uvs, wp.vec2)
    m.point, m.faces, m.quadrics, m.drift = w(mesh.point), w(mesh.faces), w(mesh.quadrics), w(mesh.drift)
    m.start, m.around = w(fans.start), w(fans.side // 3)
    return m


def collapse_round(mesh: Wedges, guard: Guard, most: int, share: float, limit: float = math.inf) -> Wedges:
    """Carries out the cheapest independent collapses.

    Args:
        mesh: the state; its tensors are left alone.
        guard: what no collapse may do.
        most: faces to take away at most; the last collapse may take one more.
        share: only this part of the points, those of lowest cost, take part, so that expensive collapses wait for cheap ones.
        limit: collapses of a higher cost wait, too.

    Returns:
        The new state, with the same points and wedges and fewer faces; the same number of faces where nothing can collapse.
    """
    wp.init()
    device, count = mesh.faces.device, len(mesh.positions)
    target = torch.full((count,), -1, dtype=torch.int32, device=device)
    cost = torch.zeros(count, device=device)
    after = {name: getattr(mesh, name).clone() for name in ("point", "faces", "quadrics", "drift")}
    w = wp.from_torch
    with (
        wp.ScopedDevice(wp.device_from_torch(device)),
        wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None),
    ):
        m, limits = view_of(mesh), _Limits()
        for name, value in vars(guard).items():
            setattr(limits, name, value)
        wp.launch(_propose, count, [m, limits, w(target), w(cost)])
        ready = (target >= 0) & (cost <= limit)
        if not bool(ready.any()):
            return mesh
        prices = cost[ready]
        bound = prices.sort().values[min(len(prices) - 1, int(share * len(prices)) + 16)]
        keys = (cost.view(torch.int32).long() << 32) + torch.arange(count, device=device)
        keys = torch.where(ready & (cost <= bound), keys, _NO_KEY)
        wins = torch.zeros(count, dtype=torch.bool, device=device)
        taken = torch.zeros(len(mesh.faces), dtype=torch.bool, device=device)
        for _ in range(_CHOICES):
            owner = torch.full((len(mesh.faces),), _NO_KEY, dtype=torch.int64, device=device)
            inputs = [m, w(keys), w(target), w(taken), w(owner)]
            wp.launch(_claim, count, inputs)
            wp.launch(_win, count, [*inputs, w(wins)])
        chosen = wins.nonzero()[:, 0]
        chosen = chosen[torch.argsort(keys[chosen])][: max(1, (most + 1) // 2)].int().contiguous()
        alive = torch.ones(len(mesh.faces), dtype=torch.bool, device=device)
        wp.launch(_collapse, len(chosen), [m, w(chosen), w(target), *map(w, after.values()), w(alive)])
    after["faces"] = after["faces"][alive].contiguous()
    return replace(mesh, **after)
