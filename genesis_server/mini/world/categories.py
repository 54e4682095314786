# SPDX-License-Identifier: Apache-2.0
"""Twelve equally likely slots of the world and how they are turned towards the camera (docs/spec/mini.md 1)."""

import warp as wp

from .launch import OPTIONS
from .movers import animal, car, robot
from .scenery import gate, house, plant_or_rocket
from .sketch import Sketch, chance
from .things import assemble, emblem, furniture, letter, stack, vessel

wp.set_module_options(OPTIONS)

CATEGORIES = wp.constant(12)


@wp.func
def draw(o: Sketch, category: int):
    """Draw one object of the slot."""
    if category == 0:
        assemble(o)
    elif category == 1:
        if chance(o, 0.5):
            stack(o)
        else:
            assemble(o)
    elif category < 4:
        vessel(o)
    elif category == 4:
        emblem(o)
    elif category == 5:
        if chance(o, 0.5):
            letter(o)
        else:
            emblem(o)
    elif category == 6:
        furniture(o)
    elif category == 7:
        if chance(o, 0.9):
            house(o)
        else:
            gate(o)
    elif category == 8:
        plant_or_rocket(o)
    elif category == 9:
        car(o)
    elif category == 10:
        robot(o)
    else:
        animal(o)


@wp.func
def quarter_turns(o: Sketch, category: int) -> bool:
    """Cars, robots, animals and half of the furniture are seen from all four sides."""
    if category >= 9:
        return True
    if category == 6:
        return chance(o, 0.5)
    return False
