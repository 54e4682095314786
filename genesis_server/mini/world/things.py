# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""Things that stand on a table or on the floor: assemblies, vessels, emblems, letters, furniture (docs/spec/mini.md 1)."""

import warp as wp

from .launch import OPTIONS
from .sketch import (
    Sketch,
    about,
    ball,
    blob,
    block,
    chance,
    choose,
    cone,
    cut,
    limb,
    mirror,
    prism,
    repeat,
    ring,
    smooth,
    star,
    turn,
    uniform,
    upright,
    vase,
)

wp.set_module_options(OPTIONS)

QUARTER = wp.constant(1.5707963)


@wp.func
def random_rotation(o: Sketch) -> wp.mat33:
    z = uniform(o, -1.0, 1.0)
    a = uniform(o, 0.0, 6.2832)
    s = wp.sqrt(1.0 - z * z)
    return upright(wp.vec3(s * wp.cos(a), s * wp.sin(a), z)) * about(2, uniform(o, 0.0, 6.2832))


@wp.func
def piece(o: Sketch, m: int, p: wp.vec3, size: float):
    """One random primitive of about the given radius."""
    kind = choose(o, 7)
    a = size * uniform(o, 0.6, 1.0)
    c = size * uniform(o, 0.6, 1.0)
    if kind == 0:
        ball(o, m, p, wp.vec3(a, c, size * uniform(o, 0.6, 1.0)))
    elif kind == 1:
        block(o, m, p, 0.75 * wp.vec3(a, c, size), size * uniform(o, 0.05, 0.4))
    elif kind == 2:
        cone(o, m, p, 0.8 * a, 0.8 * a, 0.8 * c, 0.1 * size)
    elif kind == 3:
        cone(o, m, p, 0.9 * a, 0.3 * a * uniform(o, 0.1, 1.0), 0.9 * c, 0.06 * size)
    elif kind == 4:
        ring(o, m, p, 0.75 * size, size * uniform(o, 0.2, 0.32), 3.1416)
    elif kind == 5:
        star(o, m, p, size, 5 + choose(o, 4), uniform(o, 2.2, 3.5), 0.4 * a, 0.06 * size)
    else:
        limb(o, m, p - wp.vec3(0.0, 0.0, 0.5 * size), p + wp.vec3(0.0, 0.0, 0.5 * size), 0.6 * a, 0.5 * c)
    if chance(o, 0.6):
        turn(o, random_rotation(o))


@wp.func
def assemble(o: Sketch):
    """One to five primitives that touch each other, some melted together, sometimes one bitten out."""
    size = uniform(o, 0.6, 0.9)
    piece(o, 0, wp.vec3(0.0, 0.0, 0.0), size)
    count = choose(o, 5)
    for k in range(count):
        a = uniform(o, 0.0, 6.2832)
        z = uniform(o, -1.0, 1.0)
        s = wp.sqrt(1.0 - z * z)
        p = 0.85 * size * wp.vec3(s * wp.cos(a), s * wp.sin(a), z)
        if chance(o, 0.15):
            ball(o, (k + 1) % 5, 1.1 * p, wp.vec3(0.4, 0.4, 0.4))
            cut(o)
        else:
            piece(o, (k + 1) % 5, p, uniform(o, 0.4, 0.65))
            if chance(o, 0.3):
                smooth(o, uniform(o, 0.1, 0.3))


@wp.func
def stack(o: Sketch):
    """Balls, drums and blocks on top of each other: snowmen, ice cream, towers."""
    floor = float(-1.0)
    r = uniform(o, 0.5, 0.75)
    count = 2 + choose(o, 3)
    same = choose(o, 4)
    for k in range(count):
        h = r * uniform(o, 0.6, 0.9)
        p = wp.vec3(0.0, 0.0, floor + 0.95 * h)
        if same == 0 or (same == 3 and chance(o, 0.4)):
            ball(o, k % 5, p, wp.vec3(r, r, h))
        elif same == 1:
            cone(o, k % 5, p, r, r * uniform(o, 0.7, 1.0), h, 0.05)
        else:
            block(o, k % 5, p, wp.vec3(r, r * uniform(o, 0.7, 1.0), h), uniform(o, 0.02, 0.2))
            turn(o, about(2, uniform(o, -0.4, 0.4)))
        floor += 1.85 * h
        r *= uniform(o, 0.6, 0.85)
    if chance(o, 0.4):
        cone(o, 4, wp.vec3(0.0, 0.0, floor + 0.2), 0.9 * r, 0.05, 0.3, 0.02)


