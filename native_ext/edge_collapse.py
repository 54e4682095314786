# SPDX-License-Identifier: Apache-2.0
"""One parallel step of quadric edge collapse (docs/spec/geometry.md 14, with its required improvements).

Edge (a, b) would move to the minimum x of `q_a + q_b` (see `quadric_surface`), drawn a little towards its middle, at cost
`(q_a + q_b)(x) + l tr(A) |a - b|^2`. It may, if the link condition holds and no face around it turns or becomes a sliver.
Edges that are cheaper than all others around them collapse together: their rings of faces are disjoint. Costs are compared as
64-bit keys, cost first and a scrambled edge number second, with integer atomics: the result does not depend on scheduling.

Whether an edge may is asked only once it is the cheapest around, and remembered where it may not; a step changes the costs of
the edges at the vertices that it moved, and of no others. Both are kept from step to step (`EdgeCosts`): most work is saved so.

An edge is named by the side `3 f + i` of its face with the smallest number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

from native_ext.mesh_sides import Fans, turn_side
from native_ext.quadric_surface import Arrays, Surface, View, place_edge, quadric_error, shared_faces

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

NEVER = (1 << 63) - 1  # key above that of every edge
_FEW = 0.02  # of the most edges that a round looked at: fewer are not worth it
_KEPT_BITS = 0xFFF00000  # of the cost: 12 bits, an eighth; nearly equal costs are compared by the scrambled number
_LEFT, _LEAST, _OUT = (
    wp.constant(number) for number in range(3)
)  # edges of a round: for later ones, to be asked, too near one
_SCRAMBLE = 0x9E3779B1  # odd, so that multiplication modulo 2^32 is one to one


@dataclass
class EdgeCosts:
    """What is known of the edges of a surface while it is being simplified; replaced in place step by step.

    Attributes:
        cost: float32 [3F], of collapsing the edge of each side; inf for sides that name no edge, and for edges that may not.
        refused: bool [3F], edges that may not collapse under the guards asked last; all false under others.
    """

    cost: Tensor
    refused: Tensor


@dataclass(frozen=True)
class Chosen:
    """Edges that can collapse together: their sides int64 [n], ascending, keys int64 [n], and faces int32 [n] that would go."""

    sides: Tensor
    key: Tensor
    going: Tensor


def collapse_costs(surface: Surface, fans: Fans, length_weight: float, sides: Tensor | None = None) -> Tensor:
    """float32 [n], cost of collapsing the edge of each side; inf for sides that name no edge, and for edges that may not.

    Args:
        length_weight: l of the formula; it spreads vertices over flat places.
        sides: int64 [n]; by default all.
    """
    if sides is None:
        sides = torch.arange(3 * len(surface.faces), device=surface.points.device)
    cost = torch.empty(len(sides), dtype=torch.float32, device=surface.points.device)
    inputs = [wp.from_torch(sides.int()), wp.float64(length_weight), wp.from_torch(cost)]
    View(surface, fans).launch(_costs, len(cost), inputs, split=True)
    return cost


def choose_sides(
    surface: Surface,
    fans: Fans,
    edges: EdgeCosts,
    limit: float,
    min_cosine: float,
    min_quality: float,
    rounds: int,
    worse: float = 1.0,
) -> Chosen:
    """Edges to collapse together: those that are the cheapest around them, then the cheapest among what is left.

    Args:
        edges: their costs; edges that turn out to be forbidden are marked in `refused`.
        limit: highest cost.
        min_cosine: of the angle by which a face may turn.
        min_quality: `4 sqrt(3) area / sum(edges^2)`, 1 for an equilateral face; a face may only come out below if it was
            worse before.
        rounds: how often what is left is looked at, at most.
        worse: of the shape that it had, by which a face below `min_quality` may come out.
    """
    device, count = surface.points.device, len(surface.points)
    sides = torch.nonzero((edges.cost <= limit) & ~edges.refused)[:, 0]
    key = (edges.cost[sides].view(torch.int32).long() & _KEPT_BITS) << 31 | sides * _SCRAMBLE & 0xFFFFFFFF
    going = torch.zeros(len(sides), dtype=torch.int32, device=device)  # of the faces; -1 where it may not
    busy = torch.zeros(count, dtype=torch.int32, device=device)
    nearest = torch.empty(count, dtype=torch.int64, device=device)
    named, keys, state, marks, ends = (wp.from_torch(t) for t in (sides.int(), key, going, busy, nearest))
    view, first = View(surface, fans), 1
    left = torch.arange(len(sides), dtype=torch.int32, device=device)
    for _ in range(rounds):
        nearest.fill_(NEVER)
        found = torch.empty_like(left)
        rows, verdicts = wp.from_torch(left), wp.from_torch(found)
        view.launch(_least_at_ends, len(left), [named, rows, keys, marks, ends])
        view.launch(_least_around, len(left), [named, rows, keys, marks, ends, verdicts], split=True)
        asked, left = left[found == _LEAST], left[found == _LEFT]
        first = max(first, len(asked))
        if len(asked) <= _FEW * first:
            break
        some = wp.from_torch(asked)
        numbers = [wp.float64(min_cosine), wp.float64(min_quality), wp.float64(worse)]
        view.launch(_allowed, len(asked), [named, some, *numbers, state], split=True)
        view.launch(_occupy, len(asked), [named, some, state, marks])
    edges.refused[sides[going < 0]] = True
    chosen = torch.nonzero(going > 0)[:, 0]
    return Chosen(sides[chosen], key[chosen], going[chosen])


def collapse(surface: Surface, fans: Fans, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Collapse independent edges in place; faces that lose their area go, the others keep their order.

    Args:
        sides: int64, as `choose_sides` chose them, or some of them.

    Returns:
        int64 [n], faces that stay; bool [V], vertices that took in another.
    """
    into = torch.arange(len(surface.points), dtype=torch.int32, device=sides.device)
    moved = torch.zeros(len(surface.points), dtype=torch.bool, device=sides.device)
    view = View(surface, fans)
    view.launch(_collapse, len(sides), [wp.from_torch(t) for t in (sides.int(), into, moved)])
    faces, kept = torch.empty_like(surface.faces), torch.empty(len(surface.faces), dtype=torch.bool, device=sides.device)
    view.launch(_rename, len(faces), [wp.from_torch(t) for t in (into, faces.view(-1), kept)], split=True)
    staying = torch.nonzero(kept)[:, 0]
    surface.faces = faces.index_select(0, staying)
    return staying, moved


