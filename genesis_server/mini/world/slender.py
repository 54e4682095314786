# SPDX-License-Identifier: Apache-2.0
"""Things on thin legs and stems, 1.5 to 7 voxels of 128 thick: chairs, tables, lamps, bare trees, rocking toys."""

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
    fan,
    hue_colour,
    limb,
    mirror,
    plain,
    repeat,
    ring,
    row,
    smooth,
    turn,
    uniform,
    vase,
)
from .things import QUARTER

wp.set_module_options(OPTIONS)


@wp.func
def slim(o: Sketch) -> float:
    """Radius of a rod, thin ones as likely as thick ones."""
    return 0.014 * wp.exp(uniform(o, 0.0, 1.4))


@wp.func
def finish(o: Sketch):
    """Half are of wood throughout, a quarter of one lacquer or metal; the others keep their palette."""
    k = choose(o, 8)
    if k < 6:
        hue = wp.where(k < 4, uniform(o, 0.03, 0.12), uniform(o, 0.0, 1.0))
        saturation = wp.where(k < 4, uniform(o, 0.3, 0.8), uniform(o, 0.0, 0.9))
        value = wp.where(k < 4, uniform(o, 0.2, 0.85), uniform(o, 0.05, 0.97))
        metal = wp.where(k == 5, uniform(o, 0.85, 1.0), 0.0)
        rough = uniform(o, 0.2, 0.9)
        for m in range(4):
            plain(o, m, hue_colour(hue, saturation, wp.min(value * uniform(o, 0.85, 1.15), 1.0)), metal, rough)


@wp.func
def legs(o: Sketch, m: int, w: float, d: float, top: float, length: float, splay: float, rod: float):
    """Four legs, and often stretchers between them."""
    foot = wp.vec3(w + splay, d + splay, top - length)
    limb(o, m, wp.vec3(w, d, top), foot, rod, rod * uniform(o, 0.6, 1.1))
    mirror(o, True, True)
    thin = rod * uniform(o, 0.5, 0.9)
    t = uniform(o, 0.35, 0.75)
    x = w + t * splay
    y = d + t * splay
    z = top - t * length
    k = choose(o, 5)
    if k == 1 or k == 2:  # along the sides and across the middle
        limb(o, m, wp.vec3(x, -y, z), wp.vec3(x, y, z), thin, thin)
        mirror(o, True, False)
        limb(o, m, wp.vec3(-x, 0.0, z), wp.vec3(x, 0.0, z), thin, thin)
    if k == 3 or k == 4:  # all around
        limb(o, m, wp.vec3(-x, y, z), wp.vec3(x, y, z), thin, thin)
        mirror(o, False, True)
        limb(o, m, wp.vec3(x, -y, z), wp.vec3(x, y, z), thin, thin)
        mirror(o, True, False)


@wp.func
def rockers(o: Sketch, m: int, x: float, low: float, half: float, rod: float):
    """Two bows to rock on, along y."""
    radius = half * uniform(o, 1.3, 2.4)
    ring(o, m, wp.vec3(x, 0.0, low + radius), radius, rod, wp.asin(half / radius))
    turn(o, about(2, QUARTER) * about(1, 3.14159))
    mirror(o, True, False)