@wp.func
def handle(o: Sketch, m: int, x: float, z: float, size: float, tube: float):
    """Ear of a cup at +x."""
    ring(o, m, wp.vec3(x, 0.0, z), size, tube, 1.6)
    turn(o, about(1, QUARTER))


@wp.func
def mug(o: Sketch):
    r = uniform(o, 0.45, 0.75)
    h = uniform(o, 0.5, 0.8)
    top = r * uniform(o, 0.9, 1.25)
    middle = 0.5 * (r + top) * uniform(o, 0.9, 1.1)
    vase(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(r, r, middle), wp.vec3(middle, top, top), h, 0.09)
    cone(o, 1, wp.vec3(0.0, 0.0, -0.1 * h), 0.9 * r, 0.92 * middle, 0.6 * h, 0.0)
    if chance(o, 0.85):
        handle(o, wp.where(chance(o, 0.5), 0, 2), 0.97 * wp.min(middle, r), 0.0, h * uniform(o, 0.5, 0.68), 0.085)
    if chance(o, 0.3):
        cone(o, 3, wp.vec3(0.0, 0.0, -h), 1.5 * r, 1.7 * r, 0.06, 0.04)


@wp.func
def pot(o: Sketch):
    """Vase, bottle, goblet, teapot: a lathe with foot, neck, lid, handles."""
    kind = choose(o, 4)
    h = uniform(o, 0.65, 0.95)
    belly = uniform(o, 0.45, 0.8)
    neck = belly * uniform(o, 0.35, 0.6)
    p = wp.vec3(0.0, 0.0, 0.0)
    if kind == 0:
        rim = neck * uniform(o, 1.0, 1.7)
        vase(o, 0, p, wp.vec3(0.6 * belly, 0.95 * belly, belly), wp.vec3(0.8 * belly, neck, rim), h, 0.09)
        if chance(o, 0.4):
            ring(o, 1, wp.vec3(0.62 * belly, 0.0, 0.45 * h), 0.28, 0.07, 1.9)
            turn(o, about(1, QUARTER))
            mirror(o, True, False)
    elif kind == 1:
        vase(o, 0, p, wp.vec3(0.7 * belly, 0.72 * belly, 0.72 * belly), wp.vec3(0.6 * belly, 0.5 * neck, 0.5 * neck), h, 0.0)
        cone(o, 1, wp.vec3(0.0, 0.0, h), 0.55 * neck, 0.55 * neck, 0.1, 0.03)
        cone(o, 2, wp.vec3(0.0, 0.0, -0.35 * h), 0.75 * belly, 0.75 * belly, 0.25 * h, 0.02)
    elif kind == 2:
        vase(o, 0, wp.vec3(0.0, 0.0, 0.45), wp.vec3(0.3 * belly, 0.8 * belly, belly), wp.vec3(belly, belly, belly), 0.45, 0.08)
        cone(o, 1, wp.vec3(0.0, 0.0, -0.4), 0.1, 0.1, 0.5, 0.0)
        cone(o, 1, wp.vec3(0.0, 0.0, -0.85), 0.8 * belly, 0.15, 0.1, 0.03)
        smooth(o, 0.12)
    else:
        ball(o, 0, p, wp.vec3(0.75, 0.75, 0.6))
        cone(o, 0, wp.vec3(0.0, 0.0, -0.53), 0.45, 0.45, 0.08, 0.02)
        limb(o, 0, wp.vec3(-0.5, 0.0, -0.1), wp.vec3(-1.05, 0.0, 0.42), 0.2, 0.08)
        smooth(o, 0.15)
        handle(o, 1, 0.6, 0.05, 0.42, 0.08)
        ball(o, 2, wp.vec3(0.0, 0.0, 0.52), wp.vec3(0.4, 0.4, 0.14))
        ball(o, 3, wp.vec3(0.0, 0.0, 0.74), wp.vec3(0.12, 0.12, 0.12))


@wp.func
def vessel(o: Sketch):
    if chance(o, 0.4):
        mug(o)
    else:
        pot(o)


