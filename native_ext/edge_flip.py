# SPDX-License-Identifier: Apache-2.0
"""One parallel step of edge flips against slivers.

Faces (a, b, c) and (b, a, d) become (a, d, c) and (d, b, c) where the worse of the two shapes gains by half, c and d are not
joined yet, and both new normals stay within 45 degrees of the old pair's mean. Only pairs with a face below the asked quality
are looked at, so creases of well shaped faces stay. Flips of one step share no vertex; the greatest gain goes first.
"""

from __future__ import annotations

import torch
import warp as wp

from native_ext.edge_collapse import NEVER
from native_ext.mesh_sides import Fans, turn_side
from native_ext.quadric_surface import Arrays, Surface, View, shared_faces

wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

_GAIN = wp.constant(1.5)
_COSINE = wp.constant(0.70710678)


def flip_slivers(surface: Surface, fans: Fans, min_quality: float) -> int:
    """Flip edges in place; returns how many.

    Args:
        surface: consistently wound.
        fans: of its faces.
        min_quality: `4 sqrt(3) area / sum(edges^2)` below which a face is a sliver.
    """
    key = torch.full((3 * len(surface.faces),), NEVER, dtype=torch.int64, device=surface.points.device)
    least = torch.full((len(surface.points),), NEVER, dtype=torch.int64, device=key.device)
    flipped = torch.zeros(len(key), dtype=torch.int32, device=key.device)
    new = surface.faces.reshape(-1).clone()
    keys, ends = wp.from_torch(key), wp.from_torch(least)
    view = View(surface, fans)
    view.launch(_gains, len(key), [wp.float64(min_quality), keys])
    view.launch(_least, len(key), [keys, ends])
    view.launch(_flip, len(key), [keys, ends, wp.from_torch(new), wp.from_torch(flipped)])
    surface.faces = new.view(-1, 3)
    return int(flipped.sum())


@wp.func
def _quality(p: wp.vec3d, q: wp.vec3d, r: wp.vec3d) -> wp.float64:
    sum2 = wp.length_sq(p - q) + wp.length_sq(q - r) + wp.length_sq(r - p)
    if sum2 == wp.float64(0.0):
        return wp.float64(0.0)
    return wp.float64(3.4641016) * wp.length(wp.cross(q - p, r - p)) / sum2


@wp.func
def _twin(m: Arrays, s: int) -> int:
    """The only other side on the edge of s, if it runs the other way; -1 otherwise."""
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    if shared_faces(m, a, b) != 2:
        return -1
    for at in range(m.start[b], m.start[b + 1]):
        t = m.side[at]
        if m.corner[turn_side(t, 1)] == a:
            return t
    return -1


@wp.kernel
def _gains(m: Arrays, min_quality: wp.float64, key: wp.array(dtype=wp.int64)):
    s = wp.tid()
    a = m.corner[s]
    b = m.corner[turn_side(s, 1)]
    if a > b:
        return
    c = m.corner[turn_side(s, 2)]
    pa = m.points[a]
    pb = m.points[b]
    pc = m.points[c]
    before = _quality(pa, pb, pc)
    t = _twin(m, s)
    if t < 0:
        return
    d = m.corner[turn_side(t, 2)]
    pd = m.points[d]
    before = wp.min(before, _quality(pb, pa, pd))
    if before >= min_quality or c == d:
        return
    after = wp.min(_quality(pa, pd, pc), _quality(pd, pb, pc))
    if after <= wp.float64(_GAIN) * before or shared_faces(m, c, d) > 0:
        return
    mean = wp.normalize(wp.cross(pb - pa, pc - pa) + wp.cross(pa - pb, pd - pb))
    one = wp.normalize(wp.cross(pd - pa, pc - pa))
    two = wp.normalize(wp.cross(pb - pd, pc - pd))
    if wp.dot(one, mean) < wp.float64(_COSINE) or wp.dot(two, mean) < wp.float64(_COSINE):
        return
    rank = wp.int64(wp.float64(1048576.0) * (wp.float64(1.0) - (after - before)))
    key[s] = rank * wp.int64(4294967296) + wp.int64(s)


@wp.kernel
def _least(m: Arrays, key: wp.array(dtype=wp.int64), least: wp.array(dtype=wp.int64)):
    s = wp.tid()
    if key[s] == wp.int64(NEVER):
        return
    t = _twin(m, s)
    wp.atomic_min(least, m.corner[s], key[s])
    wp.atomic_min(least, m.corner[t], key[s])
    wp.atomic_min(least, m.corner[turn_side(s, 2)], key[s])
    wp.atomic_min(least, m.corner[turn_side(t, 2)], key[s])


@wp.kernel
def _flip(
    m: Arrays,
    key: wp.array(dtype=wp.int64),
    least: wp.array(dtype=wp.int64),
    corner: wp.array(dtype=int),
    flipped: wp.array(dtype=int),
):
    s = wp.tid()
    if key[s] == wp.int64(NEVER):
        return
    t = _twin(m, s)
    a = m.corner[s]
    b = m.corner[t]
    c = m.corner[turn_side(s, 2)]
    d = m.corner[turn_side(t, 2)]
    if least[a] == key[s] and least[b] == key[s] and least[c] == key[s] and least[d] == key[s]:
        corner[turn_side(s, 1)] = d  # (a, b, c) to (a, d, c)
        corner[turn_side(t, 1)] = c  # (b, a, d) to (b, c, d)
        flipped[s] = 1
