# SPDX-License-Identifier: Apache-2.0
"""The pencil of the generator: Warp functions that draw random numbers, add primitives and mix paints.

All state (random generator, number of primitives) lives in arrays, so a helper may be called from any depth. Functions
that add a primitive come first, functions that alter the last one (`smooth`, `cut`, `mirror`, `repeat`, `turn`) after
it. Object space: z up, front towards -y, about 2 units tall; 0.05 units are 3 voxels of 128.
"""

import warp as wp

from . import sdf
from .launch import OPTIONS
from .material import CHECKS, GRADIENT, NOISE, SOLID, SPOTS, STRIPES

wp.set_module_options(OPTIONS)


@wp.struct
class Sketch:
    """One object being drawn: row of the batch arrays."""

    primitives: wp.array3d(dtype=float)
    materials: wp.array3d(dtype=float)
    random: wp.array(dtype=int)  # generator state, the bits of an unsigned number
    used: wp.array(dtype=int)
    row: int


@wp.func
def uniform(o: Sketch, low: float, high: float) -> float:
    """Next random number in [low, high)."""
    state = wp.uint32(o.random[o.row])
    value = wp.randf(state)
    o.random[o.row] = int(state)
    return low + (high - low) * value


@wp.func
def chance(o: Sketch, share: float) -> bool:
    return uniform(o, 0.0, 1.0) < share


@wp.func
def choose(o: Sketch, count: int) -> int:
    """Random integer below `count`."""
    return wp.min(int(uniform(o, 0.0, float(count))), count - 1)


@wp.func
def add(o: Sketch, kind: int, material: int, position: wp.vec3, bound: float) -> int:
    """Append a primitive without rotation; a full object ignores it (the last row is scratch then)."""
    i = wp.min(o.used[o.row], sdf.LAST)
    o.used[o.row] = i + 1
    b = o.row
    for k in range(32):
        o.primitives[b, i, k] = 0.0
    o.primitives[b, i, sdf.SLOT_KIND] = float(kind)
    o.primitives[b, i, sdf.SLOT_MATERIAL] = float(material)
    for c in range(3):
        o.primitives[b, i, sdf.SLOT_POSITION + c] = position[c]
        o.primitives[b, i, sdf.SLOT_ROTATION + 4 * c] = 1.0
    o.primitives[b, i, sdf.SLOT_BOUND] = bound
    o.primitives[b, i, sdf.SLOT_SAFETY] = 1.0
    return i


@wp.func
def put(o: Sketch, i: int, first: int, x: float, y: float, z: float, w: float):
    """Write four parameters from number `first` on."""
    k = sdf.SLOT_PARAMETERS + first
    o.primitives[o.row, i, k] = x
    o.primitives[o.row, i, k + 1] = y
    o.primitives[o.row, i, k + 2] = z
    o.primitives[o.row, i, k + 3] = w


@wp.func
def last(o: Sketch) -> int:
    return o.used[o.row] - 1


@wp.func
def ball(o: Sketch, m: int, position: wp.vec3, radii: wp.vec3):
    """Ellipsoid; flatter than 1 : 3 would march slowly, so radii are kept within that ratio."""
    longest = wp.max(radii[0], wp.max(radii[1], radii[2]))
    r = wp.vec3(wp.max(radii[0], longest / 3.0), wp.max(radii[1], longest / 3.0), wp.max(radii[2], longest / 3.0))
    i = add(o, sdf.ELLIPSOID, m, position, longest)
    put(o, i, 0, r[0], r[1], r[2], 0.0)
    flat = wp.min(r[0], wp.min(r[1], r[2])) / longest
    o.primitives[o.row, i, sdf.SLOT_SAFETY] = 0.55 + 0.45 * flat


@wp.func
def block(o: Sketch, m: int, position: wp.vec3, half: wp.vec3, rounding: float):
    i = add(o, sdf.BOX, m, position, wp.length(half))
    put(o, i, 0, half[0], half[1], half[2], wp.min(rounding, wp.min(half[0], wp.min(half[1], half[2]))))