@wp.func
def bar(o: Sketch, m: int, x0: float, z0: float, x1: float, z1: float, thick: float, depth: float):
    """Straight stroke in the x-z plane."""
    dx = x1 - x0
    dz = z1 - z0
    half = 0.5 * wp.sqrt(dx * dx + dz * dz) + thick
    block(o, m, wp.vec3(0.5 * (x0 + x1), 0.0, 0.5 * (z0 + z1)), wp.vec3(thick, depth, half), 0.03)
    turn(o, about(1, wp.atan2(dx, dz)))


@wp.func
def bow(o: Sketch, m: int, x: float, z: float, radius: float, opening: float, angle: float, thick: float):
    """Round stroke, open away from `angle` (radians from +z towards +x)."""
    ring(o, m, wp.vec3(x, 0.0, z), radius, thick, opening)
    turn(o, about(1, angle))


@wp.func
def letter(o: Sketch):
    """Capital letters and signs of one to four strokes."""
    t = uniform(o, 0.13, 0.2)
    d = uniform(o, 0.16, 0.32)
    w = uniform(o, 0.42, 0.62)
    k = choose(o, 14)
    h = float(0.8)
    if k == 0 or k == 1 or k == 4 or k == 5 or k == 6:  # L F E P H
        bar(o, 0, -w, -h, -w, h, t, d)
    if k == 0 or k == 4:
        bar(o, 0, -w, -h, w, -h, t, d)
    if k == 1 or k == 4 or k == 2 or k == 12:  # F E T Z
        bar(o, 0, -w, h, w, h, t, d)
    if k == 1 or k == 4:
        bar(o, 0, -w, 0.0, 0.6 * w, 0.0, t, d)
    if k == 2:
        bar(o, 0, 0.0, -h, 0.0, h, t, d)
    if k == 3 or k == 7:  # X, V
        bar(o, 0, wp.where(k == 3, -w, 0.0), -h, w, h, t, d)
        bar(o, 0, wp.where(k == 3, w, 0.0), -h, -w, h, t, d)
    if k == 5:
        bow(o, 0, -0.45 * w, 0.38, 0.42, 1.9, QUARTER, t)
    if k == 6:
        bar(o, 0, w, -h, w, h, t, d)
        bar(o, 0, -w, 0.0, w, 0.0, t, d)
    if k == 8:  # A
        bar(o, 0, -w, -h, 0.0, h, t, d)
        bar(o, 0, w, -h, 0.0, h, t, d)
        bar(o, 0, -0.55 * w, -0.2, 0.55 * w, -0.2, 0.8 * t, 0.9 * d)
    if k == 9:  # C
        bow(o, 0, 0.0, 0.0, 0.65, 2.3, -QUARTER, 1.2 * t)
    if k == 10:  # U
        bow(o, 0, 0.0, -0.25, w, QUARTER, 2.0 * QUARTER, t)
        bar(o, 0, -w, -0.2, -w, h, t, t)
        bar(o, 0, w, -0.2, w, h, t, t)
    if k == 11:  # S
        bow(o, 0, 0.0, 0.4, 0.4, 2.3, -0.75, t)
        bow(o, 0, 0.0, -0.4, 0.4, 2.3, 2.39, t)
    if k == 12:
        bar(o, 0, -w, -h, w, -h, t, d)
        bar(o, 0, -w, -h, w, h, t, d)
    if k == 13:  # a cross
        bar(o, 0, 0.0, -h, 0.0, h, 1.3 * t, d)
        bar(o, 0, -0.6, 0.15, 0.6, 0.15, 1.3 * t, d)
    if chance(o, 0.3):
        block(o, 1, wp.vec3(0.0, 0.0, -h - t - 0.08), wp.vec3(0.9, 0.45, 0.12), 0.04)


@wp.func
def bore(o: Sketch, m: int, radius: float):
    """Round hole through the middle along y."""
    cone(o, m, wp.vec3(0.0, 0.0, 0.0), radius, radius, 1.0, 0.0)
    turn(o, about(0, QUARTER))
    cut(o)


