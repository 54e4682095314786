# SPDX-License-Identifier: Apache-2.0
"""Who lies around a point of a mesh with texture coordinates: questions that kernels ask (see `collapse_wedges`).

A *wedge* is a vertex of the mesh with texture coordinates, a *point* a place of its surface; wedges of one point make a seam.
"""

from __future__ import annotations

import warp as wp

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False, "fuse_fp": False})  # the same bytes on every processor

SLIDES, FORKED = wp.constant(-1), wp.constant(-2)  # in place of a wedge


@wp.struct
class WedgeMesh:
    """`Wedges` as kernels see them, and the faces around every point: `around[start[p] : start[p + 1]]`."""

    positions: wp.array(dtype=wp.vec3)
    uvs: wp.array(dtype=wp.vec2)
    home: wp.array(dtype=wp.vec3)
    point: wp.array(dtype=int)
    faces: wp.array2d(dtype=int)
    quadrics: wp.array2d(dtype=float)
    drift: wp.array(dtype=float)
    start: wp.array(dtype=int)
    around: wp.array(dtype=int)


@wp.func
def corner_at(m: WedgeMesh, f: int, p: int) -> int:
    """The corner of face f at point p; -1 for none."""
    if m.point[m.faces[f, 0]] == p:
        return 0
    if m.point[m.faces[f, 1]] == p:
        return 1
    if m.point[m.faces[f, 2]] == p:
        return 2
    return -1


@wp.func
def faces_with(m: WedgeMesh, b: int, n: int) -> int:
    """How many faces around point b have point n."""
    count = int(0)
    for i in range(m.start[b], m.start[b + 1]):
        if corner_at(m, m.around[i], n) >= 0:
            count += 1
    return count


@wp.func
def faces_with_wedges(m: WedgeMesh, b: int, w: int, other: int) -> int:
    """How many faces around point b have both wedges; one: the chart of w ends at their edge."""
    count = int(0)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        one = m.faces[f, 0] == w or m.faces[f, 1] == w or m.faces[f, 2] == w
        two = m.faces[f, 0] == other or m.faces[f, 1] == other or m.faces[f, 2] == other
        if one and two:
            count += 1
    return count


@wp.func
def wedge_at(m: WedgeMesh, b: int, w: int, a: int) -> int:
    """The wedge of point a beside wedge w of point b, `SLIDES` for none, `FORKED` where a seam begins between two of them."""
    found = int(SLIDES)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        k = corner_at(m, f, a)
        if k >= 0 and m.faces[f, corner_at(m, f, b)] == w:
            if found >= 0 and found != m.faces[f, k]:
                return FORKED
            found = m.faces[f, k]
    return found


@wp.func
def _closes(m: WedgeMesh, b: int, a: int) -> int:
    """Faces around b, without a, between the two neighbours that both have in their common faces."""
    count = int(0)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        if corner_at(m, f, a) < 0:
            k = corner_at(m, f, b)
            n = m.point[m.faces[f, (k + 1) % 3]]
            p = m.point[m.faces[f, (k + 2) % 3]]
            beside = int(0)
            for j in range(m.start[b], m.start[b + 1]):
                g = m.around[j]
                if corner_at(m, g, a) >= 0 and (corner_at(m, g, n) >= 0 or corner_at(m, g, p) >= 0):
                    beside += 1
            if beside == 2:
                count += 1
    return count


@wp.func
def link_is_kept(m: WedgeMesh, b: int, a: int) -> bool:
    """Whether a and b have no common neighbours but those of their common faces, and something of their part is left."""
    shared = faces_with(m, b, a)
    if m.start[b + 1] - m.start[b] + m.start[a + 1] - m.start[a] == 2 * shared:
        return False
    if _closes(m, b, a) + _closes(m, a, b) > 1:
        return False
    common = int(0)
    for i in range(m.start[b], m.start[b + 1]):
        f = m.around[i]
        k = corner_at(m, f, b)
        for side in range(2):
            n = m.point[m.faces[f, (k + 1 + side) % 3]]
            if n == a:
                continue
            # each neighbour once: at the first face around b that has it
            first = bool(True)
            for j in range(m.start[b], i):
                if corner_at(m, m.around[j], n) >= 0:
                    first = False
            if first and faces_with(m, a, n) > 0:
                common += 1
    return common == shared