@wp.func
def cone(o: Sketch, m: int, position: wp.vec3, low: float, high: float, half: float, rounding: float):
    """Upright capped cone, radius `low` at the bottom, `high` at the top; equal radii make a cylinder."""
    i = add(o, sdf.CONE, m, position, wp.length(wp.vec2(wp.max(low, high), half)))
    put(o, i, 0, low, high, half, wp.min(rounding, 0.9 * wp.min(wp.max(low, high), half)))


@wp.func
def turn(o: Sketch, rotation: wp.mat33):
    """Rotate the last primitive about its position (`rotation` takes local to object axes)."""
    i = last(o)
    for r in range(3):
        for c in range(3):
            o.primitives[o.row, i, sdf.SLOT_ROTATION + 3 * r + c] = rotation[c, r]


@wp.func
def about(axis: int, angle: float) -> wp.mat33:
    """Rotation matrix about x (0), y (1) or z (2), radians."""
    c = wp.cos(angle)
    s = wp.sin(angle)
    if axis == 0:
        return wp.mat33(1.0, 0.0, 0.0, 0.0, c, -s, 0.0, s, c)
    if axis == 1:
        return wp.mat33(c, 0.0, s, 0.0, 1.0, 0.0, -s, 0.0, c)
    return wp.mat33(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


@wp.func
def upright(direction: wp.vec3) -> wp.mat33:
    """Rotation that takes local z to `direction` (unit)."""
    side = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(direction[0]) > 0.9:
        side = wp.vec3(0.0, 1.0, 0.0)
    y = wp.normalize(wp.cross(direction, side))
    x = wp.cross(y, direction)
    return wp.mat33(x[0], y[0], direction[0], x[1], y[1], direction[1], x[2], y[2], direction[2])


@wp.func
def limb(o: Sketch, m: int, start: wp.vec3, end: wp.vec3, r0: float, r1: float):
    """Hull of two balls."""
    span = end - start
    h = wp.max(wp.length(span), 1.02 * wp.abs(r0 - r1) + 1.0e-3)
    i = add(o, sdf.LIMB, m, start, wp.max(r0, h + r1))
    put(o, i, 0, r0, r1, h, 0.0)
    turn(o, upright(wp.normalize(span)))


@wp.func
def ring(o: Sketch, m: int, position: wp.vec3, radius: float, tube: float, opening: float):
    """Arc in the x-z plane around +z, half opening angle in radians."""
    i = add(o, sdf.ARC, m, position, radius + tube)
    put(o, i, 0, radius, tube, opening, 0.0)


@wp.func
def vase(o: Sketch, m: int, position: wp.vec3, low: wp.vec3, high: wp.vec3, half: float, wall: float):
    """Lathe with radii low[0..2], high[0..2] from bottom to top; wall 0 is solid."""
    r0 = low[0]
    steepest = wp.max(wp.abs(low[1] - r0), wp.abs(low[2] - low[1]))
    steepest = wp.max(steepest, wp.abs(high[0] - low[2]))
    steepest = wp.max(steepest, wp.max(wp.abs(high[1] - high[0]), wp.abs(high[2] - high[1])))
    widest = wp.max(wp.max(r0, wp.max(low[1], low[2])), wp.max(high[0], wp.max(high[1], high[2])))
    i = add(o, sdf.LATHE, m, position, wp.length(wp.vec2(1.15 * widest, half)))
    put(o, i, 0, low[0], low[1], low[2], high[0])
    put(o, i, 4, high[1], high[2], half, wall)
    slope = 1.35 * steepest * 2.5 / half
    o.primitives[o.row, i, sdf.SLOT_SAFETY] = 1.0 / wp.sqrt(1.0 + slope * slope)


@wp.func
def prism(o: Sketch, m: int, position: wp.vec3, low: float, high: float, half: float, depth: float, rounding: float):
    """Trapezoid in the x-z plane (half widths at bottom and top), half depth along y."""
    i = add(o, sdf.PRISM, m, position, wp.length(wp.vec3(wp.max(low, high), half, depth)))
    put(o, i, 0, low, high, half, depth)
    put(o, i, 4, wp.min(rounding, depth), 0.0, 0.0, 0.0)


@wp.func
def star(o: Sketch, m: int, position: wp.vec3, radius: float, points: int, sharpness: float, depth: float, rounding: float):
    """Star polygon facing -y; sharpness 2 is a regular polygon."""
    i = add(o, sdf.STAR, m, position, wp.length(wp.vec2(radius, depth)))
    put(o, i, 0, radius, float(points), sharpness, depth)
    put(o, i, 4, wp.min(rounding, depth), 0.0, 0.0, 0.0)


@wp.func
def blob(o: Sketch, m: int, position: wp.vec3, radius: float, waves: wp.vec3, phase: float, depth: float, rounding: float):
    """Fourier silhouette facing -y; amplitudes of the waves 2, 3 and 5 relative to the radius."""
    total = wp.abs(waves[0]) + wp.abs(waves[1]) + wp.abs(waves[2])
    i = add(o, sdf.BLOB, m, position, wp.length(wp.vec2(radius * (1.0 + total), depth)))
    put(o, i, 0, radius, waves[0], waves[1], waves[2])
    put(o, i, 4, phase, depth, wp.min(rounding, depth), 0.0)
    slope = (2.0 * wp.abs(waves[0]) + 3.0 * wp.abs(waves[1]) + 5.0 * wp.abs(waves[2])) / wp.max(1.0 - total, 0.2)
    o.primitives[o.row, i, sdf.SLOT_SAFETY] = 1.0 / wp.sqrt(1.0 + slope * slope)


@wp.func
def fan(o: Sketch, m: int, low: wp.vec3, length: float, first: float, rod: float, count: int, step: float):
    """Rods like rays in the x-z plane around +z, from `first` away from their hub on; the middle one begins at `low`."""
    half = 0.5 * float(count - 1) * step
    across = (first + length) * wp.sin(wp.min(half, 1.5708))
    bound = wp.where(half > 1.5, first + length + rod, wp.length(wp.vec2(across, 0.5 * length + first * half * half)) + rod)
    hub = wp.where(half > 1.5, 0.0, first + 0.5 * length)
    i = add(o, sdf.SPOKES, m, low + wp.vec3(0.0, 0.0, hub - first), bound)
    put(o, i, 0, first, first + length, rod, float(count))
    put(o, i, 4, step, hub, 0.0, 0.0)


@wp.func
def net(o: Sketch, m: int, position: wp.vec3, w: float, h: float, step_x: float, step_z: float, rod: float, disc: bool):
    """Crossing rods in the x-z plane, within half sizes w and h; a step of 0 leaves out the rods of that direction."""
    i = add(o, sdf.LATTICE, m, position, wp.length(wp.vec2(w, h)) + rod)
    put(o, i, 0, w, h, step_x, step_z)
    put(o, i, 4, rod, wp.where(disc, 1.0, 0.0), 0.0, 0.0)


@wp.func
def smooth(o: Sketch, blend: float):
    """Blend the last primitive with those before it."""
    o.primitives[o.row, last(o), sdf.SLOT_BLEND] = blend


@wp.func
def cut(o: Sketch):
    """Take the last primitive away from those before it."""
    o.primitives[o.row, last(o), sdf.SLOT_OPERATOR] = float(sdf.CUT)


@wp.func
def mirror(o: Sketch, x: bool, y: bool):
    """Show the last primitive on both sides of x = 0 and / or y = 0."""
    i = last(o)
    o.primitives[o.row, i, sdf.SLOT_MIRROR_X] = wp.where(x, 1.0, 0.0)
    o.primitives[o.row, i, sdf.SLOT_MIRROR_Y] = wp.where(y, 1.0, 0.0)


@wp.func
def repeat(o: Sketch, copies: int):
    """Copies of the last primitive (standing at +x) around the z axis."""
    o.primitives[o.row, last(o), sdf.SLOT_REPEAT] = float(copies)


@wp.func
def row(o: Sketch, copies: int, step: float, axis: int):
    """Copies of the last primitive, which is symmetric along the axis, in a row around its place."""
    i = last(o)
    o.primitives[o.row, i, sdf.SLOT_ROW] = float(copies)
    o.primitives[o.row, i, sdf.SLOT_STEP] = step
    o.primitives[o.row, i, sdf.SLOT_AXIS] = float(axis)


@wp.func
def hue_colour(hue: float, saturation: float, value: float) -> wp.vec3:
    """HSV to RGB; hue in turns."""
    r = wp.clamp(wp.abs(6.0 * (hue - wp.floor(hue)) - 3.0) - 1.0, 0.0, 1.0)
    g = wp.clamp(2.0 - wp.abs(6.0 * (hue - wp.floor(hue)) - 2.0), 0.0, 1.0)
    b = wp.clamp(2.0 - wp.abs(6.0 * (hue - wp.floor(hue)) - 4.0), 0.0, 1.0)
    grey = wp.vec3(1.0, 1.0, 1.0)
    return value * (grey + saturation * (wp.vec3(r, g, b) - grey))


@wp.func
def paint(o: Sketch, m: int, colour: wp.vec3):
    """Set the first colour of material m; the finish and the pattern stay."""
    for c in range(3):
        o.materials[o.row, m, c] = colour[c]


@wp.func
def plain(o: Sketch, m: int, colour: wp.vec3, metallic: float, roughness: float):
    """One colour without pattern."""
    paint(o, m, colour)
    o.materials[o.row, m, 6] = float(SOLID)
    o.materials[o.row, m, 12] = metallic
    o.materials[o.row, m, 13] = roughness


@wp.func
def pattern_of(o: Sketch) -> int:
    """Half of all materials are plain."""
    if chance(o, 0.5):
        return SOLID
    k = choose(o, 5)
    return wp.where(k == 0, STRIPES, wp.where(k == 1, CHECKS, wp.where(k == 2, GRADIENT, wp.where(k == 3, NOISE, SPOTS))))


@wp.func
def mix_paints(o: Sketch):
    """Five materials with distinct hues: a palette around one hue, one in four of them muted."""
    hue = uniform(o, 0.0, 1.0)
    spread = uniform(o, 0.12, 0.42)
    for m in range(5):
        h = hue + float(m) * spread + uniform(o, -0.04, 0.04)
        saturation = uniform(o, 0.55, 0.95)
        if chance(o, 0.25):
            saturation = uniform(o, 0.0, 0.35)
        colour = hue_colour(h, saturation, wp.where(chance(o, 0.15), uniform(o, 0.15, 0.45), uniform(o, 0.55, 0.97)))
        metallic = wp.where(chance(o, 0.25), uniform(o, 0.85, 1.0), uniform(o, 0.0, 0.08))
        if metallic > 0.5:
            colour = hue_colour(h, 0.7 * saturation, uniform(o, 0.65, 0.97))
        plain(o, m, colour, metallic, uniform(o, 0.1, 0.95))
        second = hue_colour(h + uniform(o, 0.08, 0.5), uniform(o, 0.1, 0.9), uniform(o, 0.2, 0.97))
        for c in range(3):
            o.materials[o.row, m, 3 + c] = second[c]
        o.materials[o.row, m, 6] = float(pattern_of(o))
        o.materials[o.row, m, 7] = uniform(o, 2.5, 5.0)
        axis = choose(o, 3)
        for c in range(3):
            o.materials[o.row, m, 8 + c] = wp.where(c == axis, 1.0, 0.0)
        if int(o.materials[o.row, m, 6]) == GRADIENT:
            for c in range(3):
                o.materials[o.row, m, 8 + c] = wp.where(c == 2, 1.0, 0.0)
        o.materials[o.row, m, 11] = uniform(o, 0.0, 1.0)
