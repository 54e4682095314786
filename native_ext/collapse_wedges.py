# SPDX-License-Identifier: Apache-2.0
"""One round of edge collapses on a mesh with texture coordinates that keeps its chart borders (docs/spec/geometry.md 14, 19.7).

A *wedge* is a vertex of the mesh with texture coordinates; several wedges at one *point* of the surface make a seam. A collapse
moves point b into a neighbour a: nothing is placed anew, so positions, normals and texture coordinates stay those of the
finest mesh. Points inside a chart may go to any neighbour, points on a border only along it, with both sides at once, and
points where borders meet stay. Cost: `x^T (Q_a + Q_b) x` at a, quadrics summed over all collapses (Garland & Heckbert 1997).

Refused: a changed link (Dey et al. 1999), a normal turned by more than `_TURN`, a face mirrored or flattened in the texture, a
sliver, and a border that would leave its old course by more than the given distance in the texture.

Of the proposals those are carried out that are the cheapest at every face around a and b; integer keys decide ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_TURN = wp.constant(0.3)  # cosine between a face's normal before and after
_THIN = wp.constant(0.04)  # twice a face's area over its longest edge squared: aspect 25 in texture and space
_NO_KEY = 2**63 - 1
_MAX_RING = wp.constant(64)  # faces around a point; more is left alone
_MAX_FAN = wp.constant(14)  # faces around a point after a collapse: no fans of long thin faces


@dataclass(frozen=True)
class Wedges:
    """A mesh with texture coordinates during its collapse.

    Attributes:
        positions: float32 [P, 3] of points.
        uvs: float32 [W, 2] of wedges.
        point: int32 [W], the point of each wedge.
        faces: int32 [F, 3], wedges.
        quadrics: float32 [P, 10], xx xy xz xd yy yz yd zz zd dd.
        drift: float32 [P], how far the borders at a point have left their course, in texture units.
    """

    positions: Tensor
    uvs: Tensor
    point: Tensor
    faces: Tensor
    quadrics: Tensor
    drift: Tensor


@wp.func
def _cost(q: wp.array2d(dtype=float), a: int, b: int, x: wp.vec3) -> float:
    total = float(0.0)
    for k in range(2):
        i = wp.where(k == 0, a, b)
        total += q[i, 0] * x[0] * x[0] + q[i, 4] * x[1] * x[1] + q[i, 7] * x[2] * x[2] + q[i, 9]
        total += 2.0 * (q[i, 1] * x[0] * x[1] + q[i, 2] * x[0] * x[2] + q[i, 5] * x[1] * x[2])
        total += 2.0 * (q[i, 3] * x[0] + q[i, 6] * x[1] + q[i, 8] * x[2])
    return wp.max(total, 0.0)


@wp.func
def _corner(faces: wp.array2d(dtype=int), point: wp.array(dtype=int), f: int, p: int) -> int:
    if point[faces[f, 0]] == p:
        return 0
    if point[faces[f, 1]] == p:
        return 1
    if point[faces[f, 2]] == p:
        return 2
    return -1


@wp.func
def _shape(longest2: float, doubled: float) -> float:
    return doubled / wp.max(longest2, 1.0e-30)


@wp.func
def _longest2(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> float:
    return wp.max(wp.max(wp.length_sq(b - a), wp.length_sq(c - b)), wp.length_sq(a - c))


@wp.func
def _aside(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> float:
    """Distance of p to the segment from a to b."""
    ab = b - a
    t = wp.clamp(wp.dot(p - a, ab) / wp.max(wp.dot(ab, ab), 1.0e-30), 0.0, 1.0)
    return wp.length(a + t * ab - p)


@wp.func
def _link_is_kept(
    start: wp.array(dtype=int),
    around: wp.array(dtype=int),
    faces: wp.array2d(dtype=int),
    point: wp.array(dtype=int),
    b: int,
    a: int,
) -> bool:
    """Whether a and b have no common neighbour but those of their common faces."""
    shared = int(0)
    for i in range(start[b], start[b + 1]):
        if _corner(faces, point, around[i], a) >= 0:
            shared += 1
    common = int(0)
    for i in range(start[b], start[b + 1]):
        f = around[i]
        k = _corner(faces, point, f, b)
        for side in range(2):
            n = point[faces[f, (k + 1 + side) % 3]]
            if n == a:
                continue
            # each neighbour once: at the first face around b that has it
            first = bool(True)
            for j in range(start[b], i):
                if _corner(faces, point, around[j], n) >= 0:
                    first = False
            if side == 1 and point[faces[f, (k + 1) % 3]] == n:
                first = False
            if first:
                for j in range(start[a], start[a + 1]):
                    if _corner(faces, point, around[j], n) >= 0:
                        common += 1
                        break
    return common == shared


@wp.kernel
def _propose(
    positions: wp.array(dtype=wp.vec3),
    uvs: wp.array(dtype=wp.vec2),
    point: wp.array(dtype=int),
    faces: wp.array2d(dtype=int),
    quadrics: wp.array2d(dtype=float),
    drift: wp.array(dtype=float),
    start: wp.array(dtype=int),
    around: wp.array(dtype=int),
    limit: float,
    target: wp.array(dtype=int),
    cost: wp.array(dtype=float),
    course: wp.array(dtype=float),
    beyond: wp.array(dtype=int),
):
    b = wp.tid()
    target[b] = -1
    ring = start[b + 1] - start[b]
    if ring == 0 or ring > _MAX_RING:
        return
    # borders at b: edges whose two faces do not share both wedges, or that have one face
    spokes = int(0)
    open_spokes = int(0)
    s0 = int(-1)
    s1 = int(-1)
    for i in range(start[b], start[b + 1]):
        f = around[i]
        k = _corner(faces, point, f, b)
        for side in range(2):
            wn = faces[f, (k + 1 + side) % 3]
            n = point[wn]
            matches = int(0)
            inside = int(0)
            for j in range(start[b], start[b + 1]):
                if j == i:
                    continue
                g = around[j]
                m = _corner(faces, point, g, n)
                if m >= 0:
                    matches += 1
                    if faces[g, m] == wn and faces[g, _corner(faces, point, g, b)] == faces[f, k]:
                        inside += 1
            if matches > 1:
                return
            if inside == 0:
                if n != s0 and n != s1:
                    spokes += 1
                    if matches == 0:
                        open_spokes += 1
                    if s0 < 0:
                        s0 = n
                    elif s1 < 0:
                        s1 = n
    if spokes != 0 and (spokes != 2 or open_spokes == 1):
        return
    best = float(3.0e38)
    for i in range(start[b], start[b + 1]):
        here = around[i]
        kb = _corner(faces, point, here, b)
        for end in range(2):
            a = point[faces[here, (kb + 1 + end) % 3]]
            if spokes == 2 and a != s0 and a != s1:
                continue
            if end == 1 and spokes == 0:
                continue  # around an inner point every neighbour follows it in one face
            if ring + start[a + 1] - start[a] - 4 > wp.max(_MAX_FAN, start[a + 1] - start[a]):
                continue
            price = _cost(quadrics, a, b, positions[a])
            if price > best or (price == best and a >= target[b] and target[b] >= 0):
                continue
            other = wp.where(a == s0, s1, s0)
            moved = float(0.0)
            fits = bool(True)
            for j in range(start[b], start[b + 1]):
                f = around[j]
                k = _corner(faces, point, f, b)
                if _corner(faces, point, f, a) >= 0:
                    continue
                # the wedge of a beside this face's wedge of b
                w = faces[f, k]
                wa = int(-1)
                for o in range(start[b], start[b + 1]):
                    g = around[o]
                    m = _corner(faces, point, g, a)
                    if m >= 0 and faces[g, _corner(faces, point, g, b)] == w:
                        wa = faces[g, m]
                if wa < 0:
                    fits = False
                    break
                w1 = faces[f, (k + 1) % 3]
                w2 = faces[f, (k + 2) % 3]
                p1 = positions[point[w1]]
                p2 = positions[point[w2]]
                before = wp.cross(p1 - positions[b], p2 - positions[b])
                after = wp.cross(p1 - positions[a], p2 - positions[a])
                if wp.dot(before, after) < _TURN * wp.length(before) * wp.length(after):
                    fits = False
                    break
                u1 = uvs[w1]
                u2 = uvs[w2]
                flat = (u1[0] - uvs[wa][0]) * (u2[1] - uvs[wa][1]) - (u1[1] - uvs[wa][1]) * (u2[0] - uvs[wa][0])
                flat_longest = wp.max(wp.max(wp.length_sq(u1 - uvs[wa]), wp.length_sq(u2 - uvs[wa])), wp.length_sq(u2 - u1))
                old_shape = _shape(_longest2(positions[b], p1, p2), wp.length(before))
                new_shape = _shape(_longest2(positions[a], p1, p2), wp.length(after))
                if new_shape < wp.min(_THIN, old_shape) or _shape(flat_longest, -flat) < 0.5 * wp.min(_THIN, old_shape):
                    fits = False
                    break
                if point[w1] == other or point[w2] == other:
                    wo = wp.where(point[w1] == other, w1, w2)
                    moved = wp.max(moved, _aside(uvs[wa], uvs[wo], uvs[w]))
            if fits and spokes == 2:
                before_it = wp.max(drift[b], drift[a])
                moved = wp.sqrt(moved * moved + before_it * before_it)  # zigzags cancel as often as they add up
                if moved > limit:
                    fits = False
            if fits and _link_is_kept(start, around, faces, point, b, a):
                best = price
                target[b] = a
                cost[b] = price
                course[b] = wp.where(spokes == 2, moved, 0.0)
                beyond[b] = wp.where(spokes == 2, other, -1)


@wp.kernel
def _claim(
    keys: wp.array(dtype=wp.int64),
    target: wp.array(dtype=int),
    start: wp.array(dtype=int),
    around: wp.array(dtype=int),
    owner: wp.array(dtype=wp.int64),
):
    b = wp.tid()
    if keys[b] == wp.int64(_NO_KEY):
        return
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(start[p], start[p + 1]):
            wp.atomic_min(owner, around[i], keys[b])


@wp.kernel
def _win(
    keys: wp.array(dtype=wp.int64),
    target: wp.array(dtype=int),
    start: wp.array(dtype=int),
    around: wp.array(dtype=int),
    owner: wp.array(dtype=wp.int64),
    wins: wp.array(dtype=wp.bool),
):
    b = wp.tid()
    wins[b] = False
    if keys[b] == wp.int64(_NO_KEY):
        return
    for side in range(2):
        p = wp.where(side == 0, b, target[b])
        for i in range(start[p], start[p + 1]):
            if owner[around[i]] != keys[b]:
                return
    wins[b] = True


@wp.kernel
def _collapse(
    chosen: wp.array(dtype=int),
    target: wp.array(dtype=int),
    course: wp.array(dtype=float),
    beyond: wp.array(dtype=int),
    start: wp.array(dtype=int),
    around: wp.array(dtype=int),
    point: wp.array(dtype=int),
    faces: wp.array2d(dtype=int),
    quadrics: wp.array2d(dtype=float),
    drift: wp.array(dtype=float),
    alive: wp.array(dtype=wp.bool),
):
    b = chosen[wp.tid()]
    a = target[b]
    for i in range(start[b], start[b + 1]):
        f = around[i]
        if _corner(faces, point, f, a) < 0:
            k = _corner(faces, point, f, b)
            wa = int(-1)
            for o in range(start[b], start[b + 1]):
                g = around[o]
                m = _corner(faces, point, g, a)
                if m >= 0 and not alive[g] or m >= 0:
                    if faces[g, _corner(faces, point, g, b)] == faces[f, k]:
                        wa = faces[g, m]
            faces[f, k] = wa
    for i in range(start[b], start[b + 1]):
        if _corner(faces, point, around[i], b) >= 0:
            alive[around[i]] = False
    for c in range(10):
        quadrics[a, c] = quadrics[a, c] + quadrics[b, c]
    if beyond[b] >= 0:
        drift[a] = wp.max(drift[a], course[b])
        wp.atomic_max(drift, beyond[b], course[b])


def collapse_round(mesh: Wedges, limit: float, most: int, share: float) -> Wedges:
    """Carries out the cheapest independent collapses.

    Args:
        mesh: the state; its tensors are left alone.
        limit: how far a border may leave its course, in texture units.
        most: faces to take away at most; the last collapse may take one more.
        share: only this part of the points, those of lowest cost, take part, so that expensive collapses wait for cheap ones.

    Returns:
        The new state, with the same points and wedges and fewer faces; the same number of faces where nothing can collapse.
    """
    wp.init()
    device = mesh.faces.device
    count = len(mesh.positions)
    corner_point = mesh.point[mesh.faces.long()].reshape(-1).long()
    _, order = torch.sort(corner_point, stable=True)
    around = (order // 3).int()
    start = torch.zeros(count + 1, dtype=torch.int32, device=device)
    start[1:] = torch.cumsum(torch.bincount(corner_point, minlength=count), 0)
    target = torch.full((count,), -1, dtype=torch.int32, device=device)
    beyond = torch.full_like(target, -1)
    cost, course = torch.zeros(count, device=device), torch.zeros(count, device=device)
    faces, quadrics, drift = mesh.faces.clone(), mesh.quadrics.clone(), mesh.drift.clone()
    w = wp.from_torch
    shared = [w(start), w(around)]
    with (
        wp.ScopedDevice(wp.device_from_torch(device)),
        wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None),
    ):
        ring = [w(mesh.positions, dtype=wp.vec3), w(mesh.uvs, dtype=wp.vec2), w(mesh.point), w(faces), w(quadrics), w(drift)]
        wp.launch(_propose, count, [*ring, *shared, float(limit), w(target), w(cost), w(course), w(beyond)])
        ready = target >= 0
        if not bool(ready.any()):
            return mesh
        prices = cost[ready]
        bound = prices.sort().values[min(len(prices) - 1, int(share * len(prices)) + 16)]
        keys = (cost.view(torch.int32).long() << 32) + torch.arange(count, device=device)
        keys = torch.where(ready & (cost <= bound), keys, _NO_KEY)
        owner = torch.full((len(faces),), _NO_KEY, dtype=torch.int64, device=device)
        wins = torch.zeros(count, dtype=torch.bool, device=device)
        wp.launch(_claim, count, [w(keys), w(target), *shared, w(owner)])
        wp.launch(_win, count, [w(keys), w(target), *shared, w(owner), w(wins)])
        chosen = wins.nonzero()[:, 0]
        chosen = chosen[torch.argsort(keys[chosen])][: max(1, (most + 1) // 2)].int().contiguous()
        alive = torch.ones(len(faces), dtype=torch.bool, device=device)
        inputs = [w(chosen), w(target), w(course), w(beyond), *shared, w(mesh.point), w(faces), w(quadrics), w(drift), w(alive)]
        wp.launch(_collapse, len(chosen), inputs)
    return Wedges(mesh.positions, mesh.uvs, mesh.point, faces[alive].contiguous(), quadrics, drift)
