# SPDX-License-Identifier: Apache-2.0
"""What stands outdoors: houses, castles, pavilions, trees, mushrooms, rockets, flowers, cacti (docs/spec/mini.md 1)."""

import warp as wp

from .launch import OPTIONS
from .sketch import (
    Sketch,
    about,
    ball,
    block,
    chance,
    choose,
    cone,
    cut,
    hue_colour,
    limb,
    mirror,
    paint,
    plain,
    prism,
    repeat,
    ring,
    smooth,
    turn,
    uniform,
    vase,
)
from .things import QUARTER, wheel_of_posts

wp.set_module_options(OPTIONS)


@wp.func
def cottage(o: Sketch):
    w = uniform(o, 0.5, 0.8)
    d = uniform(o, 0.45, 0.7)
    h = uniform(o, 0.3, 0.55)
    rise = uniform(o, 0.25, 0.45)
    block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, d, h), 0.02)
    if chance(o, 0.5):
        prism(o, 1, wp.vec3(0.0, 0.0, h + rise - 0.02), w + 0.12, 0.02, rise, d + 0.1, 0.02)
    else:
        prism(o, 1, wp.vec3(0.0, 0.0, h + rise - 0.02), d + 0.12, wp.where(chance(o, 0.5), 0.02, 0.3), rise, w + 0.1, 0.02)
        turn(o, about(2, QUARTER))
    block(o, 2, wp.vec3(uniform(o, -0.3, 0.3) * w, -d, -h + 0.24), wp.vec3(0.15, 0.06, 0.26), 0.01)
    block(o, 3, wp.vec3(0.62 * w, -d, 0.25 * h), wp.vec3(0.15, 0.055, 0.14), 0.01)
    mirror(o, True, True)
    block(o, 3, wp.vec3(w, 0.0, 0.1 * h), wp.vec3(0.055, 0.18, 0.15), 0.01)
    mirror(o, True, False)
    if chance(o, 0.6):
        block(o, 4, wp.vec3(0.5 * w, 0.25 * d, h + 1.3 * rise), wp.vec3(0.1, 0.1, 0.35), 0.01)
    if chance(o, 0.4):
        block(o, 4, wp.vec3(0.0, 0.0, -h - 0.06), wp.vec3(w + 0.2, d + 0.25, 0.08), 0.03)


@wp.func
def castle(o: Sketch):
    w = uniform(o, 0.45, 0.6)
    h = uniform(o, 0.35, 0.55)
    block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, w, h), 0.02)
    cone(o, 1, wp.vec3(w, w, 0.15), 0.2, 0.18, h + 0.15, 0.0)
    mirror(o, True, True)
    cone(o, 2, wp.vec3(w, w, h + 0.5), 0.27, 0.02, 0.25, 0.01)
    mirror(o, True, True)
    cone(o, 1, wp.vec3(0.0, 0.0, h + 0.2), 0.24, 0.22, 0.4, 0.0)
    cone(o, 2, wp.vec3(0.0, 0.0, h + 0.85), 0.32, 0.02, 0.3, 0.01)
    block(o, 3, wp.vec3(0.0, -w, -h + 0.22), wp.vec3(0.16, 0.06, 0.24), 0.05)


@wp.func
def pavilion(o: Sketch):
    """Round roof on a ring of posts; with walls a windmill-like tower."""
    r = uniform(o, 0.55, 0.8)
    cone(o, 0, wp.vec3(0.0, 0.0, -0.7), r + 0.15, r + 0.1, 0.1, 0.02)
    if chance(o, 0.5):
        wheel_of_posts(o, 1, r - 0.08, -0.15, 0.5, 0.075, 5 + choose(o, 4))
    else:
        cone(o, 1, wp.vec3(0.0, 0.0, -0.15), 0.8 * r, 0.65 * r, 0.5, 0.0)
        block(o, 3, wp.vec3(0.0, -0.72 * r, -0.35), wp.vec3(0.14, 0.12, 0.28), 0.03)
    if chance(o, 0.5):
        cone(o, 2, wp.vec3(0.0, 0.0, 0.6), r + 0.15, 0.03, 0.3, 0.02)
    else:
        high = wp.vec3(0.75 * r, 0.5 * r, 0.1)
        vase(o, 2, wp.vec3(0.0, 0.0, 0.6), wp.vec3(r + 0.1, r + 0.08, 0.93 * r), high, 0.32, 0.0)
    ball(o, 4, wp.vec3(0.0, 0.0, 0.97), wp.vec3(0.11, 0.11, 0.11))