def outdated(surface: Surface, fans: Fans, edges: EdgeCosts, staying: Tensor, moved: Tensor) -> Tensor:
    """Carries costs over a collapse; returns the sides int64 whose costs have to be computed again.

    Args:
        surface: after it, its vertices not renumbered yet; fans of before are good enough.
        edges: before it, and after it on return: all edges whose faces have changed may be asked again.
        staying, moved: as `collapse` returns them.
    """
    edges.cost, edges.refused = (known.view(-1, 3).index_select(0, staying).view(-1) for known in (edges.cost, edges.refused))
    around, again = torch.zeros_like(moved), torch.empty_like(edges.refused)
    near, view = [wp.from_torch(t) for t in (moved, around)], View(surface, fans)
    view.launch(_reach, len(surface.faces), near)
    view.launch(_outdate, len(again), [*near, *map(wp.from_torch, (edges.refused, again))], split=True)
    return torch.nonzero(again)[:, 0]


@wp.kernel
def _costs(m: Arrays, sides: wp.array(dtype=int), length_weight: wp.float64, cost: wp.array(dtype=float)):
    i = m.first + wp.tid()
    s = sides[i]
    cost[i] = wp.inf
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
    x = place_edge(m, a, b)
    weight = wp.trace(m.matrix[a]) + wp.trace(m.matrix[b])
    length2 = wp.length_sq(m.points[a] - m.points[b])
    error = wp.max(quadric_error(m, a, x) + quadric_error(m, b, x), wp.float64(0.0))
    cost[i] = float(error + length_weight * weight * length2)


@wp.func
def _worsens(
    p: wp.vec3d,
    q: wp.vec3d,
    before: wp.vec3d,
    after: wp.vec3d,
    cosine: wp.float64,
    quality: wp.float64,
    worse: wp.float64,
) -> bool:
    """Whether face (p, q, before) turns too far or becomes a sliver when its third corner moves."""
    old = wp.cross(p - before, q - before)
    new = wp.cross(p - after, q - after)
    if wp.dot(old, new) < cosine * wp.length(old) * wp.length(new):
        return True
    base = wp.length_sq(p - q)
    shape = wp.length(new) / (base + wp.length_sq(p - after) + wp.length_sq(q - after))
    shape_before = wp.length(old) / (base + wp.length_sq(p - before) + wp.length_sq(q - before))
    return wp.float64(3.4641016) * shape < quality and shape <= worse * shape_before


