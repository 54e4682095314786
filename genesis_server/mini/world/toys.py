# SPDX-License-Identifier: Apache-2.0
"""What people draw and photograph most: cakes, guitars and rackets, flowers face-on, shoes, open vessels, pineapples; ten
slots with the figures."""

import warp as wp

from .figures import doll, plush, poultry
from .launch import OPTIONS
from .scenery import leaves
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
    hue_colour,
    limb,
    mirror,
    net,
    paint,
    plain,
    repeat,
    ring,
    row,
    smooth,
    star,
    turn,
    uniform,
    vase,
)
from .things import QUARTER, handle

wp.set_module_options(OPTIONS)


@wp.func
def dessert(o: Sketch):
    """Cupcakes, ice cream, cakes and puddings: a cup or cone, something soft in rings or balls, something on top."""
    low = uniform(o, 0.35, 0.55)
    wide = low * uniform(o, 1.1, 1.45)
    h = uniform(o, 0.25, 0.4)
    axis = choose(o, 3)
    for c in range(3):
        o.materials[o.row, 0, 8 + c] = wp.where(c == axis, 1.0, 0.0)
    plain(o, 1, hue_colour(uniform(o, 0.04, 0.11), uniform(o, 0.4, 0.9), uniform(o, 0.3, 0.85)), 0.0, 0.8)
    cream = uniform(o, 0.0, 1.0)
    plain(o, 2, hue_colour(cream, uniform(o, 0.0, 0.6), uniform(o, 0.7, 1.0)), 0.0, uniform(o, 0.3, 0.8))
    kind = choose(o, 5)
    if kind == 0:  # a wafer
        cone(o, 1, wp.vec3(0.0, 0.0, -0.5), 0.08, 0.75 * wide, 0.55, 0.02)
        wide = 0.8 * wide
        h = 0.05
    elif kind == 1:  # a cake on a plate
        cone(o, 0, wp.vec3(0.0, 0.0, 0.0), 1.2 * wide, 1.2 * wide, h, 0.05)
        cone(o, 3, wp.vec3(0.0, 0.0, -h - 0.04), 1.5 * wide, 1.6 * wide, 0.05, 0.03)
        wide = 1.15 * wide
    else:
        cone(o, 0, wp.vec3(0.0, 0.0, 0.0), low, wide, h, 0.03)
        ball(o, 1, wp.vec3(0.0, 0.0, h), wp.vec3(0.97 * wide, 0.97 * wide, 0.35 * wide))
    z = h + 0.12
    soft = choose(o, 3)
    tiers = 3 + choose(o, 2)
    r = 0.85 * wide
    if soft == 0:  # a swirl
        limb(o, 2, wp.vec3(0.0, 0.0, h), wp.vec3(0.0, 0.0, h + 0.16 * float(tiers) + 0.2), 0.55 * wide, 0.06)
        for tier in range(tiers):
            t = 0.16 - 0.02 * float(tier)
            ring(o, 2, wp.vec3(0.0, 0.0, z), wp.max(r - t, 0.06), t, 3.1416)
            turn(o, about(0, QUARTER + uniform(o, -0.1, 0.1)))
            z += 1.35 * t
            r *= uniform(o, 0.62, 0.78)
    elif soft == 1:  # scoops
        ball(o, 2, wp.vec3(0.0, 0.0, z + 0.1), wp.vec3(0.8 * wide, 0.8 * wide, 0.75 * wide))
        if chance(o, 0.5):
            ball(o, 3, wp.vec3(0.0, 0.0, z + 0.8 * wide), wp.vec3(0.65 * wide, 0.65 * wide, 0.6 * wide))
            z += 0.6 * wide
        z += 0.7 * wide
    else:  # icing with drops
        vase(
            o,
            2,
            wp.vec3(0.0, 0.0, z + 0.15),
            wp.vec3(wide, 0.98 * wide, 0.85 * wide),
            wp.vec3(0.6 * wide, 0.35 * wide, 0.08),
            0.3,
            0.0,
        )
        ball(o, 2, wp.vec3(0.75 * wide, 0.0, z), wp.vec3(0.2, 0.2, 0.16))
        repeat(o, 5 + choose(o, 4))
        z += 0.35
    if chance(o, 0.7):
        plain(o, 4, hue_colour(uniform(o, -0.05, 0.03), uniform(o, 0.7, 1.0), uniform(o, 0.5, 0.95)), 0.0, 0.2)
        s = uniform(o, 0.09, 0.16)
        ball(o, 4, wp.vec3(0.0, 0.0, z + s), wp.vec3(s, s, s))
        if chance(o, 0.5):
            limb(o, 1, wp.vec3(0.0, 0.0, z + 1.8 * s), wp.vec3(0.15, 0.0, z + 1.8 * s + 0.3), 0.03, 0.03)


