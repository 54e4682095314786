# SPDX-License-Identifier: Apache-2.0
"""Fruit and vegetables with stems, leaves and crowns: smooth, round from all sides, mostly of one colour."""

import warp as wp

from .launch import OPTIONS
from .sketch import (
    Sketch,
    about,
    ball,
    blob,
    chance,
    choose,
    cone,
    hue_colour,
    limb,
    mirror,
    plain,
    repeat,
    ring,
    smooth,
    turn,
    uniform,
)
from .things import QUARTER

wp.set_module_options(OPTIONS)


@wp.func
def skin(o: Sketch, hue: float, spread: float):
    """Material 0 in a natural colour (three in four), without metal; a second colour that is near it."""
    if chance(o, 0.75):
        h = hue + uniform(o, -spread, spread)
        pattern = o.materials[o.row, 0, 6]
        plain(o, 0, hue_colour(h, uniform(o, 0.6, 1.0), uniform(o, 0.6, 1.0)), 0.0, uniform(o, 0.2, 0.8))
        second = hue_colour(h + uniform(o, -0.08, 0.08), uniform(o, 0.5, 1.0), uniform(o, 0.5, 1.0))
        for c in range(3):
            o.materials[o.row, 0, 3 + c] = second[c]
        if chance(o, 0.5):
            o.materials[o.row, 0, 6] = pattern
    o.materials[o.row, 0, 12] = 0.0
    plain(o, 1, hue_colour(uniform(o, 0.05, 0.12), uniform(o, 0.4, 0.8), uniform(o, 0.15, 0.5)), 0.0, 0.8)
    plain(o, 2, hue_colour(uniform(o, 0.22, 0.42), uniform(o, 0.6, 1.0), uniform(o, 0.3, 0.8)), 0.0, 0.6)


@wp.func
def stem(o: Sketch, z: float):
    """A stem, and often a leaf or two."""
    rod = uniform(o, 0.025, 0.08)
    tip = wp.vec3(uniform(o, -0.2, 0.2), uniform(o, -0.1, 0.1), z + uniform(o, 0.15, 0.4))
    limb(o, 1, wp.vec3(0.0, 0.0, z - 0.1), tip, rod, rod * uniform(o, 0.7, 1.5))
    leaf = choose(o, 4)
    if leaf > 1:
        blob(o, 2, wp.vec3(0.26, 0.0, z + 0.14), 0.2, wp.vec3(0.3, 0.0, 0.0), 0.0, 0.05, 0.04)
        turn(o, about(1, uniform(o, -0.7, 0.2)))
        mirror(o, leaf == 3, False)


@wp.func
def crown(o: Sketch, z: float, length: float):
    """Pointed leaves in two tiers around a middle one, as of a pineapple, a strawberry or a radish."""
    wide = uniform(o, 0.08, 0.16)
    rise = uniform(o, 0.3, 1.0)
    copies = 5 + choose(o, 4)
    limb(o, 2, wp.vec3(0.05, 0.0, z), wp.vec3(length, 0.0, z + (rise - 0.3) * length), wide, 0.02)
    repeat(o, copies)
    limb(o, 2, wp.vec3(0.02, 0.0, z), wp.vec3(0.5 * length, 0.0, z + (rise + 0.3) * length), wide, 0.02)
    repeat(o, copies - 1)
    limb(o, 2, wp.vec3(0.0, 0.0, z), wp.vec3(0.0, 0.0, z + (rise + 0.5) * length), wide, 0.02)


@wp.func
def fruit(o: Sketch):
    k = choose(o, 10)
    p = wp.vec3(0.0, 0.0, 0.0)
    if k < 2:  # apple, tomato, pumpkin: a fat ring
        skin(o, 0.0, 0.12)
        r = uniform(o, 0.2, 0.36)
        ring(o, 0, p, r, 0.85 - r, 3.1416)
        turn(o, about(0, QUARTER))
        if chance(o, 0.6):
            limb(o, 0, p, wp.vec3(0.0, 0.0, -0.45), 0.4, 0.3)
            smooth(o, 0.3)
        stem(o, uniform(o, 0.35, 0.5))
    elif k < 4:  # pear, fig, aubergine
        skin(o, 0.15, 0.1)
        low = uniform(o, 0.5, 0.65)
        ball(o, 0, wp.vec3(0.0, 0.0, -0.3), wp.vec3(low, low, low * uniform(o, 0.9, 1.1)))
        limb(o, 0, wp.vec3(0.0, 0.0, -0.2), wp.vec3(uniform(o, -0.1, 0.1), 0.0, uniform(o, 0.35, 0.65)), 0.8 * low, 0.22)
        smooth(o, uniform(o, 0.15, 0.35))
        stem(o, 0.75)
    elif k == 4:  # pineapple
        skin(o, 0.12, 0.04)
        w = uniform(o, 0.4, 0.55)
        ball(o, 0, wp.vec3(0.0, 0.0, -0.3), wp.vec3(w, w, w * uniform(o, 1.1, 1.5)))
        crown(o, 0.25, uniform(o, 0.4, 0.65))
    elif k == 5:  # strawberry, radish, carrot
        skin(o, 0.02, 0.07)
        w = uniform(o, 0.3, 0.6)
        limb(o, 0, wp.vec3(0.0, 0.0, 0.2), wp.vec3(0.0, 0.0, -0.75), w, uniform(o, 0.05, 0.25))
        crown(o, 0.2 + 0.85 * w, uniform(o, 0.25, 0.6))
    elif k == 6:  # orange, lemon, egg, ball
        skin(o, 0.11, 0.06)
        w = uniform(o, 0.6, 0.75)
        ball(o, 0, p, wp.vec3(w, w, 0.72))
        if chance(o, 0.6):
            stem(o, 0.68)
    elif k == 7:  # cherries
        skin(o, 0.97, 0.05)
        x = uniform(o, 0.35, 0.5)
        w = uniform(o, 0.3, 0.42)
        ball(o, 0, wp.vec3(x, 0.0, -0.5), wp.vec3(w, w, w))
        mirror(o, True, False)
        limb(o, 2, wp.vec3(x, 0.0, -0.3), wp.vec3(0.0, 0.0, 0.8), 0.03, 0.035)
        mirror(o, True, False)
        blob(o, 2, wp.vec3(0.3, 0.0, 0.8), 0.26, wp.vec3(0.3, 0.0, 0.0), 0.0, 0.05, 0.04)
    elif k == 8:  # banana, pepper
        skin(o, 0.15, 0.05)
        ring(o, 0, wp.vec3(0.0, 0.0, 0.6), uniform(o, 0.7, 0.9), uniform(o, 0.14, 0.24), uniform(o, 0.7, 1.1))
        turn(o, about(1, 3.1416 + uniform(o, -0.5, 0.5)))
    else:  # grapes, berries
        skin(o, uniform(o, 0.7, 0.95), 0.05)
        r = uniform(o, 0.2, 0.26)
        for tier in range(3):
            size = 0.45 - 0.15 * float(tier)
            ball(o, 0, wp.vec3(size, 0.0, 0.3 - 0.35 * float(tier)), wp.vec3(r, r, r))
            repeat(o, 6 - tier)
        ball(o, 0, wp.vec3(0.0, 0.0, -0.75), wp.vec3(r, r, r))
        ball(o, 0, wp.vec3(0.0, 0.0, 0.1), wp.vec3(0.35, 0.35, 0.5))
        stem(o, 0.55)
    if chance(o, 0.1):
        cone(o, 4, wp.vec3(0.0, 0.0, -0.95), 0.9, 0.9, 0.06, 0.03)