@wp.func
def framed_chair(o: Sketch):
    """Windsor, ladder-back, hoop-back and rocking chairs, with and without arms."""
    w = uniform(o, 0.34, 0.5)
    d = w * uniform(o, 0.85, 1.1)
    rod = wp.max(slim(o), 0.022)
    high = uniform(o, 0.6, 1.1)
    lean = uniform(o, 0.0, 0.2)
    long = uniform(o, 0.6, 0.95)
    splay = uniform(o, -0.02, 0.1)
    if chance(o, 0.7):
        block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, d, uniform(o, 0.03, 0.07)), 0.03)
    else:
        cone(o, 0, wp.vec3(0.0, 0.0, 0.0), 0.95 * w, w, uniform(o, 0.03, 0.07), 0.02)
    inset = wp.where(chance(o, 0.5), 0.85, 0.97)
    legs(o, 1, inset * w, inset * d, 0.0, long, splay, rod)
    x = 0.88 * w
    wide = x * uniform(o, 1.0, 1.25)
    foot = wp.vec3(x, 0.9 * d, 0.0)
    head = wp.vec3(wide, 0.9 * d + lean, high)
    kind = choose(o, 6)
    if kind == 0:  # hoop
        ring(o, 2, wp.vec3(0.0, 0.9 * d + lean, high - x), x, rod, QUARTER)
        limb(o, 2, foot, wp.vec3(x, 0.9 * d + lean, high - x), rod, rod)
    else:
        limb(o, 2, foot, head, rod, 0.9 * rod)
    mirror(o, True, False)
    if kind > 0:  # top rail
        half = uniform(o, 0.03, 0.11)
        block(o, 2, wp.vec3(0.0, 0.9 * d + lean, high), wp.vec3(wide + rod, wp.max(rod, 0.025), half), 0.02)
        turn(o, about(0, -wp.atan2(lean, high)))
    count = 3 + choose(o, 5)
    thin = wp.min(slim(o), 0.33 * x / float(count))
    if kind == 1 or kind == 2:  # slats
        bars = 2 + choose(o, 3)
        block(o, 3, wp.vec3(0.0, 0.9 * d + 0.5 * lean, 0.5 * high), wp.vec3(x, 0.02, 0.18 * high / float(bars)), 0.01)
        row(o, bars, 0.8 * high / float(bars), 2)
    elif kind == 3 and lean < 0.1:  # spindles like rays
        step = 1.7 * wide / (float(count) * (2.0 + high))
        fan(o, 3, wp.vec3(0.0, 0.9 * d + 0.5 * lean, 0.0), high, 2.0, thin, count, step)
    else:
        limb(
            o,
            3,
            wp.vec3(0.0, 0.9 * d, 0.0),
            wp.vec3(0.0, 0.9 * d + lean, wp.where(kind == 0, high - 0.2 * x, high)),
            thin,
            thin,
        )
        row(o, count, 1.8 * x / float(count), 0)
    if chance(o, 0.3):  # arms
        z = high * uniform(o, 0.25, 0.4)
        limb(o, 2, wp.vec3(w, 0.9 * d, z), wp.vec3(1.05 * w, -0.7 * d, z), 0.9 * rod, 1.2 * rod)
        mirror(o, True, False)
        limb(o, 2, wp.vec3(1.05 * w, -0.6 * d, z), wp.vec3(0.95 * w, -0.6 * d, 0.0), 0.8 * rod, 0.8 * rod)
        mirror(o, True, False)
    if chance(o, 0.25):
        rockers(o, 1, inset * w + splay, -long - 0.02, d * uniform(o, 1.3, 1.8), rod)


@wp.func
def framed_table(o: Sketch):
    """Tables, stools and benches on thin legs."""
    rod = wp.max(slim(o), 0.018)
    if chance(o, 0.5):  # stool
        r = uniform(o, 0.3, 0.5)
        cone(o, 0, wp.vec3(0.0, 0.0, 0.5), r, r, uniform(o, 0.03, 0.1), 0.03)
        if chance(o, 0.4):
            copies = 3 + choose(o, 2)
            z = uniform(o, -0.5, 0.1)
            splay = uniform(o, 0.0, 0.3)
            limb(o, 1, wp.vec3(0.8 * r, 0.0, 0.5), wp.vec3(0.8 * r + splay, 0.0, -0.9), rod, rod)
            repeat(o, copies)
            if chance(o, 0.6):
                ring(o, 1, wp.vec3(0.0, 0.0, z), 0.8 * r + splay * (0.5 - z) / 1.4, 0.8 * rod, 3.1416)
                turn(o, about(0, QUARTER))
        else:
            legs(o, 1, 0.6 * r, 0.6 * r, 0.5, uniform(o, 0.8, 1.5), uniform(o, 0.0, 0.2), rod)
    else:
        w = uniform(o, 0.6, 1.0)
        d = uniform(o, 0.35, 0.7)
        h = uniform(o, 0.7, 1.2)
        block(o, 0, wp.vec3(0.0, 0.0, 0.5), wp.vec3(w, d, uniform(o, 0.025, 0.06)), 0.02)
        legs(o, 1, 0.9 * w, 0.88 * d, 0.5, h, uniform(o, -0.1, 0.06), rod)
        if chance(o, 0.3):
            block(o, 2, wp.vec3(0.0, 0.0, 0.5 - h * uniform(o, 0.4, 0.8)), wp.vec3(0.9 * w, 0.85 * d, 0.025), 0.01)
    if chance(o, 0.35):
        s = uniform(o, 0.1, 0.2)
        vase(o, 3, wp.vec3(0.05, 0.0, 0.5 + 1.2 * s), wp.vec3(0.6 * s, s, s), wp.vec3(0.7 * s, 0.4 * s, 0.6 * s), s, 0.0)


