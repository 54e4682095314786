# SPDX-License-Identifier: Apache-2.0
"""Plush toys, dolls, ducks and hens: round bodies with limbs that face the viewer."""

import warp as wp

from .launch import OPTIONS
from .movers import eyes, fur
from .sketch import (
    Sketch,
    about,
    ball,
    block,
    chance,
    choose,
    cone,
    hue_colour,
    limb,
    mirror,
    paint,
    plain,
    smooth,
    turn,
    uniform,
    vase,
)
from .things import QUARTER

wp.set_module_options(OPTIONS)


@wp.func
def one_coat(o: Sketch):
    """Materials 0 to 3 of one hue, sometimes speckled: plush, wood, china."""
    hue = wp.where(chance(o, 0.6), uniform(o, 0.03, 0.13), uniform(o, 0.0, 1.0))
    saturation = uniform(o, 0.0, 0.75)
    value = uniform(o, 0.3, 0.95)
    rough = uniform(o, 0.4, 0.95)
    for m in range(4):
        near = wp.min(value * uniform(o, 0.8, 1.2), 1.0)
        paint(o, m, hue_colour(hue + uniform(o, -0.02, 0.02), saturation, near))
        second = hue_colour(hue + uniform(o, -0.03, 0.03), saturation, wp.min(near * uniform(o, 0.75, 1.2), 1.0))
        for c in range(3):
            o.materials[o.row, m, 3 + c] = second[c]
        o.materials[o.row, m, 7] = uniform(o, 3.0, 8.0)
        o.materials[o.row, m, 12] = 0.0
        o.materials[o.row, m, 13] = rough


@wp.func
def plush(o: Sketch):
    """Bears, rabbits, mice, frogs, dolls and snowmen of balls and limbs, seated or standing, facing the viewer."""
    if chance(o, 0.65):
        one_coat(o)
    else:
        fur(o, 0)
    w = uniform(o, 0.32, 0.48)
    h = uniform(o, 0.4, 0.55)
    d = w * uniform(o, 0.75, 1.05)
    ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, d, h))
    r = uniform(o, 0.32, 0.48)
    top = h + 0.75 * r
    ball(o, 0, wp.vec3(0.0, uniform(o, -0.12, 0.02), top), wp.vec3(r * uniform(o, 1.0, 1.15), r * uniform(o, 0.85, 1.0), r))
    smooth(o, uniform(o, 0.02, 0.1))
    kind = choose(o, 6)  # ears
    if kind < 3:  # a bear's or a mouse's
        e = r * uniform(o, 0.3, 0.55)
        ball(o, 0, wp.vec3(0.72 * r + 0.2 * e, 0.0, top + 0.7 * r + 0.2 * e), wp.vec3(e, wp.max(0.45 * e, 0.06), e))
        mirror(o, True, False)
    elif kind == 3:  # a rabbit's
        limb(o, 0, wp.vec3(0.4 * r, 0.0, top + 0.7 * r), wp.vec3(uniform(o, 0.3, 1.0) * r, 0.0, top + 2.1 * r), 0.12, 0.1)
        mirror(o, True, False)
    elif kind == 4:  # a cat's
        cone(o, 0, wp.vec3(0.58 * r, 0.0, top + 0.9 * r), 0.35 * r, 0.05, 0.35 * r, 0.02)
        turn(o, about(1, 0.4))
        mirror(o, True, False)
    else:  # a cap or hair
        ball(o, 3, wp.vec3(0.0, 0.05, top + 0.35 * r), wp.vec3(1.05 * r, 1.05 * r, 0.8 * r))
    if chance(o, 0.7):  # snout
        ball(o, 1, wp.vec3(0.0, -0.85 * r, top - 0.2 * r), wp.vec3(0.45 * r, 0.4 * r, 0.36 * r))
    eyes(o, 0.4 * r, -0.85 * r, top + 0.15 * r, uniform(o, 0.045, 0.07))
    thick = uniform(o, 0.11, 0.19)
    reach = wp.vec3(w + uniform(o, 0.2, 0.45), -uniform(o, 0.0, 0.3), h * uniform(o, -0.6, 0.9))
    limb(o, 0, wp.vec3(0.75 * w, 0.0, 0.55 * h), reach, thick, thick * uniform(o, 0.85, 1.2))
    mirror(o, True, False)
    smooth(o, 0.05)
    leg = thick * uniform(o, 1.0, 1.35)
    x = w * uniform(o, 0.55, 0.9)
    if chance(o, 0.6):  # seated, feet towards the viewer
        foot = wp.vec3(x + uniform(o, 0.0, 0.35), -d - uniform(o, 0.15, 0.45), -h + 0.1)
        limb(o, 0, wp.vec3(0.6 * x, 0.0, -h + 0.18), foot, leg, leg)
        mirror(o, True, False)
        smooth(o, 0.05)
        ball(o, wp.where(chance(o, 0.5), 0, 2), foot, leg * wp.vec3(1.15, 0.8, 1.35))
        mirror(o, True, False)
    else:
        foot = wp.vec3(x, 0.0, -h - uniform(o, 0.15, 0.5))
        limb(o, 0, wp.vec3(0.8 * x, 0.0, -0.6 * h), foot, leg, 0.9 * leg)
        mirror(o, True, False)
        smooth(o, 0.05)
        ball(o, wp.where(chance(o, 0.5), 0, 2), foot - wp.vec3(0.0, 0.08, 0.05), leg * wp.vec3(1.05, 1.5, 0.8))
        mirror(o, True, False)
    if chance(o, 0.4):  # belly
        ball(o, 1, wp.vec3(0.0, -0.45 * d, -0.05), wp.vec3(0.7 * w, 0.65 * d, 0.75 * h))


