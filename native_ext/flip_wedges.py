# SPDX-License-Identifier: Apache-2.0
"""One parallel step of edge flips against slivers on a mesh with texture coordinates (see `collapse_wedges`, `edge_flip`).

Faces (a, b, c) and (b, a, d) of one chart become (a, d, c) and (d, b, c) where the worse of the two shapes gains by half, the
points of c and d are not joined yet, both new normals stay within 45 degrees of the old pair's mean, and both faces stay
unmirrored and of some width in the texture. Only pairs with a sliver are looked at. Flips of one step share no point; the
greatest gain goes first.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import warp as wp

from native_ext.collapse_wedges import Wedges, view_of
from native_ext.wedge_rings import WedgeMesh, corner_at, faces_with

wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

_NEVER = 2**63 - 1
_GAIN = wp.constant(1.5)
_COSINE = wp.constant(0.70710678)


def flip_wedges(mesh: Wedges, thin: float) -> tuple[Wedges, int]:
    """The mesh after a step, and how many edges were flipped.

    Args:
        mesh: the state; its tensors are left alone.
        thin: twice a face's area over its longest edge squared, below which it is a sliver; half of that in the texture.
    """
    wp.init()
    device, sides = mesh.faces.device, 3 * len(mesh.faces)
    key = torch.full((sides,), _NEVER, dtype=torch.int64, device=device)
    least = torch.full((len(mesh.positions),), _NEVER, dtype=torch.int64, device=device)
    flipped = torch.zeros(sides, dtype=torch.int32, device=device)
    faces = mesh.faces.clone()
    w = wp.from_torch
    with (
        wp.ScopedDevice(wp.device_from_torch(device)),
        wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None),
    ):
        m = view_of(mesh)
        wp.launch(_gains, sides, [m, thin, w(key)])
        wp.launch(_least, sides, [m, w(key), w(least)])
        wp.launch(_flip, sides, [m, w(key), w(least), w(faces), w(flipped)])
    return replace(mesh, faces=faces), int(flipped.sum())


@wp.func
def _shape(p: wp.vec3, q: wp.vec3, r: wp.vec3) -> float:
    longest2 = wp.max(wp.max(wp.length_sq(q - p), wp.length_sq(r - q)), wp.length_sq(p - r))
    return wp.length(wp.cross(q - p, r - p)) / wp.max(longest2, 1.0e-30)


@wp.func
def _flat_shape(p: wp.vec2, q: wp.vec2, r: wp.vec2) -> float:
    """Below 0 for mirrored faces; the texture's second axis points down."""
    longest2 = wp.max(wp.max(wp.length_sq(q - p), wp.length_sq(r - q)), wp.length_sq(p - r))
    one = q - p
    two = r - p
    return (one[1] * two[0] - one[0] * two[1]) / wp.max(longest2, 1.0e-30)


@wp.func
def _twin(m: WedgeMesh, s: int) -> int:
    """The side of the same chart that runs the other way, -1 for none or where the surface has more than two faces there."""
    wa = m.faces[s / 3, s % 3]
    wb = m.faces[s / 3, (s % 3 + 1) % 3]
    b = m.point[wb]
    if faces_with(m, b, m.point[wa]) != 2:
        return -1
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        k = corner_at(m, f, b)
        if m.faces[f, k] == wb and m.faces[f, (k + 1) % 3] == wa:
            return 3 * f + k
    return -1


@wp.kernel
def _gains(m: WedgeMesh, thin: float, key: wp.array(dtype=wp.int64)):
    s = wp.tid()
    f = s / 3
    k = s % 3
    wa = m.faces[f, k]
    wb = m.faces[f, (k + 1) % 3]
    wc = m.faces[f, (k + 2) % 3]
    if wa > wb:
        return
    pa = m.positions[m.point[wa]]
    pb = m.positions[m.point[wb]]
    pc = m.positions[m.point[wc]]
    before = _shape(pa, pb, pc)
    t = _twin(m, s)
    if t < 0:
        return
    wd = m.faces[t / 3, (t % 3 + 2) % 3]
    pd = m.positions[m.point[wd]]
    before = wp.min(before, _shape(pb, pa, pd))
    if before >= thin or m.point[wc] == m.point[wd]:
        return
    after = wp.min(_shape(pa, pd, pc), _shape(pd, pb, pc))
    if after <= _GAIN * before or faces_with(m, m.point[wc], m.point[wd]) > 0:
        return
    mean = wp.normalize(wp.cross(pb - pa, pc - pa) + wp.cross(pa - pb, pd - pb))
    one = wp.normalize(wp.cross(pd - pa, pc - pa))
    two = wp.normalize(wp.cross(pb - pd, pc - pd))
    if wp.dot(one, mean) < _COSINE or wp.dot(two, mean) < _COSINE:
        return
    ua = m.uvs[wa]
    ub = m.uvs[wb]
    uc = m.uvs[wc]
    ud = m.uvs[wd]
    flat = wp.min(_flat_shape(ua, ud, uc), _flat_shape(ud, ub, uc))
    if flat < 0.5 * wp.min(thin, after):
        return
    rank = wp.int64(1048576.0 * (1.0 - (after - before) / 2.0))
    key[s] = rank * wp.int64(4294967296) + wp.int64(s)


@wp.kernel
def _least(m: WedgeMesh, key: wp.array(dtype=wp.int64), least: wp.array(dtype=wp.int64)):
    s = wp.tid()
    if key[s] == wp.int64(_NEVER):
        return
    t = _twin(m, s)
    for k in range(3):
        wp.atomic_min(least, m.point[m.faces[s / 3, k]], key[s])
        wp.atomic_min(least, m.point[m.faces[t / 3, k]], key[s])


@wp.kernel
def _flip(
    m: WedgeMesh,
    key: wp.array(dtype=wp.int64),
    least: wp.array(dtype=wp.int64),
    faces: wp.array2d(dtype=int),
    flipped: wp.array(dtype=int),
):
    s = wp.tid()
    if key[s] == wp.int64(_NEVER):
        return
    t = _twin(m, s)
    for k in range(3):
        if least[m.point[m.faces[s / 3, k]]] != key[s] or least[m.point[m.faces[t / 3, k]]] != key[s]:
            return
    faces[s / 3, (s % 3 + 1) % 3] = m.faces[t / 3, (t % 3 + 2) % 3]  # (a, b, c) to (a, d, c)
    faces[t / 3, (t % 3 + 1) % 3] = m.faces[s / 3, (s % 3 + 2) % 3]  # (b, a, d) to (b, c, d)
    flipped[s] = 1