@wp.func
def stand(o: Sketch):
    """Floor and desk lamps, coat stands, umbrellas, lollipop signs, music stands: something on a thin stem."""
    stem = slim(o)
    h = uniform(o, 0.6, 1.0)
    top = wp.vec3(uniform(o, -0.15, 0.15), 0.0, h)
    limb(o, 0, wp.vec3(0.0, 0.0, -0.95), top, stem, 0.9 * stem)
    foot = choose(o, 3)
    spread = uniform(o, 0.22, 0.5)
    if foot == 0:
        cone(o, 0, wp.vec3(0.0, 0.0, -0.95), spread, 0.7 * spread, uniform(o, 0.025, 0.06), 0.02)
    elif foot == 1:
        limb(o, 0, wp.vec3(0.0, 0.0, -0.95 + spread * uniform(o, 0.1, 1.2)), wp.vec3(spread, 0.0, -0.95), stem, stem)
        repeat(o, 3 + choose(o, 3))
    kind = choose(o, 6)
    r = uniform(o, 0.2, 0.55)
    if kind == 0:  # shade
        cone(o, 1, top, r, r * uniform(o, 0.3, 0.9), uniform(o, 0.15, 0.3), 0.02)
    elif kind == 1:  # hooks
        limb(o, 0, top - wp.vec3(0.0, 0.0, 0.25), top + wp.vec3(r, 0.0, uniform(o, -0.1, 0.2)), 0.8 * stem, 0.9 * stem)
        repeat(o, 3 + choose(o, 4))
    elif kind == 2:  # canopy
        vase(o, 1, top, wp.vec3(1.6 * r, 1.5 * r, 1.3 * r), wp.vec3(r, 0.6 * r, 0.1 * r), uniform(o, 0.1, 0.25), 0.0)
    elif kind == 3:  # sign
        cone(o, 1, top, r, r, 0.04, 0.02)
        turn(o, about(0, QUARTER))
        if chance(o, 0.5):
            ring(o, 2, top, r, 0.05, 3.1416)
    elif kind == 4:  # bent arm with a lamp
        elbow = top + wp.vec3(uniform(o, 0.3, 0.7), 0.0, uniform(o, -0.2, 0.2))
        limb(o, 0, top, elbow, stem, stem)
        cone(o, 1, elbow - wp.vec3(0.0, 0.0, 0.1), 0.5 * r, 0.2 * r, 0.12, 0.02)
        turn(o, about(1, uniform(o, -0.6, 0.3)))
    else:
        ball(o, 1, top, wp.vec3(0.6 * r, 0.6 * r, 0.6 * r))
        limb(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(1.4 * r, 0.0, 0.5 * h), 0.9 * stem, 0.9 * stem)
        mirror(o, True, False)
        ball(o, 1, wp.vec3(1.4 * r, 0.0, 0.5 * h), wp.vec3(0.35 * r, 0.35 * r, 0.35 * r))
        mirror(o, True, False)