@wp.func
def on_a_neck(o: Sketch):
    """Guitars, fiddles, rackets, spoons, hammers, brushes, magnifying glasses: a flat body on a long thin neck."""
    if chance(o, 0.6):
        plain(o, 0, hue_colour(uniform(o, 0.02, 0.13), uniform(o, 0.3, 0.9), uniform(o, 0.3, 0.95)), 0.0, uniform(o, 0.15, 0.7))
    if chance(o, 0.6):
        plain(o, 1, hue_colour(uniform(o, 0.02, 0.1), uniform(o, 0.3, 0.8), uniform(o, 0.1, 0.5)), 0.0, uniform(o, 0.2, 0.8))
    d = uniform(o, 0.07, 0.16)
    w = uniform(o, 0.3, 0.45)
    long = uniform(o, 0.7, 1.1)
    thin = uniform(o, 0.045, 0.085)
    kind = choose(o, 8)
    if kind < 4:  # strings
        cone(o, 0, wp.vec3(0.0, 0.0, -0.35), w, w, d, 0.03)
        turn(o, about(0, QUARTER))
        upper = w * uniform(o, 0.65, 0.85)
        cone(o, 0, wp.vec3(0.0, 0.0, 0.05 + 0.3 * w), upper, upper, d, 0.03)
        turn(o, about(0, QUARTER))
        smooth(o, uniform(o, 0.02, 0.12))
        plain(o, 3, hue_colour(uniform(o, 0.0, 0.1), 0.4, uniform(o, 0.03, 0.2)), 0.0, 0.5)
        if chance(o, 0.8):
            cone(o, 3, wp.vec3(0.0, -d, 0.0), 0.13, 0.13, 0.03, 0.0)
            turn(o, about(0, QUARTER))
        block(o, 1, wp.vec3(0.0, -0.7 * d, 0.15 + 0.5 * long), wp.vec3(thin, 0.06, 0.55 * long), 0.02)
        block(
            o, wp.where(chance(o, 0.5), 1, 0), wp.vec3(0.0, -0.5 * d, 0.2 + 1.05 * long), wp.vec3(1.6 * thin, 0.05, 0.16), 0.02
        )
        block(o, 3, wp.vec3(0.0, -d - 0.02, -0.45), wp.vec3(0.35 * w, 0.035, 0.04), 0.01)
        if chance(o, 0.4):  # pins
            limb(o, 4, wp.vec3(0.0, -0.5 * d, 0.2 + 1.05 * long), wp.vec3(2.6 * thin, -0.5 * d, 0.2 + 1.05 * long), 0.03, 0.03)
            mirror(o, True, False)
        if chance(o, 0.4):  # a cutaway
            ball(o, 0, wp.vec3(upper, 0.0, 0.15 + 0.9 * w), wp.vec3(0.2, 0.3, 0.2))
            cut(o)
    else:
        block(o, 1, wp.vec3(0.0, 0.0, -0.45 * long), wp.vec3(thin, thin, 0.5 * long), thin)
        z = w + 0.02
        if kind == 4:  # a racket, a magnifying glass
            ring(o, 0, wp.vec3(0.0, 0.0, z), w, uniform(o, 0.05, 0.08), 3.1416)
            if chance(o, 0.5):
                net(o, 2, wp.vec3(0.0, 0.0, z), w, w, 0.16, 0.16, 0.028, True)
            else:
                cone(o, 2, wp.vec3(0.0, 0.0, z), w, w, 0.035, 0.0)
                turn(o, about(0, QUARTER))
        elif kind == 5:  # a spoon, a paddle
            ball(o, wp.where(chance(o, 0.5), 0, 1), wp.vec3(0.0, 0.0, z), wp.vec3(0.75 * w, 0.27 * w, w))
        elif kind == 6:  # a hammer, an axe
            limb(o, 0, wp.vec3(-w, 0.0, 0.1), wp.vec3(w, 0.0, 0.1), 0.16, 0.12)
        else:  # a brush, a broom
            cone(o, 0, wp.vec3(0.0, 0.0, 0.2), uniform(o, 0.1, 0.2), uniform(o, 0.15, 0.4), 0.22, 0.02)


