# SPDX-License-Identifier: Apache-2.0
"""Things that are nothing but rods, wires and slats: cages, shelves, wheels, bicycles, fences, ladders, rackets."""

import warp as wp

from .launch import OPTIONS
from .sketch import Sketch, about, ball, block, chance, choose, cone, fan, limb, mirror, net, repeat, ring, row, turn, uniform
from .slender import slim
from .things import QUARTER

wp.set_module_options(OPTIONS)


@wp.func
def cage(o: Sketch):
    """Frames of boxes, shelves, racks, bird cages, baskets, clothes horses, cribs."""
    rod = wp.max(slim(o), 0.018)
    w = uniform(o, 0.4, 0.8)
    d = uniform(o, 0.25, 0.6)
    h = uniform(o, 0.5, 0.95)
    kind = choose(o, 5)
    if kind == 0:  # round cage
        count = 8 + choose(o, 7)
        cone(o, 0, wp.vec3(0.0, 0.0, -h), w, w, 0.05, 0.02)
        limb(o, 1, wp.vec3(0.93 * w, 0.0, -h), wp.vec3(0.93 * w, 0.0, 0.4 * h), 0.8 * rod, 0.8 * rod)
        repeat(o, count)
        limb(o, 1, wp.vec3(0.93 * w, 0.0, 0.4 * h), wp.vec3(0.0, 0.0, h), 0.8 * rod, 0.8 * rod)
        repeat(o, count)
        ring(o, 1, wp.vec3(0.0, 0.0, 0.4 * h), 0.93 * w, rod, 3.1416)
        turn(o, about(0, QUARTER))
        ring(o, 1, wp.vec3(0.0, 0.0, h + 0.1), 0.1, rod, 3.1416)
    else:
        limb(o, 0, wp.vec3(w, d, -h), wp.vec3(w, d, h), rod, rod)
        mirror(o, True, True)
        if kind == 1:  # edges of a box
            limb(o, 0, wp.vec3(-w, d, 0.0), wp.vec3(w, d, 0.0), rod, rod)
            mirror(o, False, True)
            row(o, 2, 2.0 * h, 2)
            limb(o, 0, wp.vec3(w, -d, 0.0), wp.vec3(w, d, 0.0), rod, rod)
            mirror(o, True, False)
            row(o, 2, 2.0 * h, 2)
            if chance(o, 0.5):
                ball(o, 1, wp.vec3(0.0, 0.0, 0.0), 0.6 * wp.vec3(w, d, h))
        elif kind == 2:  # shelf
            boards = 2 + choose(o, 4)
            block(o, 1, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, d, uniform(o, 0.02, 0.05)), 0.01)
            row(o, boards, 1.8 * h / float(boards), 2)
            if chance(o, 0.5):
                block(o, 2, wp.vec3(0.3 * w, 0.0, 0.0), wp.vec3(0.3 * w, 0.7 * d, 0.2 * h), 0.03)
        elif kind == 3:  # bars on four sides
            gap = uniform(o, 0.13, 0.25)
            net(o, 1, wp.vec3(0.0, d, 0.0), w, h, gap, 0.0, 0.7 * rod, False)
            mirror(o, False, True)
            net(o, 1, wp.vec3(w, 0.0, 0.0), d, h, gap, 0.0, 0.7 * rod, False)
            turn(o, about(2, QUARTER))
            mirror(o, True, False)
            block(o, 2, wp.vec3(0.0, 0.0, -0.6 * h), wp.vec3(w, d, 0.05), 0.02)
            block(o, 2, wp.vec3(0.0, d, 0.0), wp.vec3(w, 0.03, 0.04), 0.01)
            mirror(o, False, True)
            row(o, 2, 2.0 * h, 2)
        else:  # clothes horse
            limb(o, 1, wp.vec3(-w, 0.0, 0.0), wp.vec3(w, 0.0, 0.0), rod, rod)
            row(o, 2 + choose(o, 4), 2.0 * d / 4.0, 1)
            row(o, 2 + choose(o, 4), uniform(o, 0.3, 0.5), 2)
            limb(o, 0, wp.vec3(w, d, h), wp.vec3(w, -d, h), rod, rod)
            mirror(o, True, False)