@wp.func
def doll(o: Sketch):
    """Pegs and figures: a smooth body, arms at the sides, a head with hair or a cap."""
    if chance(o, 0.5):
        one_coat(o)
        paint(o, 3, hue_colour(uniform(o, 0.02, 0.1), uniform(o, 0.4, 0.9), uniform(o, 0.15, 0.6)))
    w = uniform(o, 0.26, 0.42)
    h = uniform(o, 0.45, 0.7)
    kind = choose(o, 3)
    if kind == 0:
        vase(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, 1.05 * w, w), wp.vec3(0.85 * w, 0.7 * w, 0.45 * w), h, 0.0)
    elif kind == 1:
        cone(o, 0, wp.vec3(0.0, 0.0, 0.0), w, w * uniform(o, 0.4, 0.9), h, 0.1)
    else:
        limb(o, 0, wp.vec3(0.0, 0.0, -h + w), wp.vec3(0.0, 0.0, h - 0.7 * w), w, 0.75 * w)
    r = uniform(o, 0.26, 0.4)
    top = h + 0.75 * r
    ball(o, 1, wp.vec3(0.0, 0.0, top), wp.vec3(r, r, r * uniform(o, 1.0, 1.15)))
    hair = choose(o, 4)
    if hair == 0:
        cone(o, 3, wp.vec3(0.0, 0.0, top + 0.65 * r), 1.02 * r, 0.95 * r, 0.45 * r, 0.1)
    elif hair == 1:
        ball(o, 3, wp.vec3(0.0, 0.12 * r, top + 0.25 * r), wp.vec3(1.08 * r, 1.08 * r, 0.95 * r))
    elif hair == 2:
        cone(o, 3, wp.vec3(0.0, 0.0, top + r), 1.05 * r, 0.05, 0.7 * r, 0.03)
    thick = uniform(o, 0.08, 0.13)
    if chance(o, 0.75):
        hand = wp.vec3(w + uniform(o, 0.05, 0.25), -uniform(o, 0.0, 0.2), uniform(o, -0.6, 0.1) * h)
        limb(o, wp.where(chance(o, 0.5), 0, 2), wp.vec3(0.75 * w, 0.0, 0.55 * h), hand, thick, 0.9 * thick)
        mirror(o, True, False)
    if chance(o, 0.6):
        limb(o, 2, wp.vec3(0.5 * w, 0.0, -h), wp.vec3(0.5 * w, 0.0, -h - uniform(o, 0.1, 0.4)), 0.4 * w, 0.36 * w)
        mirror(o, True, False)
        if chance(o, 0.6):
            ball(o, 3, wp.vec3(0.5 * w, -0.1, -h - 0.35), wp.vec3(0.42 * w, 0.65 * w, 0.3 * w))
            mirror(o, True, False)
    elif chance(o, 0.5):
        cone(o, 3, wp.vec3(0.0, 0.0, -h), 1.1 * w, 1.05 * w, 0.08, 0.03)
    if chance(o, 0.5):
        eyes(o, 0.38 * r, -0.88 * r, top + 0.05, 0.05)