@wp.kernel
def _allowed(
    m: Arrays,
    sides: wp.array(dtype=int),
    asked: wp.array(dtype=int),
    cosine: wp.float64,
    quality: wp.float64,
    worse: wp.float64,
    going: wp.array(dtype=int),
):
    i = asked[m.first + wp.tid()]
    s = sides[i]
    going[i] = -1
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    x = place_edge(m, a, b)
    apex_one = int(-1)
    apex_two = int(-1)
    shared = int(0)
    for at in range(m.start[a], m.start[a + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n == b or p == b:
            apex_two = apex_one
            apex_one = n + p - b
            shared += 1
    staying = int(0)
    closed = int(0)
    for at in range(m.start[b], m.start[b + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n != a and p != a:
            staying += 1
            if shared == 2 and (n == apex_one or n == apex_two) and (p == apex_one or p == apex_two):
                closed += 1
            if _worsens(m.points[n], m.points[p], m.points[b], x, cosine, quality, worse):
                return
    for at in range(m.start[a], m.start[a + 1]):
        t = m.side[at]
        n = m.corner[turn_side(t, 1)]
        p = m.corner[turn_side(t, 2)]
        if n != b and p != b:
            staying += 1
            if shared == 2 and (n == apex_one or n == apex_two) and (p == apex_one or p == apex_two):
                closed += 1
            if _worsens(m.points[n], m.points[p], m.points[a], x, cosine, quality, worse):
                return
            if n != apex_one and n != apex_two:
                if shared_faces(m, b, n) > 0:
                    return
            if p != apex_one and p != apex_two:
                if shared_faces(m, b, p) > 0:
                    return
    if staying > 0 and closed < 2:
        going[i] = shared


@wp.kernel
def _least_at_ends(
    m: Arrays,
    sides: wp.array(dtype=int),
    left: wp.array(dtype=int),
    key: wp.array(dtype=wp.int64),
    busy: wp.array(dtype=int),
    nearest: wp.array(dtype=wp.int64),
):
    i = left[wp.tid()]
    a = m.corner[sides[i]]
    b = m.corner[turn_side(sides[i], 1)]
    if busy[a] == 0 and busy[b] == 0:
        wp.atomic_min(nearest, a, key[i])
        wp.atomic_min(nearest, b, key[i])


@wp.kernel
def _least_around(
    m: Arrays,
    sides: wp.array(dtype=int),
    left: wp.array(dtype=int),
    key: wp.array(dtype=wp.int64),
    busy: wp.array(dtype=int),
    nearest: wp.array(dtype=wp.int64),
    found: wp.array(dtype=int),
):
    row = m.first + wp.tid()
    i = left[row]
    a = m.corner[sides[i]]
    b = m.corner[turn_side(sides[i], 1)]
    if busy[a] != 0 or busy[b] != 0:
        found[row] = _OUT
        return
    found[row] = _LEFT
    if nearest[a] != key[i] or nearest[b] != key[i]:
        return
    for k in range(2):
        v = wp.where(k == 0, a, b)
        for at in range(m.start[v], m.start[v + 1]):
            if nearest[m.corner[turn_side(m.side[at], 1)]] < key[i] or nearest[m.corner[turn_side(m.side[at], 2)]] < key[i]:
                return
    found[row] = _LEAST


@wp.kernel
def _occupy(
    m: Arrays,
    sides: wp.array(dtype=int),
    asked: wp.array(dtype=int),
    going: wp.array(dtype=int),
    busy: wp.array(dtype=int),
):
    i = asked[wp.tid()]
    if going[i] <= 0:
        return
    for k in range(2):
        v = m.corner[turn_side(sides[i], k)]
        for at in range(m.start[v], m.start[v + 1]):
            for j in range(3):
                busy[m.corner[turn_side(m.side[at], j)]] = 1


@wp.kernel
def _collapse(m: Arrays, sides: wp.array(dtype=int), into: wp.array(dtype=int), moved: wp.array(dtype=wp.bool)):
    s = sides[wp.tid()]
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    m.points[a] = place_edge(m, a, b)
    m.matrix[a] = m.matrix[a] + m.matrix[b]
    m.vector[a] = m.vector[a] + m.vector[b]
    m.constant[a] = m.constant[a] + m.constant[b]
    m.rim[a] = wp.max(m.rim[a], m.rim[b])
    into[b] = a
    moved[a] = True


@wp.kernel
def _rename(m: Arrays, into: wp.array(dtype=int), corner: wp.array(dtype=int), kept: wp.array(dtype=wp.bool)):
    f = m.first + wp.tid()
    a = into[m.corner[3 * f]]
    b = into[m.corner[3 * f + 1]]
    c = into[m.corner[3 * f + 2]]
    corner[3 * f] = a
    corner[3 * f + 1] = b
    corner[3 * f + 2] = c
    kept[f] = a != b and b != c and c != a


@wp.kernel
def _reach(m: Arrays, moved: wp.array(dtype=wp.bool), around: wp.array(dtype=wp.bool)):
    f = wp.tid()
    if moved[m.corner[3 * f]] or moved[m.corner[3 * f + 1]] or moved[m.corner[3 * f + 2]]:
        for k in range(3):
            around[m.corner[3 * f + k]] = True


@wp.kernel
def _outdate(
    m: Arrays,
    moved: wp.array(dtype=wp.bool),
    around: wp.array(dtype=wp.bool),
    refused: wp.array(dtype=wp.bool),
    again: wp.array(dtype=wp.bool),
):
    s = m.first + wp.tid()
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    again[s] = moved[a] or moved[b]
    if around[a] or around[b]:
        refused[s] = False