@wp.func
def spoked(o: Sketch, m: int, centre: wp.vec3, r: float, tube: float, rod: float, count: int):
    """A wheel in the x-z plane: tyre, spokes, hub; three primitives."""
    ring(o, m, centre, r, tube, 3.1416)
    fan(o, m + 1, centre, r, 0.0, rod, count, 6.28319 / float(count))
    cone(o, m + 1, centre, 3.0 * rod, 3.0 * rod, 0.08, 0.01)
    turn(o, about(0, QUARTER))


@wp.func
def on_wheels(o: Sketch):
    """Bicycles, cart wheels, Ferris wheels, barrows."""
    kind = choose(o, 4)
    rod = slim(o)
    thin = wp.max(0.5 * rod, 0.013)
    tube = rod * uniform(o, 1.0, 1.8)
    if kind < 2:
        r = uniform(o, 0.34, 0.46)
        x = uniform(o, 0.6, 0.75)
        spoked(o, 3, wp.vec3(-x, 0.0, -0.4), r, tube, thin, 5 + choose(o, 10))
        spoked(o, 3, wp.vec3(x, 0.0, -0.4), r, tube, thin, 5 + choose(o, 10))
        crank = wp.vec3(-0.1, 0.0, -0.42)
        saddle = wp.vec3(-0.3, 0.0, uniform(o, 0.15, 0.3))
        head = wp.vec3(x - 0.2, 0.0, uniform(o, 0.25, 0.45))
        limb(o, 0, wp.vec3(x, 0.0, -0.4), head, rod, rod)
        limb(o, 0, crank, saddle, rod, rod)
        limb(o, 0, crank, head - wp.vec3(0.0, 0.0, 0.15), rod, rod)
        limb(o, 0, saddle - wp.vec3(0.0, 0.0, 0.1), head - wp.vec3(0.0, 0.0, 0.12), rod, rod)
        limb(o, 0, wp.vec3(-x, 0.0, -0.4), saddle - wp.vec3(0.0, 0.0, 0.12), 0.9 * rod, 0.9 * rod)
        limb(o, 0, wp.vec3(-x, 0.0, -0.4), crank, 0.9 * rod, 0.9 * rod)
        limb(o, 1, head + wp.vec3(0.0, -0.25, 0.0), head + wp.vec3(0.0, 0.25, 0.0), rod, rod)
        block(o, 1, saddle, wp.vec3(0.13, 0.06, 0.04), 0.03)
    elif kind == 2:
        r = uniform(o, 0.7, 0.9)
        spoked(o, 0, wp.vec3(0.0, 0.0, 0.0), r, tube, rod, 4 + choose(o, 9))
        if chance(o, 0.5):
            ring(o, 2, wp.vec3(0.0, 0.0, 0.0), 0.6 * r, rod, 3.1416)
        if chance(o, 0.5):
            limb(o, 3, wp.vec3(0.0, 0.1, 0.0), wp.vec3(0.45, 0.12, -1.05), rod, rod)
            mirror(o, True, True)
    else:
        r = uniform(o, 0.3, 0.45)
        spoked(o, 2, wp.vec3(-0.45, 0.4, -0.3), r, tube, thin, 5 + choose(o, 6))
        mirror(o, False, True)
        spoked(o, 2, wp.vec3(-0.45, -0.4, -0.3), r, tube, thin, 5 + choose(o, 6))
        block(o, 0, wp.vec3(-0.3, 0.0, 0.05), wp.vec3(0.6, 0.32, uniform(o, 0.05, 0.25)), 0.03)
        limb(o, 1, wp.vec3(0.2, 0.25, 0.0), wp.vec3(0.95, 0.25, uniform(o, 0.0, 0.3)), rod, rod)
        mirror(o, False, True)