@wp.func
def blossom(o: Sketch):
    """One flower that faces the viewer, flat petals around its middle, on a stem with leaves, often in a pot."""
    leaves(o, 2)
    plain(o, 1, hue_colour(uniform(o, 0.1, 0.17), uniform(o, 0.6, 1.0), uniform(o, 0.6, 1.0)), 0.0, 0.7)
    r = uniform(o, 0.32, 0.5)
    d = uniform(o, 0.06, 0.14)
    z = uniform(o, 0.4, 0.6)
    head = wp.vec3(uniform(o, -0.25, 0.15), 0.0, z)
    lean = uniform(o, -0.5, 0.1)
    kind = choose(o, 3)
    if kind == 0:
        blob(o, 0, head, 0.8 * r, wp.vec3(0.0, 0.0, uniform(o, 0.1, 0.22)), 0.0, d, d)
    elif kind == 1:
        star(o, 0, head, r, 6 + choose(o, 7), uniform(o, 2.3, 3.2), d, 0.7 * d)
    else:
        cone(o, 0, head, r, r, d, 0.8 * d)
        turn(o, about(0, QUARTER + lean))
    if kind < 2:
        turn(o, about(0, lean))
    s = r * uniform(o, 0.25, 0.45)
    ball(o, 1, head + wp.vec3(0.0, -d, 0.0), wp.vec3(s, 0.5 * s, s))
    fork = wp.vec3(0.0, 0.0, -0.5)
    limb(o, 2, head + wp.vec3(0.0, 0.6 * d, 0.0), fork, 0.045, 0.055)
    leaf = choose(o, 3)
    if leaf > 0:
        blob(o, 2, wp.vec3(0.3, 0.0, -0.2), 0.22, wp.vec3(0.35, 0.0, 0.0), 0.0, 0.06, 0.05)
        turn(o, about(1, -uniform(o, 0.2, 0.9)))
        mirror(o, leaf == 2, False)
        limb(o, 2, fork + wp.vec3(0.0, 0.0, 0.05), wp.vec3(0.25, 0.0, -0.23), 0.035, 0.035)
        mirror(o, leaf == 2, False)
    if chance(o, 0.75):
        wide = uniform(o, 0.25, 0.4)
        cone(o, 3, wp.vec3(0.0, 0.0, -0.75), 0.75 * wide, wide, 0.25, 0.02)
        if chance(o, 0.7):
            cone(o, 3, wp.vec3(0.0, 0.0, -0.5), 1.15 * wide, 1.15 * wide, 0.06, 0.02)