@wp.func
def poultry(o: Sketch):
    """Ducks and hens: a boat of a body with an upright tail, a neck, a round head with a beak; legs or water under them."""
    if chance(o, 0.6):
        hue = wp.where(chance(o, 0.5), uniform(o, 0.11, 0.16), uniform(o, 0.02, 0.1))
        plain(o, 0, hue_colour(hue, uniform(o, 0.2, 0.95), uniform(o, 0.35, 1.0)), 0.0, uniform(o, 0.2, 0.8))
    plain(o, 1, hue_colour(uniform(o, 0.0, 0.12), uniform(o, 0.7, 1.0), uniform(o, 0.6, 1.0)), 0.0, 0.5)
    long = uniform(o, 0.5, 0.7)
    fat = long * uniform(o, 0.6, 0.8)
    ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(fat, long, fat * uniform(o, 0.75, 1.0)))
    limb(o, 0, wp.vec3(0.0, 0.6 * long, 0.05), wp.vec3(0.0, 1.15 * long, uniform(o, 0.2, 0.6)), 0.3, uniform(o, 0.06, 0.16))
    smooth(o, 0.15)
    r = uniform(o, 0.2, 0.36)
    head = wp.vec3(0.0, -0.75 * long, fat * 0.7 + r + uniform(o, 0.0, 0.35))
    limb(o, 0, wp.vec3(0.0, -0.5 * long, 0.1), head, 0.3, 0.75 * r)
    smooth(o, 0.15)
    ball(o, 0, head, wp.vec3(r, r, r))
    beak = head + wp.vec3(0.0, -r - 0.1, -0.05)
    if chance(o, 0.5):
        ball(o, 1, beak, wp.vec3(0.16, 0.2, 0.07))
    else:
        cone(o, 1, beak, 0.12, 0.03, 0.16, 0.02)
        turn(o, about(0, QUARTER))
    if chance(o, 0.5):
        limb(o, 1, head + wp.vec3(0.0, -0.1, r), head + wp.vec3(0.0, 0.2, r), 0.07, 0.08)
    eyes(o, 0.75 * r, head[1] - 0.45 * r, head[2] + 0.2 * r, 0.05)
    ball(o, wp.where(chance(o, 0.6), 0, 2), wp.vec3(0.85 * fat, 0.1, 0.05), wp.vec3(0.15, 0.6 * long, 0.6 * fat))
    mirror(o, True, False)
    under = choose(o, 3)
    if under == 0:
        limb(o, 1, wp.vec3(0.4 * fat, 0.0, -0.6 * fat), wp.vec3(0.4 * fat, 0.0, -fat - 0.3), 0.05, 0.04)
        mirror(o, True, False)
        block(o, 1, wp.vec3(0.4 * fat, -0.1, -fat - 0.32), wp.vec3(0.1, 0.17, 0.035), 0.03)
        mirror(o, True, False)
    elif under == 1:
        cone(o, 3, wp.vec3(0.0, 0.0, -0.7 * fat), uniform(o, 0.8, 1.05), 0.8, 0.06, 0.03)