@wp.func
def grid_work(o: Sketch):
    """Fences, ladders, rackets, grilles, brooms, rakes: flat work of rods."""
    rod = slim(o)
    kind = choose(o, 5)
    w = uniform(o, 0.5, 0.95)
    h = uniform(o, 0.4, 0.9)
    if kind == 0:  # fence of slats
        count = 4 + choose(o, 6)
        wide = uniform(o, 0.2, 0.4) * 2.0 * w / float(count)
        block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(wide, 0.03, h), 0.02)
        row(o, count, 2.0 * w / float(count), 0)
        block(o, 1, wp.vec3(0.0, 0.05, 0.0), wp.vec3(w, 0.03, 0.05), 0.01)
        row(o, 2, h * uniform(o, 0.7, 1.3), 2)
    elif kind == 1:  # ladder
        narrow = uniform(o, 0.18, 0.4)
        tilt = uniform(o, -0.1, 0.5)
        count = 4 + choose(o, 6)
        limb(o, 0, wp.vec3(narrow, 0.0, -0.95), wp.vec3(narrow * uniform(o, 0.7, 1.0), tilt, 0.95), 1.2 * rod, 1.2 * rod)
        mirror(o, True, False)
        for k in range(count):
            t = (float(k) + 0.7) / (float(count) + 0.4)
            z = 1.9 * t - 0.95
            limb(o, 1, wp.vec3(-narrow, tilt * t, z), wp.vec3(narrow, tilt * t, z), 0.8 * rod, 0.8 * rod)
        if chance(o, 0.4):
            limb(o, 0, wp.vec3(narrow, tilt + 0.55, -0.95), wp.vec3(narrow, tilt, 0.95), 1.2 * rod, 1.2 * rod)
            mirror(o, True, False)
    elif kind == 2:  # racket
        r = uniform(o, 0.36, 0.5)
        mesh = uniform(o, 0.09, 0.16)
        ring(o, 0, wp.vec3(0.0, 0.0, 0.5), r, 1.2 * rod + 0.01, 3.1416)
        net(o, 1, wp.vec3(0.0, 0.0, 0.5), r, r, mesh, mesh, 0.013, True)
        limb(o, 0, wp.vec3(0.0, 0.0, 0.5 - r), wp.vec3(0.0, 0.0, -1.0), 1.2 * rod + 0.01, 1.3 * rod + 0.01)
        limb(o, 2, wp.vec3(0.0, 0.0, -0.6), wp.vec3(0.0, 0.0, -1.0), 1.3 * rod + 0.03, 1.3 * rod + 0.03)
    elif kind == 3:  # grille
        net(o, 0, wp.vec3(0.0, 0.0, 0.0), w, h, uniform(o, 0.15, 0.3), uniform(o, 0.15, 0.3), 0.8 * rod, chance(o, 0.3))
        limb(o, 1, wp.vec3(w, 0.0, -h - 0.1), wp.vec3(w, 0.0, h + 0.1), 1.5 * rod, 1.5 * rod)
        mirror(o, True, False)
        limb(o, 1, wp.vec3(-w, 0.0, 0.0), wp.vec3(w, 0.0, 0.0), 1.3 * rod, 1.3 * rod)
        row(o, 2, 2.0 * h, 2)
    else:  # rake, broom, fork
        limb(o, 0, wp.vec3(0.0, 0.0, -1.0), wp.vec3(0.0, 0.0, 0.5), 1.2 * rod, 1.2 * rod)
        count = 3 + choose(o, 6)
        fan(o, 1, wp.vec3(0.0, 0.0, 0.45), 0.5, 0.05 + uniform(o, 0.0, 0.4), 0.7 * rod, count, uniform(o, 0.1, 0.22))
        block(o, 0, wp.vec3(0.0, 0.0, 0.5), wp.vec3(uniform(o, 0.05, 0.3), 0.05, 0.05), 0.02)