@wp.func
def house(o: Sketch):
    k = choose(o, 6)
    if k < 4:
        cottage(o)
    elif k == 4:
        castle(o)
    else:
        pavilion(o)


@wp.func
def bark(o: Sketch, m: int):
    plain(o, m, hue_colour(uniform(o, 0.05, 0.1), uniform(o, 0.35, 0.65), uniform(o, 0.3, 0.6)), 0.0, uniform(o, 0.6, 0.95))


@wp.func
def leaves(o: Sketch, m: int):
    """Mostly green, sometimes autumn."""
    hue = wp.where(chance(o, 0.75), uniform(o, 0.2, 0.42), uniform(o, 0.0, 0.16))
    paint(o, m, hue_colour(hue, uniform(o, 0.5, 0.9), uniform(o, 0.4, 0.85)))


@wp.func
def tree(o: Sketch):
    bark(o, 0)
    leaves(o, 1)
    leaves(o, 2)
    cone(o, 0, wp.vec3(0.0, 0.0, -0.55), uniform(o, 0.13, 0.22), uniform(o, 0.09, 0.13), 0.5, 0.0)
    if chance(o, 0.5):
        ball(o, 1, wp.vec3(0.0, 0.0, 0.35), wp.vec3(0.6, 0.55, 0.5))
        count = 2 + choose(o, 4)
        for k in range(count):
            a = 6.2832 * float(k) / float(count) + uniform(o, -0.4, 0.4)
            p = wp.vec3(0.45 * wp.cos(a), 0.4 * wp.sin(a), uniform(o, 0.0, 0.7))
            r = uniform(o, 0.28, 0.42)
            ball(o, 1 + k % 2, p, wp.vec3(r, r, r))
            if chance(o, 0.5):
                smooth(o, 0.12)
    else:
        layers = 2 + choose(o, 3)
        r = uniform(o, 0.55, 0.8)
        for k in range(layers):
            z = -0.2 + 1.1 * float(k) / float(layers)
            cone(o, 1 + k % 2, wp.vec3(0.0, 0.0, z), r, 0.06, uniform(o, 0.28, 0.36), 0.03)
            r *= uniform(o, 0.7, 0.85)
    if chance(o, 0.3):
        cone(o, 3, wp.vec3(0.0, 0.0, -0.95), 0.3, 0.42, 0.22, 0.03)


@wp.func
def mushroom(o: Sketch):
    h = uniform(o, 0.4, 0.65)
    r = uniform(o, 0.6, 0.95)
    plain(o, 0, hue_colour(uniform(o, 0.06, 0.16), uniform(o, 0.05, 0.3), uniform(o, 0.75, 0.95)), 0.0, 0.8)
    limb(o, 0, wp.vec3(0.0, 0.0, -h), wp.vec3(0.0, 0.0, 0.4), uniform(o, 0.22, 0.32), uniform(o, 0.15, 0.22))
    cap = uniform(o, 0.25, 0.42)
    vase(o, 1, wp.vec3(0.0, 0.0, 0.3), wp.vec3(r, 0.98 * r, 0.9 * r), wp.vec3(0.75 * r, 0.52 * r, 0.12 * r), cap, 0.0)
    smooth(o, 0.08)
    if chance(o, 0.4):
        x = uniform(o, 0.45, 0.6)
        limb(o, 0, wp.vec3(x, -0.1, -h), wp.vec3(x, -0.1, -0.2), 0.13, 0.1)
        ball(o, 2, wp.vec3(x, -0.1, -0.15), wp.vec3(0.3, 0.3, 0.2))
    if chance(o, 0.4):
        ball(o, 3, wp.vec3(0.0, 0.0, -h - 0.15), wp.vec3(0.7, 0.7, 0.24))


