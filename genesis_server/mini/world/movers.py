# SPDX-License-Identifier: Apache-2.0
"""What moves: cars, trucks, robots, animals (docs/spec/mini.md 1). Cars point to +x, robots and animals to -y."""

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
    hue_colour,
    limb,
    mirror,
    paint,
    plain,
    prism,
    smooth,
    turn,
    uniform,
    vase,
)
from .things import QUARTER

wp.set_module_options(OPTIONS)


@wp.func
def wheels(o: Sketch, x: float, y: float, z: float, radius: float):
    """Four tyres with hubs."""
    cone(o, 3, wp.vec3(x, y, z), radius, radius, 0.12, 0.04)
    turn(o, about(0, QUARTER))
    mirror(o, True, True)
    cone(o, 4, wp.vec3(x, y + 0.06, z), 0.55 * radius, 0.5 * radius, 0.1, 0.02)
    turn(o, about(0, -QUARTER))
    mirror(o, True, True)


@wp.func
def car(o: Sketch):
    """Saloon, van, pick-up: hull, cabin of glass with a roof, lights, bumpers."""
    plain(o, 1, hue_colour(uniform(o, 0.5, 0.65), uniform(o, 0.1, 0.5), uniform(o, 0.2, 0.85)), 0.0, 0.15)
    plain(o, 3, hue_colour(0.0, 0.0, uniform(o, 0.1, 0.28)), 0.0, 0.85)
    long = uniform(o, 0.85, 1.05)
    wide = uniform(o, 0.38, 0.5)
    high = uniform(o, 0.15, 0.24)
    block(o, 0, wp.vec3(0.0, 0.0, -0.1), wp.vec3(long, wide, high), uniform(o, 0.05, 0.14))
    kind = choose(o, 4)
    top = high - 0.1
    if kind == 0:  # truck with a box
        block(o, 0, wp.vec3(0.6 * long, 0.0, top + 0.2), wp.vec3(0.3, wide, 0.28), 0.07)
        block(o, 1, wp.vec3(0.6 * long + 0.1, 0.0, top + 0.26), wp.vec3(0.22, wide + 0.015, 0.14), 0.05)
        block(o, 2, wp.vec3(-0.32 * long, 0.0, top + 0.32), wp.vec3(0.6 * long, wide + 0.03, 0.4), 0.03)
    elif kind == 1:  # bus
        block(o, 0, wp.vec3(0.0, 0.0, top + 0.25), wp.vec3(long, wide, 0.35), 0.08)
        block(o, 1, wp.vec3(0.0, 0.0, top + 0.3), wp.vec3(long + 0.015, wide + 0.015, 0.15), 0.03)
        block(o, 2, wp.vec3(0.0, 0.0, top + 0.62), wp.vec3(0.7 * long, 0.7 * wide, 0.06), 0.03)
    else:
        x = uniform(o, -0.25, 0.02)
        half = uniform(o, 0.4, 0.6)
        rise = uniform(o, 0.14, 0.2)
        prism(o, 1, wp.vec3(x, 0.0, top + rise), half, 0.62 * half, rise, 0.88 * wide, 0.03)
        block(o, wp.where(kind == 2, 0, 2), wp.vec3(x, 0.0, top + 2.0 * rise), wp.vec3(0.62 * half, 0.85 * wide, 0.06), 0.05)
        block(o, 0, wp.vec3(x, 0.0, top + rise), wp.vec3(0.055, 0.9 * wide, rise), 0.0)
        if chance(o, 0.3):
            block(o, 2, wp.vec3(-long + 0.1, 0.0, top + 0.2), wp.vec3(0.12, wide, 0.05), 0.02)
            block(o, 2, wp.vec3(-long + 0.1, 0.6 * wide, top + 0.1), wp.vec3(0.06, 0.05, 0.12), 0.0)
            mirror(o, False, True)
    wheels(o, 0.6 * long, wide - 0.02, -0.1 - high, uniform(o, 0.2, 0.27))
    ball(o, 2, wp.vec3(long - 0.02, 0.65 * wide, -0.02), wp.vec3(0.08, 0.1, 0.08))
    mirror(o, False, True)
    block(o, 4, wp.vec3(0.0, 0.0, -0.1 - 0.6 * high), wp.vec3(long + 0.06, wide - 0.06, 0.06), 0.04)