@wp.func
def shoe(o: Sketch):
    """A sole like a slab, an upper of balls: nothing is cut but the opening."""
    long = uniform(o, 0.65, 0.85)
    wide = uniform(o, 0.22, 0.3)
    half = uniform(o, 0.05, 0.1)
    tall = wp.where(chance(o, 0.35), uniform(o, 0.45, 0.9), uniform(o, 0.1, 0.28))
    plain(o, 1, hue_colour(uniform(o, 0.0, 1.0), uniform(o, 0.0, 0.4), wp.where(chance(o, 0.5), 0.1, 0.9)), 0.0, 0.7)
    block(o, 1, wp.vec3(0.0, 0.0, -0.3), wp.vec3(long + wide, wide, half), half)
    if chance(o, 0.3):  # a heel
        block(o, 1, wp.vec3(-long, 0.0, -0.3 - half), wp.vec3(0.2, 0.9 * wide, 0.12), 0.03)
    ball(o, 0, wp.vec3(0.6 * long, 0.0, -0.24), wp.vec3(0.42 * long, 0.92 * wide, uniform(o, 0.2, 0.32)))
    limb(o, 0, wp.vec3(0.45 * long, 0.0, -0.15), wp.vec3(-0.55 * long, 0.0, 0.05 + 0.6 * tall), 0.7 * wide, 0.8 * wide)
    smooth(o, 0.15)
    limb(o, 0, wp.vec3(-0.7 * long, 0.0, -0.15), wp.vec3(-0.7 * long, 0.0, 0.1 + tall), 0.95 * wide, 0.85 * wide)
    smooth(o, 0.12)
    limb(o, 2, wp.vec3(-0.7 * long, 0.0, 0.15 + tall), wp.vec3(-0.7 * long, 0.0, 0.8 + tall), 0.6 * wide, 0.8 * wide)
    cut(o)
    if chance(o, 0.6):  # laces
        limb(o, 3, wp.vec3(0.0, 0.55 * wide, 0.12 + 0.3 * tall), wp.vec3(0.0, -0.55 * wide, 0.12 + 0.3 * tall), 0.05, 0.05)
        row(o, 3, 0.16, 0)
        smooth(o, 0.02)
    if chance(o, 0.5):
        ball(o, 4, wp.vec3(0.75 * long, 0.0, -0.27), wp.vec3(0.33 * long, 1.02 * wide, 0.2))


@wp.func
def hollow(o: Sketch):
    """Cups, buckets, barrels, bowls and pots that are empty, or nearly, and inside as they are outside."""
    for m in range(1, 3):
        near = uniform(o, 0.85, 1.1)
        colour = wp.vec3(o.materials[o.row, 0, 0], o.materials[o.row, 0, 1], o.materials[o.row, 0, 2])
        plain(o, m, wp.min(near, 1.0) * colour, o.materials[o.row, 0, 12], o.materials[o.row, 0, 13])
    kind = choose(o, 5)
    h = uniform(o, 0.5, 0.85)
    low = uniform(o, 0.35, 0.65)
    wall = uniform(o, 0.06, 0.1)
    p = wp.vec3(0.0, 0.0, 0.0)
    if kind == 0:  # a barrel
        plain(o, 0, hue_colour(uniform(o, 0.03, 0.1), uniform(o, 0.3, 0.8), uniform(o, 0.2, 0.6)), 0.0, 0.8)
        for c in range(3):
            o.materials[o.row, 1, c] = o.materials[o.row, 0, c]
        belly = low * uniform(o, 1.05, 1.2)
        closed = chance(o, 0.6)
        vase(o, 0, p, wp.vec3(low, belly, 1.02 * belly), wp.vec3(1.02 * belly, belly, low), h, wp.where(closed, 0.0, wall))
        for k in range(2):
            z = uniform(o, 0.35, 0.75) * h
            ring(o, 3, wp.vec3(0.0, 0.0, wp.where(k == 0, z, -z)), 0.5 * (low + belly), 0.045, 3.1416)
            turn(o, about(0, QUARTER))
    elif kind == 1:  # a cup or a bucket
        top = low * uniform(o, 1.1, 1.5)
        vase(
            o,
            0,
            p,
            wp.vec3(low, low + 0.2 * (top - low), low + 0.4 * (top - low)),
            wp.vec3(low + 0.6 * (top - low), top - 0.2 * (top - low), top),
            h,
            wall,
        )
        if chance(o, 0.5):
            ring(o, wp.where(chance(o, 0.5), 0, 3), wp.vec3(0.0, 0.0, h - 0.02), top - 0.03, 0.05, 3.1416)
            turn(o, about(0, QUARTER))
        if chance(o, 0.3):  # a bail
            ring(o, 3, wp.vec3(0.0, 0.0, h - 0.05), top, 0.04, QUARTER)
    elif kind == 2:  # a bowl
        h = 0.5 * h
        top = low * uniform(o, 1.3, 1.9)
        vase(o, 0, p, wp.vec3(0.6 * low, 0.75 * top, 0.85 * top), wp.vec3(0.92 * top, 0.97 * top, top), h, wall)
        cone(o, 0, wp.vec3(0.0, 0.0, -h), 0.6 * low, 0.55 * low, 0.06, 0.02)
    else:  # a cup with its ear, on a saucer
        top = low * uniform(o, 1.0, 1.4)
        h = 0.75 * h
        vase(o, 0, p, wp.vec3(0.75 * low, low, 0.5 * (low + top)), wp.vec3(0.95 * top, top, top), h, wall)
        handle(o, 0, 0.95 * wp.min(top, 1.1 * low), 0.0, h * uniform(o, 0.45, 0.65), uniform(o, 0.055, 0.085))
        if chance(o, 0.5):
            plain(o, 4, hue_colour(uniform(o, 0.03, 0.1), uniform(o, 0.5, 0.9), uniform(o, 0.08, 0.35)), 0.0, 0.15)
            cone(o, 4, wp.vec3(0.0, 0.0, 0.1 * h), 0.9 * low, 0.85 * top, 0.6 * h, 0.0)
        if chance(o, 0.6):
            wide = top * uniform(o, 1.4, 1.8)
            vase(
                o,
                0,
                wp.vec3(0.0, 0.0, -h),
                wp.vec3(0.5 * wide, 0.7 * wide, 0.8 * wide),
                wp.vec3(0.9 * wide, 0.95 * wide, wide),
                0.08,
                0.0,
            )


