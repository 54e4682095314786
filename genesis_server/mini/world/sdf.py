# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""Signed distance of an object: primitives, folds and operators as Warp functions (docs/spec/mini.md 1).

An object is a list of rows of 32 floats (`SLOT_*` below). Distances are negative inside and never larger in magnitude
than the true distance, so that marching and block culling are safe. A primitive whose bounding ball cannot change the
result is skipped, which leaves the value exactly the same and makes most evaluations cheap.

Flat kinds (prism, star, blob, arc, spokes, lattice) are drawn in the local x-z plane and extruded along y: they face the
camera.
"""

import torch
import warp as wp

from .launch import OPTIONS, launch

wp.set_module_options(OPTIONS)

PRIMITIVES = 14
WIDTH = 32

SLOT_KIND = wp.constant(0)
SLOT_OPERATOR = wp.constant(1)
SLOT_MATERIAL = wp.constant(2)
SLOT_BLEND = wp.constant(3)
SLOT_POSITION = wp.constant(4)
SLOT_ROTATION = wp.constant(7)  # nine floats, row-major, object to local
SLOT_PARAMETERS = wp.constant(16)  # eight floats
SLOT_MIRROR_X = wp.constant(24)
SLOT_MIRROR_Y = wp.constant(25)
SLOT_REPEAT = wp.constant(26)  # copies around the z axis
SLOT_BOUND = wp.constant(27)  # radius of the ball around the local origin that holds the primitive
SLOT_SAFETY = wp.constant(28)  # factor that makes an approximate distance a lower bound
SLOT_ROW = wp.constant(29)  # copies in a row around the position
SLOT_STEP = wp.constant(30)  # from copy to copy
SLOT_AXIS = wp.constant(31)  # of the row: 0 x, 1 y, 2 z

NOTHING = wp.constant(0)
ELLIPSOID = wp.constant(1)  # radii x, y, z
BOX = wp.constant(2)  # half extents x, y, z; rounding
CONE = wp.constant(3)  # radius at -h, radius at +h, half height, rounding; a cylinder with equal radii
LIMB = wp.constant(4)  # radius at the origin, radius at (0, 0, h), h: two balls and their hull
ARC = wp.constant(5)  # ring radius, tube radius, half opening angle about +z (pi: a torus)
LATHE = wp.constant(6)  # six radii from bottom to top, half height, wall (0: solid; else open at the top)
PRISM = wp.constant(7)  # trapezoid: half width at -h, at +h, half height, half depth, rounding
STAR = wp.constant(8)  # radius, points, sharpness 2 (polygon) to points (needles), half depth, rounding
BLOB = wp.constant(9)  # radius, amplitudes of the waves 2, 3, 5, phase, half depth, rounding
SPOKES = wp.constant(10)  # nearest and farthest from the hub, rod radius, rods, angle between them, depth of the hub
LATTICE = wp.constant(11)  # half width, half height, mesh along x and z (0: no rods), rod radius, round (1) or square (0)

UNION = wp.constant(0)
CUT = wp.constant(1)

LAST = wp.constant(PRIMITIVES - 1)
FAR = wp.constant(1.0e3)


@wp.func
def ellipsoid(p: wp.vec3, r: wp.vec3) -> float:
    """First-order distance k0 (k0 - 1) / k1, k0 = |p / r|, k1 = |p / r^2|."""
    k0 = wp.length(wp.cw_div(p, r))
    k1 = wp.length(wp.cw_div(p, wp.cw_mul(r, r)))
    if k0 < 1.0:
        return (k0 - 1.0) * wp.min(r[0], wp.min(r[1], r[2]))
    return k0 * (k0 - 1.0) / k1


@wp.func
def box(p: wp.vec3, half: wp.vec3, rounding: float) -> float:
    """|max(q, 0)| + min(max q, 0) - rounding, q = |p| - half + rounding."""
    x = wp.abs(p[0]) - half[0] + rounding
    y = wp.abs(p[1]) - half[1] + rounding
    z = wp.abs(p[2]) - half[2] + rounding
    outside = wp.length(wp.vec3(wp.max(x, 0.0), wp.max(y, 0.0), wp.max(z, 0.0)))
    return outside + wp.min(wp.max(x, wp.max(y, z)), 0.0) - rounding


@wp.func
def trapezoid(x: float, z: float, low: float, high: float, half: float) -> float:
    """Exact distance to the isosceles trapezoid of half widths `low` at -half and `high` at +half; x >= 0."""
    width = high
    if z < 0.0:
        width = low
    cap = wp.vec2(x - wp.min(x, width), wp.abs(z) - half)
    side = wp.vec2(high - low, 2.0 * half)
    to_top = wp.vec2(high - x, half - z)
    slant = wp.clamp(wp.dot(to_top, side) / wp.dot(side, side), 0.0, 1.0) * side - to_top
    d = wp.sqrt(wp.min(wp.dot(cap, cap), wp.dot(slant, slant)))
    if slant[0] < 0.0 and cap[1] < 0.0:
        return -d
    return d


@wp.func
def limb(p: wp.vec3, r0: float, r1: float, h: float) -> float:
    """Exact distance to the hull of a ball of radius r0 at the origin and one of r1 at (0, 0, h)."""
    rho = wp.sqrt(p[0] * p[0] + p[1] * p[1])
    b = (r0 - r1) / h
    a = wp.sqrt(wp.max(1.0 - b * b, 0.0))
    k = a * p[2] - b * rho
    if k < 0.0:
        return wp.length(p) - r0
    if k > a * h:
        return wp.sqrt(rho * rho + (p[2] - h) * (p[2] - h)) - r1
    return a * rho + b * p[2] - r0


@wp.func
def arc(p: wp.vec3, ring: float, tube: float, opening: float) -> float:
    """Exact distance to a torus in the x-z plane, kept within `opening` of +z, with round ends."""
    x = wp.abs(p[0])
    s = wp.sin(opening)
    c = wp.cos(opening)
    k = wp.sqrt(x * x + p[2] * p[2])
    if c * x > s * p[2]:
        k = x * s + p[2] * c
    return wp.sqrt(wp.max(wp.dot(p, p) + ring * ring - 2.0 * ring * k, 0.0)) - tube


@wp.func
def profile(primitives: wp.array3d(dtype=float), b: int, i: int, t: float) -> float:
    """Catmull-Rom interpolation of the six lathe radii at t in 0..5."""
    k = wp.clamp(int(wp.floor(t)), 0, 4)
    f = t - float(k)
    r0 = primitives[b, i, SLOT_PARAMETERS + wp.max(k - 1, 0)]
    r1 = primitives[b, i, SLOT_PARAMETERS + k]
    r2 = primitives[b, i, SLOT_PARAMETERS + k + 1]
    r3 = primitives[b, i, SLOT_PARAMETERS + wp.min(k + 2, 5)]
    bend = 2.0 * r0 - 5.0 * r1 + 4.0 * r2 - r3 + f * (3.0 * (r1 - r2) + r3 - r0)
    return r1 + 0.5 * f * (r2 - r0 + f * bend)


@wp.func
def lathe(primitives: wp.array3d(dtype=float), b: int, i: int, p: wp.vec3, safety: float) -> float:
    """max(safety (rho - r(z)), |z| - h), less the same shape moved in by the wall and open at the top."""
    half = primitives[b, i, SLOT_PARAMETERS + 6]
    wall = primitives[b, i, SLOT_PARAMETERS + 7]
    t = 5.0 * wp.clamp(0.5 + 0.5 * p[2] / half, 0.0, 1.0)
    side = wp.sqrt(p[0] * p[0] + p[1] * p[1]) - profile(primitives, b, i, t)
    d = wp.max(safety * side, wp.abs(p[2]) - half)
    if wall > 0.0:
        d = wp.max(d, -wp.max(safety * side + wall, wall - half - p[2]))
    return d


@wp.func
def star(x: float, z: float, radius: float, points: float, sharpness: float) -> float:
    """Exact distance to a star polygon: fold into one sector, then the distance to its one edge."""
    sector = wp.PI / points
    edge = wp.PI / sharpness
    angle = wp.atan2(x, z)
    angle = angle - 2.0 * sector * wp.floor(angle / (2.0 * sector)) - sector
    rho = wp.sqrt(x * x + z * z)
    u = rho * wp.cos(angle) - radius * wp.cos(sector)
    v = rho * wp.abs(wp.sin(angle)) - radius * wp.sin(sector)
    ex = wp.cos(edge)
    ey = wp.sin(edge)
    k = wp.clamp(-(u * ex + v * ey), 0.0, radius * wp.sin(sector) / ey)
    u = u + ex * k
    v = v + ey * k
    d = wp.sqrt(u * u + v * v)
    if u < 0.0:
        return -d
    return d


@wp.func
def blob(x: float, z: float, radius: float, a2: float, a3: float, a5: float, phase: float) -> float:
    """rho - r(theta) with r a Fourier series; the caller applies the safety factor."""
    angle = wp.atan2(z, x)
    waves = a2 * wp.cos(2.0 * angle + phase) + a3 * wp.cos(3.0 * angle + 2.1 * phase)
    waves += a5 * wp.cos(5.0 * angle + 3.7 * phase)
    return wp.sqrt(x * x + z * z) - radius * (1.0 + waves)


@wp.func
def spokes(p: wp.vec3, first: float, last: float, rod: float, count: float, step: float, hub: float) -> float:
    """Exact distance to rods like rays in the x-z plane, `count` of them around +z; the hub is at (0, 0, -hub)."""
    z = p[2] + hub
    angle = wp.atan2(p[0], z)
    half = 0.5 * (count - 1.0)
    number = wp.floor(angle / step + half + 0.5)
    if count * step < 6.28:
        number = wp.clamp(number, 0.0, count - 1.0)
    angle = angle - step * (number - half)
    rho = wp.sqrt(p[0] * p[0] + z * z)
    along = rho * wp.cos(angle)
    beyond = along - wp.clamp(along, first, last)
    across = rho * wp.sin(angle)
    return wp.sqrt(beyond * beyond + across * across + p[1] * p[1]) - rod


@wp.func
def rods(x: float, y: float, z: float, half: float, reach: float, step: float) -> float:
    """Distance to the lines along z, |z| < reach, at the multiples x of `step` up to half."""
    number = wp.floor(half / step + 0.001)
    u = x - step * wp.clamp(wp.floor(x / step + 0.5), -number, number)
    v = wp.max(wp.abs(z) - reach, 0.0)
    return wp.sqrt(u * u + v * v + y * y)


@wp.func
def lattice(p: wp.vec3, w: float, h: float, step_x: float, step_z: float, rod: float, disc: float) -> float:
    """Distance to crossing rods in the x-z plane; with `disc` 1 only what lies in the ellipse of radii w and h."""
    d = float(FAR)
    if step_x > 0.0:
        d = rods(p[0], p[1], p[2], w, h, step_x)
    if step_z > 0.0:
        d = wp.min(d, rods(p[2], p[1], p[0], h, w, step_z))
    d -= rod
    if disc > 0.0:
        gauge = wp.sqrt(p[0] * p[0] / (w * w) + p[2] * p[2] / (h * h))
        d = wp.max(d, (gauge - 1.0) * wp.min(w, h))
    return d


@wp.func
def extrude(flat: float, y: float, half: float, rounding: float) -> float:
    """Distance to a flat shape of half depth `half`, its rim rounded."""
    u = flat + rounding
    v = wp.abs(y) - half + rounding
    outside = wp.length(wp.vec2(wp.max(u, 0.0), wp.max(v, 0.0)))
    return outside + wp.min(wp.max(u, v), 0.0) - rounding


@wp.func
def primitive(primitives: wp.array3d(dtype=float), b: int, i: int, kind: int, p: wp.vec3) -> float:
    """Distance of local point p to primitive i of object b."""
    a0 = primitives[b, i, SLOT_PARAMETERS]
    a1 = primitives[b, i, SLOT_PARAMETERS + 1]
    a2 = primitives[b, i, SLOT_PARAMETERS + 2]
    a3 = primitives[b, i, SLOT_PARAMETERS + 3]
    a4 = primitives[b, i, SLOT_PARAMETERS + 4]
    safety = primitives[b, i, SLOT_SAFETY]
    if kind == ELLIPSOID:
        return safety * ellipsoid(p, wp.vec3(a0, a1, a2))
    if kind == BOX:
        return box(p, wp.vec3(a0, a1, a2), a3)
    if kind == CONE:
        rho = wp.sqrt(p[0] * p[0] + p[1] * p[1])
        return trapezoid(rho, p[2], wp.max(a0 - a3, 0.0), wp.max(a1 - a3, 0.0), a2 - a3) - a3
    if kind == LIMB:
        return limb(p, a0, a1, a2)
    if kind == ARC:
        return arc(p, a0, a1, a2)
    if kind == LATHE:
        return lathe(primitives, b, i, p, safety)
    if kind == PRISM:
        return extrude(trapezoid(wp.abs(p[0]), p[2], a0, a1, a2), p[1], a3, a4)
    if kind == STAR:
        return extrude(star(p[0], p[2], a0, a1, a2), p[1], a3, a4)
    a5 = primitives[b, i, SLOT_PARAMETERS + 5]
    if kind == SPOKES:
        return spokes(p, a0, a1, a2, a3, a4, a5)
    if kind == LATTICE:
        return lattice(p, a0, a1, a2, a3, a4, a5)
    a6 = primitives[b, i, SLOT_PARAMETERS + 6]
    return extrude(safety * blob(p[0], p[2], a0, a1, a2, a3, a4), p[1], a5, a6)


@wp.func
def localise(primitives: wp.array3d(dtype=float), b: int, i: int, point: wp.vec3) -> wp.vec3:
    """Object point to local point: mirror folds, mirrored n-fold repetition about z, shift, row, rotation.

    A row shows the copy whose place is nearest, so what stands in it must be symmetric along it.
    """
    x = point[0]
    y = point[1]
    if primitives[b, i, SLOT_MIRROR_X] > 0.0:
        x = wp.abs(x)
    if primitives[b, i, SLOT_MIRROR_Y] > 0.0:
        y = wp.abs(y)
    copies = primitives[b, i, SLOT_REPEAT]
    if copies > 1.0:
        sector = 2.0 * wp.PI / copies
        angle = wp.atan2(y, x)
        angle = wp.abs(angle - sector * wp.floor(angle / sector + 0.5))
        rho = wp.sqrt(x * x + y * y)
        x = rho * wp.cos(angle)
        y = rho * wp.sin(angle)
    x = x - primitives[b, i, SLOT_POSITION]
    y = y - primitives[b, i, SLOT_POSITION + 1]
    z = point[2] - primitives[b, i, SLOT_POSITION + 2]
    row = primitives[b, i, SLOT_ROW]
    if row > 1.0:
        step = primitives[b, i, SLOT_STEP]
        axis = int(primitives[b, i, SLOT_AXIS])
        along = wp.where(axis == 0, x, wp.where(axis == 1, y, z))
        half = 0.5 * (row - 1.0)
        move = step * (wp.clamp(wp.floor(along / step + half + 0.5), 0.0, row - 1.0) - half)
        x = wp.where(axis == 0, x - move, x)
        y = wp.where(axis == 1, y - move, y)
        z = wp.where(axis == 2, z - move, z)
    r = SLOT_ROTATION
    return wp.vec3(
        primitives[b, i, r] * x + primitives[b, i, r + 1] * y + primitives[b, i, r + 2] * z,
        primitives[b, i, r + 3] * x + primitives[b, i, r + 4] * y + primitives[b, i, r + 5] * z,
        primitives[b, i, r + 6] * x + primitives[b, i, r + 7] * y + primitives[b, i, r + 8] * z,
    )


@wp.func
def field(primitives: wp.array3d(dtype=float), b: int, point: wp.vec3) -> wp.vec2:
    """(distance, material) of object b at an object point.

    Union min(d, e); with blend k the polynomial minimum min(d, e) - max(k - |d - e|, 0)^2 / 4k; cut max(d, -e).
    """
    d = float(FAR)
    material = float(0.0)
    for i in range(14):
        kind = int(primitives[b, i, SLOT_KIND])
        if kind == NOTHING:
            break
        p = localise(primitives, b, i, point)
        nearest = wp.length(p) - primitives[b, i, SLOT_BOUND]
        if int(primitives[b, i, SLOT_OPERATOR]) == CUT:
            if -nearest > d:
                e = -primitive(primitives, b, i, kind, p)
                if e > d:
                    d = e
                    material = primitives[b, i, SLOT_MATERIAL]
        else:
            k = primitives[b, i, SLOT_BLEND]
            if nearest < d + k:
                e = primitive(primitives, b, i, kind, p)
                overlap = wp.max(k - wp.abs(d - e), 0.0)
                if e < d:
                    d = e
                    material = primitives[b, i, SLOT_MATERIAL]
                if k > 0.0:
                    d -= overlap * overlap / (4.0 * k)
    return wp.vec2(d, material)


@wp.func
def to_object(frame: wp.array2d(dtype=float), b: int, p: wp.vec3) -> wp.vec3:
    """Model point to object point: R^T ((p - shift) / scale); frame rows as in `frame.py`."""
    x = (p[0] - frame[b, 9]) / frame[b, 12]
    y = (p[1] - frame[b, 10]) / frame[b, 13]
    z = (p[2] - frame[b, 11]) / frame[b, 12]
    return wp.vec3(
        frame[b, 0] * x + frame[b, 3] * y + frame[b, 6] * z,
        frame[b, 1] * x + frame[b, 4] * y + frame[b, 7] * z,
        frame[b, 2] * x + frame[b, 5] * y + frame[b, 8] * z,
    )


@wp.func
def distance(primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), b: int, p: wp.vec3) -> float:
    """Signed distance in model units at a model point (a lower bound of the true one)."""
    return field(primitives, b, to_object(frame, b, p))[0] * frame[b, 13]


@wp.func
def gradient(primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), b: int, p: wp.vec3, step: float) -> wp.vec3:
    """Unit normal from four samples at the corners of a tetrahedron (one loop body: a fourth of the code to compile)."""
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(4):
        corner = wp.vec3(wp.where(k == 0 or k == 3, 1.0, -1.0), wp.where(k > 1, 1.0, -1.0), wp.where(k % 2 == 1, 1.0, -1.0))
        total += distance(primitives, frame, b, p + step * corner) * corner
    return wp.normalize(total)


@wp.kernel
def sample_kernel(
    primitives: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    points: wp.array3d(dtype=float),
    values: wp.array2d(dtype=float),
):
    """values[b, i] = distance at points[b, i]."""
    b, i = wp.tid()
    p = wp.vec3(points[b, i, 0], points[b, i, 1], points[b, i, 2])
    values[b, i] = distance(primitives, frame, b, p)


def sample(primitives: torch.Tensor, frame: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Signed distances [B, P] float32 (model units) of `points` [B, P, 3] float32 in model space."""
    values = torch.empty(points.shape[:2], dtype=torch.float32, device=points.device)
    launch(sample_kernel, values.shape, (primitives, frame, points.contiguous(), values))
    return values