@wp.func
def robot(o: Sketch):
    w = uniform(o, 0.3, 0.45)
    h = uniform(o, 0.3, 0.42)
    if chance(o, 0.6):
        block(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(w, 0.75 * w, h), uniform(o, 0.03, 0.15))
    else:
        cone(o, 0, wp.vec3(0.0, 0.0, 0.0), w * uniform(o, 0.7, 1.0), w, h, 0.06)
    top = h + 0.36
    wide = w * uniform(o, 0.65, 0.9)
    if chance(o, 0.55):
        block(o, 1, wp.vec3(0.0, 0.0, top), wp.vec3(wide, 0.8 * wide, 0.25), uniform(o, 0.03, 0.12))
    else:
        ball(o, 1, wp.vec3(0.0, 0.0, top), wp.vec3(wide, 0.85 * wide, 0.29))
    ball(o, 2, wp.vec3(0.45 * wide, -0.75 * wide, top + 0.05), wp.vec3(0.09, 0.1, 0.09))
    mirror(o, True, False)
    cone(o, 3, wp.vec3(0.0, 0.0, h + 0.06), 0.12, 0.12, 0.12, 0.0)
    raised = uniform(o, -0.7, 0.5)
    elbow = wp.vec3(w + 0.3, -0.05, 0.6 * h - 0.25 + 0.4 * raised)
    limb(o, 3, wp.vec3(w - 0.02, 0.0, 0.6 * h), elbow, 0.1, 0.085)
    mirror(o, True, False)
    hand = elbow + wp.vec3(0.08, -0.2, 0.35 * raised - 0.08)
    limb(o, 3, elbow, hand, 0.085, 0.08)
    mirror(o, True, False)
    ball(o, 2, hand, wp.vec3(0.13, 0.13, 0.13))
    mirror(o, True, False)
    if chance(o, 0.75):
        limb(o, 3, wp.vec3(0.5 * w, 0.0, -h), wp.vec3(0.55 * w, 0.0, -h - 0.5), 0.12, 0.11)
        mirror(o, True, False)
        block(o, 4, wp.vec3(0.55 * w, -0.08, -h - 0.58), wp.vec3(0.16, 0.24, 0.1), 0.05)
        mirror(o, True, False)
    else:
        cone(o, 4, wp.vec3(0.0, 0.0, -h - 0.2), 1.2 * w, 0.6 * w, 0.22, 0.05)
    if chance(o, 0.5):
        limb(o, 3, wp.vec3(0.0, 0.0, top + 0.2), wp.vec3(0.0, 0.0, top + 0.5), 0.055, 0.05)
        ball(o, 2, wp.vec3(0.0, 0.0, top + 0.55), wp.vec3(0.1, 0.1, 0.1))
    block(o, 2, wp.vec3(0.0, -0.75 * w, 0.1), wp.vec3(0.5 * w, 0.07, 0.35 * h), 0.03)


@wp.func
def fur(o: Sketch, m: int):
    """Half of the animals wear natural colours."""
    if chance(o, 0.5):
        paint(o, m, hue_colour(uniform(o, 0.03, 0.13), uniform(o, 0.1, 0.7), uniform(o, 0.35, 0.95)))
    o.materials[o.row, m, 12] = 0.0


@wp.func
def eyes(o: Sketch, x: float, y: float, z: float, size: float):
    """Two dark eyes."""
    plain(o, 4, wp.vec3(0.06, 0.06, 0.08), 0.0, 0.2)
    ball(o, 4, wp.vec3(x, y, z), wp.vec3(size, size, size))
    mirror(o, True, False)


@wp.func
def quadruped(o: Sketch):
    """Dog, cat, pig, horse, giraffe, elephant: body, neck, head, snout, ears, legs, tail."""
    long = uniform(o, 0.5, 0.75)
    fat = uniform(o, 0.28, 0.42)
    leg = uniform(o, 0.3, 0.7)
    neck = wp.where(chance(o, 0.3), uniform(o, 0.5, 0.9), uniform(o, 0.12, 0.35))
    ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(fat, long, fat))
    limb(o, 0, wp.vec3(0.55 * fat, 0.6 * long, -0.3 * fat), wp.vec3(0.6 * fat, 0.62 * long, -fat - leg), 0.15, 0.1)
    mirror(o, True, True)
    smooth(o, 0.08)
    head = wp.vec3(0.0, -long - 0.1 - 0.2 * neck, 0.25 + neck)
    limb(o, 0, wp.vec3(0.0, -0.7 * long, 0.1), head, 0.65 * fat, 0.16)
    smooth(o, 0.1)
    r = uniform(o, 0.24, 0.34)
    ball(o, 0, head, wp.vec3(r, r, r))
    kind = choose(o, 4)
    reach = uniform(o, 0.12, 0.35)
    if kind == 0:  # trunk
        limb(o, 0, head + wp.vec3(0.0, -0.8 * r, 0.0), head + wp.vec3(0.0, -r - 0.2, -0.6), 0.12, 0.08)
        smooth(o, 0.08)
        ball(o, 1, head + wp.vec3(r + 0.08, 0.08, 0.05), wp.vec3(0.24, 0.09, 0.26))
        mirror(o, True, False)
    else:
        limb(o, 1, head + wp.vec3(0.0, -0.5 * r, -0.06), head + wp.vec3(0.0, -0.7 * r - reach, -0.1), 0.16, 0.11)
        ball(o, 2, head + wp.vec3(0.0, -0.8 * r - reach - 0.07, -0.07), wp.vec3(0.075, 0.06, 0.06))
        high = wp.where(kind == 1, uniform(o, 0.35, 0.6), uniform(o, 0.12, 0.25))
        ear = head + wp.vec3(0.6 * r, 0.05, 0.6 * r)
        limb(o, 2, ear, ear + wp.vec3(uniform(o, 0.0, 0.15), 0.0, high), 0.11, 0.06)
        mirror(o, True, False)
    eyes(o, 0.5 * r, head[1] - 0.78 * r, head[2] + 0.35 * r, 0.065)
    limb(o, 2, wp.vec3(0.0, long - 0.06, 0.1), wp.vec3(0.0, long + 0.35, uniform(o, -0.1, 0.6)), 0.08, 0.06)