@wp.func
def crowned(o: Sketch):
    """Pineapples, beets, onions, aloes: a patterned round body under a tuft of many leaves."""
    leaves(o, 2)
    o.materials[o.row, 2, 6] = 0.0
    if chance(o, 0.7):
        hue = uniform(o, 0.04, 0.15)
        paint(o, 0, hue_colour(hue, uniform(o, 0.6, 1.0), uniform(o, 0.6, 1.0)))
        second = hue_colour(hue + uniform(o, -0.05, 0.05), uniform(o, 0.6, 1.0), uniform(o, 0.25, 0.9))
        for c in range(3):
            o.materials[o.row, 0, 3 + c] = second[c]
        o.materials[o.row, 0, 12] = 0.0
        o.materials[o.row, 0, 7] = uniform(o, 3.5, 7.0)
    w = uniform(o, 0.38, 0.58)
    h = w * uniform(o, 1.0, 1.5)
    ball(o, 0, wp.vec3(0.0, 0.0, -0.35), wp.vec3(w, w, h))
    z = h - 0.42
    length = uniform(o, 0.35, 0.65)
    wide = uniform(o, 0.06, 0.11)
    count = 5 + choose(o, 4)
    for tier in range(3):
        t = float(tier)
        out = length * (1.0 - 0.25 * t)
        up = length * (uniform(o, 0.1, 0.5) + 0.35 * t)
        bend = 0.55 * out
        middle = wp.vec3(0.06 + bend, 0.0, z + 0.75 * up)
        limb(o, 2, wp.vec3(0.05, 0.0, z), middle, 1.2 * wide, wide)
        repeat(o, count - tier)
        limb(o, 2, middle, wp.vec3(0.06 + out, 0.0, z + up * uniform(o, 0.8, 1.1)), wide, 0.025)
        repeat(o, count - tier)
    limb(o, 2, wp.vec3(0.0, 0.0, z), wp.vec3(0.0, 0.0, z + 1.2 * length), 1.5 * wide, 0.03)


@wp.func
def toy(o: Sketch, k: int):
    """Number 0 to 9."""
    if k < 2:
        plush(o)
    elif k == 2:
        doll(o)
    elif k == 3:
        poultry(o)
    elif k == 4:
        dessert(o)
    elif k == 5:
        on_a_neck(o)
    elif k == 6:
        blossom(o)
    elif k == 7:
        shoe(o)
    elif k == 8:
        hollow(o)
    else:
        crowned(o)