@wp.func
def rocket(o: Sketch):
    r = uniform(o, 0.25, 0.4)
    vase(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.75 * r, 0.95 * r, r), wp.vec3(r, 0.95 * r, 0.75 * r), 0.6, 0.0)
    vase(o, 1, wp.vec3(0.0, 0.0, 0.83), wp.vec3(0.75 * r, 0.66 * r, 0.54 * r), wp.vec3(0.38 * r, 0.22 * r, 0.03), 0.25, 0.0)
    prism(o, 2, wp.vec3(r + 0.05, 0.0, -0.55), uniform(o, 0.28, 0.36), 0.08, uniform(o, 0.3, 0.4), 0.05, 0.03)
    repeat(o, 3 + choose(o, 3))
    cone(o, 3, wp.vec3(0.0, 0.0, -0.68), 0.7 * r, 0.45 * r, 0.12, 0.02)
    ring(o, 3, wp.vec3(0.0, -0.92 * r, 0.2), 0.13, 0.05, 3.1416)
    ball(o, 4, wp.vec3(0.0, -0.88 * r, 0.2), wp.vec3(0.13, 0.08, 0.13))
    if chance(o, 0.4):
        cone(o, 2, wp.vec3(0.0, 0.0, -0.2), 1.02 * r, 1.04 * r, 0.08, 0.0)


@wp.func
def flower(o: Sketch):
    leaves(o, 0)
    limb(o, 0, wp.vec3(0.0, 0.0, -0.7), wp.vec3(0.0, 0.0, 0.45), 0.09, 0.08)
    limb(o, 0, wp.vec3(0.05, 0.0, -0.4), wp.vec3(0.5, 0.0, 0.0), 0.07, 0.12)
    mirror(o, True, False)
    ball(o, 1, wp.vec3(0.42, 0.0, 0.55), wp.vec3(0.34, 0.2, 0.12))
    turn(o, about(1, uniform(o, -0.6, 0.1)))
    repeat(o, 5 + choose(o, 3))
    ball(o, 2, wp.vec3(0.0, 0.0, 0.58), wp.vec3(0.24, 0.24, 0.18))
    cone(o, 3, wp.vec3(0.0, 0.0, -0.8), 0.3, 0.42, 0.25, 0.03)


@wp.func
def cactus(o: Sketch):
    leaves(o, 0)
    limb(o, 0, wp.vec3(0.0, 0.0, -0.6), wp.vec3(0.0, 0.0, 0.7), uniform(o, 0.2, 0.3), 0.2)
    z = uniform(o, -0.1, 0.1)
    limb(o, 0, wp.vec3(0.0, 0.0, z), wp.vec3(0.55, 0.0, z), 0.14, 0.14)
    mirror(o, chance(o, 0.6), False)
    limb(o, 0, wp.vec3(0.55, 0.0, z), wp.vec3(0.55, 0.0, z + uniform(o, 0.3, 0.5)), 0.14, 0.12)
    smooth(o, 0.06)
    ball(o, 2, wp.vec3(0.0, 0.0, 0.92), wp.vec3(0.12, 0.12, 0.1))
    cone(o, 1, wp.vec3(0.0, 0.0, -0.75), 0.36, 0.5, 0.26, 0.03)
    cone(o, 3, wp.vec3(0.0, 0.0, -0.47), 0.55, 0.55, 0.07, 0.02)


@wp.func
def plant_or_rocket(o: Sketch):
    k = choose(o, 8)
    if k < 2:
        tree(o)
    elif k < 4:
        mushroom(o)
    elif k < 6:
        rocket(o)
    elif k == 6:
        flower(o)
    else:
        cactus(o)


@wp.func
def gate(o: Sketch):
    """Wall with an arched passage."""
    block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.9, 0.25, 0.75), 0.03)
    cone(o, 1, wp.vec3(0.0, 0.0, -0.05), 0.42, 0.42, 0.6, 0.0)
    turn(o, about(0, QUARTER))
    cut(o)
    block(o, 1, wp.vec3(0.0, 0.0, -0.5), wp.vec3(0.42, 0.6, 0.45), 0.0)
    cut(o)
    block(o, 2, wp.vec3(0.0, 0.0, 0.8), wp.vec3(1.0, 0.32, 0.1), 0.03)
    cone(o, 3, wp.vec3(0.72, -0.3, 0.0), 0.11, 0.09, 0.72, 0.0)
    mirror(o, True, True)