@wp.func
def bird(o: Sketch):
    """Bird or penguin."""
    lean = uniform(o, -0.9, -0.1)
    ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.42, 0.42, 0.62))
    turn(o, about(0, lean))
    head = wp.vec3(0.0, -0.3, 0.62)
    ball(o, 0, head, wp.vec3(0.3, 0.3, 0.3))
    smooth(o, 0.12)
    cone(o, 1, head + wp.vec3(0.0, -0.4, -0.02), 0.13, 0.02, 0.16, 0.01)
    turn(o, about(0, QUARTER))
    eyes(o, 0.16, head[1] - 0.22, head[2] + 0.1, 0.07)
    ball(o, 2, wp.vec3(0.42, 0.08, 0.02), wp.vec3(0.13, 0.26, 0.44))
    turn(o, about(0, lean))
    mirror(o, True, False)
    limb(o, 1, wp.vec3(0.17, 0.0, -0.4), wp.vec3(0.17, 0.0, -0.8), 0.07, 0.06)
    mirror(o, True, False)
    block(o, 1, wp.vec3(0.18, -0.1, -0.84), wp.vec3(0.12, 0.2, 0.055), 0.04)
    mirror(o, True, False)
    prism(o, 2, wp.vec3(0.0, 0.4 - 0.2 * lean, -0.4 - 0.25 * lean), 0.24, 0.14, 0.34, 0.08, 0.04)
    turn(o, about(0, lean))
    ball(o, 3, wp.vec3(0.0, -0.2, -0.08), wp.vec3(0.3, 0.3, 0.42))


@wp.func
def fish(o: Sketch):
    """Swims towards +x so that the side is seen first."""
    ball(o, 0, wp.vec3(0.1, 0.0, 0.0), wp.vec3(0.75, uniform(o, 0.26, 0.36), uniform(o, 0.36, 0.52)))
    prism(o, 1, wp.vec3(-0.85, 0.0, 0.0), 0.45, 0.06, 0.28, 0.07, 0.04)
    turn(o, about(1, QUARTER))
    prism(o, 1, wp.vec3(0.0, 0.0, 0.5), 0.36, 0.14, 0.18, 0.06, 0.03)
    prism(o, 1, wp.vec3(-0.1, 0.0, -0.45), 0.1, 0.26, 0.16, 0.06, 0.03)
    ball(o, 2, wp.vec3(0.15, 0.34, -0.12), wp.vec3(0.2, 0.07, 0.12))
    turn(o, about(0, 0.5))
    mirror(o, False, True)
    plain(o, 4, wp.vec3(0.06, 0.06, 0.08), 0.0, 0.2)
    ball(o, 3, wp.vec3(0.52, 0.2, 0.14), wp.vec3(0.12, 0.08, 0.12))
    mirror(o, False, True)
    ball(o, 4, wp.vec3(0.55, 0.26, 0.15), wp.vec3(0.07, 0.05, 0.07))
    mirror(o, False, True)


@wp.func
def turtle(o: Sketch):
    r = uniform(o, 0.6, 0.8)
    high = wp.vec3(0.75 * r, 0.5 * r, 0.12 * r)
    vase(o, 1, wp.vec3(0.0, 0.0, 0.1), wp.vec3(r, 0.97 * r, 0.9 * r), high, uniform(o, 0.25, 0.4), 0.0)
    cone(o, 2, wp.vec3(0.0, 0.0, -0.17), 1.06 * r, 1.06 * r, 0.07, 0.04)
    limb(o, 0, wp.vec3(0.5 * r, 0.55 * r, -0.15), wp.vec3(0.85 * r, 0.85 * r, -0.35), 0.17, 0.14)
    mirror(o, True, True)
    limb(o, 0, wp.vec3(0.0, -0.7 * r, -0.1), wp.vec3(0.0, -1.2 * r, 0.25), 0.15, 0.2)
    smooth(o, 0.06)
    eyes(o, 0.11, -1.2 * r - 0.15, 0.33, 0.06)
    cone(o, 0, wp.vec3(0.0, 1.1 * r, -0.15), 0.1, 0.02, 0.16, 0.01)
    turn(o, about(0, -QUARTER))


@wp.func
def animal(o: Sketch):
    fur(o, 0)
    k = choose(o, 8)
    if k < 5:
        quadruped(o)
    elif k == 5:
        bird(o)
    elif k == 6:
        fish(o)
    else:
        turtle(o)