@wp.func
def twigs(o: Sketch):
    """Bare trees, flowers and grasses on thin stems, in a pot or in the ground."""
    plain(o, 0, hue_colour(uniform(o, 0.05, 0.4), uniform(o, 0.3, 0.8), uniform(o, 0.2, 0.7)), 0.0, 0.8)
    rod = slim(o)
    if chance(o, 0.6):
        r = uniform(o, 0.2, 0.35)
        cone(o, 3, wp.vec3(0.0, 0.0, -0.75), 0.75 * r, r, uniform(o, 0.15, 0.28), 0.02)
    low = wp.vec3(0.0, 0.0, -0.8)
    fork = wp.vec3(0.0, 0.0, uniform(o, -0.5, -0.1))
    limb(o, 0, low, fork, 1.6 * rod, 1.3 * rod)
    count = 3 + choose(o, 5)
    kind = choose(o, 4)
    bloom = uniform(o, 0.07, 0.2)
    for k in range(count):
        a = 6.2832 * (float(k) + uniform(o, -0.3, 0.3)) / float(count)
        out = uniform(o, 0.1, 0.55)
        tip = wp.vec3(out * wp.cos(a), out * wp.sin(a), uniform(o, 0.2, 0.95))
        limb(o, 0, fork, tip, rod, 0.8 * rod)
        if kind == 0:  # twigs
            middle = 0.5 * (fork + tip)
            limb(o, 0, middle, middle + wp.vec3(uniform(o, -0.3, 0.3), uniform(o, -0.3, 0.3), 0.3), 0.8 * rod, 0.6 * rod)
        elif k < 5:
            ball(o, 1 + k % 2, tip, wp.vec3(bloom, bloom, bloom * uniform(o, 0.4, 1.2)))
    if kind == 1:
        blob(o, 2, wp.vec3(0.3, 0.0, -0.2), 0.25, wp.vec3(0.3, 0.0, 0.0), 0.0, 0.03, 0.02)
        turn(o, about(1, uniform(o, -0.8, 0.8)))


@wp.func
def rocking(o: Sketch):
    """Rocking horses and other toys on bows, sleighs: flat or round bodies, thin handles."""
    rod = slim(o)
    long = uniform(o, 0.5, 0.7)
    leg = uniform(o, 0.3, 0.5)
    flat = uniform(o, 0.1, 0.25)
    if chance(o, 0.5):
        ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(flat + 0.08, long, 0.3))
    else:
        block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(flat, long, uniform(o, 0.06, 0.2)), 0.05)
    head = wp.vec3(0.0, -long - 0.15, uniform(o, 0.5, 0.8))
    limb(o, 0, wp.vec3(0.0, -0.75 * long, 0.0), head, 0.22, 0.14)
    smooth(o, 0.06)
    limb(o, 1, head, head + wp.vec3(0.0, -0.22, -0.12), 0.14, 0.09)
    limb(o, 2, head + wp.vec3(-0.35, 0.1, -0.12), head + wp.vec3(0.35, 0.1, -0.12), wp.max(rod, 0.018), wp.max(rod, 0.018))
    limb(o, 3, wp.vec3(0.0, 0.95 * long, 0.05), wp.vec3(0.0, long + 0.2, uniform(o, -0.1, 0.45)), 0.1, 0.05)
    x = flat + uniform(o, 0.08, 0.25)
    limb(o, 1, wp.vec3(flat, 0.75 * long, -0.05), wp.vec3(x, 0.8 * long, -leg), 1.5 * rod + 0.02, 1.5 * rod)
    mirror(o, True, True)
    half = long + uniform(o, 0.15, 0.5)
    rockers(o, 2, x, -leg - 0.16, half, 1.4 * rod + 0.01)
    limb(o, 3, wp.vec3(-x, 0.0, 0.0), wp.vec3(x, 0.0, 0.0), rod, rod)
    o.primitives[o.row, o.used[o.row] - 1, 5] = 0.7 * long
    o.primitives[o.row, o.used[o.row] - 1, 6] = -leg
    mirror(o, False, True)