@wp.func
def emblem(o: Sketch):
    """Flat shapes that face the viewer: stars, gears, hearts, moons, arrows, keys, inflated and extruded outlines."""
    k = choose(o, 8)
    p = wp.vec3(0.0, 0.0, 0.0)
    d = uniform(o, 0.14, 0.35)
    if k == 0:
        star(o, 0, p, 0.95, 5 + choose(o, 3), uniform(o, 2.4, 3.6), d, uniform(o, 0.03, 0.12))
        if chance(o, 0.5):
            ball(o, 1, p, wp.vec3(0.35, d + 0.12, 0.35))
    elif k == 1:
        star(o, 0, p, 0.95, 8 + choose(o, 5), uniform(o, 2.6, 4.0), d, 0.04)
        cone(o, 1, p, 0.55, 0.55, d + 0.08, 0.03)
        turn(o, about(0, QUARTER))
        bore(o, 2, uniform(o, 0.2, 0.35))
    elif k == 2 or k == 3:
        waves = wp.vec3(uniform(o, -0.25, 0.25), uniform(o, -0.2, 0.2), uniform(o, -0.1, 0.1))
        depth = wp.where(k == 2, uniform(o, 0.3, 0.5), d)
        blob(o, 0, p, 0.8, waves, uniform(o, 0.0, 6.28), depth, wp.where(k == 2, depth, 0.03))
        if chance(o, 0.5):
            bore(o, 1, uniform(o, 0.2, 0.35))
        elif chance(o, 0.6):
            star(o, 1, p, 0.45, 4 + choose(o, 4), uniform(o, 2.0, 3.0), depth + 0.09, 0.03)
    elif k == 4:
        limb(o, 0, wp.vec3(0.0, 0.0, -0.75), wp.vec3(0.42, 0.0, 0.35), 0.12, 0.5)
        mirror(o, True, False)
        if chance(o, 0.4):
            bar(o, 1, -0.95, 0.5, 0.95, -0.4, 0.07, 0.07)
    elif k == 5:
        cone(o, 0, p, 0.9, 0.9, d, 0.08)
        turn(o, about(0, QUARTER))
        cone(o, 0, wp.vec3(0.5, 0.0, 0.2), 0.72, 0.72, 1.0, 0.0)
        turn(o, about(0, QUARTER))
        cut(o)
        if chance(o, 0.6):
            star(o, 1, wp.vec3(0.45, 0.0, 0.25), 0.35, 5, 3.0, 0.8 * d, 0.03)
    elif k == 6:
        prism(o, 0, wp.vec3(0.0, 0.0, 0.45), uniform(o, 0.65, 0.85), 0.03, 0.45, d, 0.04)
        block(o, 1, wp.vec3(0.0, 0.0, -0.45), wp.vec3(uniform(o, 0.2, 0.4), 0.8 * d, 0.5), 0.04)
    else:
        ring(o, 0, wp.vec3(0.0, 0.0, 0.55), 0.36, 0.13, 3.1416)
        block(o, 0, wp.vec3(0.0, 0.0, -0.35), wp.vec3(0.11, 0.11, 0.65), 0.04)
        block(o, 1, wp.vec3(0.25, 0.0, -0.85), wp.vec3(0.2, 0.09, 0.1), 0.02)
        block(o, 1, wp.vec3(0.2, 0.0, -0.5), wp.vec3(0.15, 0.09, 0.08), 0.02)
    if k < 4 and chance(o, 0.35):
        block(o, 3, wp.vec3(0.0, 0.0, -0.98), wp.vec3(0.7, 0.45, 0.16), 0.05)


@wp.func
def table(o: Sketch):
    w = uniform(o, 0.7, 1.0)
    d = uniform(o, 0.45, 0.75)
    h = uniform(o, 0.45, 0.75)
    if chance(o, 0.35):
        cone(o, 0, wp.vec3(0.0, 0.0, h), w, w, 0.09, 0.04)
        cone(o, 1, wp.vec3(0.0, 0.0, 0.0), 0.14, 0.1, h, 0.0)
        cone(o, 1, wp.vec3(0.0, 0.0, -h), 0.55 * w, 0.3 * w, 0.08, 0.03)
    else:
        block(o, 0, wp.vec3(0.0, 0.0, h), wp.vec3(w, d, 0.09), 0.03)
        x = w - 0.12
        y = d - 0.12
        slant = uniform(o, -0.05, 0.1)
        limb(o, 1, wp.vec3(x, y, h), wp.vec3(x + slant, y, -h), uniform(o, 0.08, 0.12), 0.07)
        mirror(o, True, True)
        if chance(o, 0.3):
            block(o, 2, wp.vec3(0.0, 0.0, -0.4 * h), wp.vec3(x, y, 0.07), 0.02)
    if chance(o, 0.45):
        vase(o, 3, wp.vec3(-0.2, 0.0, h + 0.35), wp.vec3(0.14, 0.24, 0.26), wp.vec3(0.16, 0.1, 0.15), 0.28, 0.0)
    if chance(o, 0.35):
        ball(o, 4, wp.vec3(0.35, -0.1, h + 0.23), wp.vec3(0.16, 0.16, 0.16))


@wp.func
def chair(o: Sketch):
    w = uniform(o, 0.42, 0.55)
    block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, w, 0.1), 0.06)
    if chance(o, 0.25):
        cone(o, 1, wp.vec3(0.0, 0.0, -0.4), 0.09, 0.09, 0.4, 0.0)
        cone(o, 1, wp.vec3(0.0, 0.0, -0.8), 0.42, 0.3, 0.07, 0.03)
    else:
        limb(o, 1, wp.vec3(w - 0.08, w - 0.08, 0.0), wp.vec3(w - 0.04, w - 0.04, -0.85), 0.08, 0.07)
        mirror(o, True, True)
    if chance(o, 0.5):
        block(o, 2, wp.vec3(0.0, w - 0.05, 0.55), wp.vec3(w, 0.08, 0.5), 0.06)
    else:
        limb(o, 1, wp.vec3(w - 0.08, w - 0.06, 0.0), wp.vec3(w - 0.08, w, 0.95), 0.075, 0.075)
        mirror(o, True, False)
        block(o, 2, wp.vec3(0.0, w, 0.85), wp.vec3(w, 0.07, 0.14), 0.05)
        block(o, 2, wp.vec3(0.0, w - 0.03, 0.45), wp.vec3(w, 0.06, 0.1), 0.04)
    if chance(o, 0.35):
        limb(o, 3, wp.vec3(w, w - 0.05, 0.4), wp.vec3(w, 0.1 - w, 0.4), 0.075, 0.075)
        mirror(o, True, False)
        limb(o, 3, wp.vec3(w, 0.1 - w, 0.4), wp.vec3(w - 0.02, 0.1 - w, 0.0), 0.07, 0.07)
        mirror(o, True, False)


@wp.func
def sofa(o: Sketch):
    w = uniform(o, 0.65, 1.0)
    block(o, 0, wp.vec3(0.0, 0.0, -0.3), wp.vec3(w, 0.48, 0.2), 0.08)
    block(o, 0, wp.vec3(0.0, 0.42, 0.1), wp.vec3(w, 0.16, 0.5), 0.1)
    block(o, 1, wp.vec3(w, 0.0, -0.1), wp.vec3(0.14, 0.5, 0.36), 0.1)
    mirror(o, True, False)
    block(o, 2, wp.vec3(0.46 * w, -0.06, -0.06), wp.vec3(0.43 * w, 0.4, 0.12), 0.08)
    mirror(o, True, False)
    cone(o, 3, wp.vec3(w - 0.1, 0.35, -0.58), 0.08, 0.08, 0.12, 0.0)
    mirror(o, True, True)


@wp.func
def lamp(o: Sketch):
    r = uniform(o, 0.4, 0.65)
    cone(o, 0, wp.vec3(0.0, 0.0, -0.95), 0.45, 0.35, 0.07, 0.03)
    if chance(o, 0.5):
        cone(o, 1, wp.vec3(0.0, 0.0, -0.3), 0.08, 0.08, 0.7, 0.0)
    else:
        vase(o, 1, wp.vec3(0.0, 0.0, -0.4), wp.vec3(0.2, 0.36, 0.34), wp.vec3(0.18, 0.1, 0.08), 0.5, 0.0)
        cone(o, 0, wp.vec3(0.0, 0.0, 0.2), 0.07, 0.07, 0.3, 0.0)
    cone(o, 2, wp.vec3(0.0, 0.0, 0.6), r, r * uniform(o, 0.4, 0.8), uniform(o, 0.28, 0.4), 0.03)


@wp.func
def furniture(o: Sketch):
    k = choose(o, 6)
    if k < 2:
        table(o)
    elif k < 4:
        chair(o)
    elif k == 4:
        sofa(o)
    else:
        lamp(o)


@wp.func
def wheel_of_posts(o: Sketch, m: int, radius: float, z: float, half: float, thick: float, copies: int):
    """Posts on a circle."""
    cone(o, m, wp.vec3(radius, 0.0, z), thick, thick, half, 0.0)
    repeat(o, copies)
