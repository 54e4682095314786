# SPDX-License-Identifier: Apache-2.0
"""Twelve equally likely slots of the world and how they are turned towards the camera (docs/spec/mini.md 1).

A share of training objects comes from ten further slots, slender things and fruit, and another from ten slots of toys.
"""

import warp as wp

from .launch import OPTIONS
from .movers import animal, car, robot
from .orchard import fruit
from .rodwork import cage, grid_work, on_wheels
from .scenery import gate, house, plant_or_rocket
from .sketch import Sketch, chance, choose
from .slender import finish, framed_chair, framed_table, rocking, stand, twigs
from .things import assemble, emblem, furniture, letter, stack, vessel
from .toys import toy

wp.set_module_options(OPTIONS)

CATEGORIES = wp.constant(12)
FURTHER = wp.constant(10)
TOYS = wp.constant(10)
FIRST_TOY = wp.constant(22)


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
    elif category == 11:
        animal(o)
    elif category >= FIRST_TOY:
        toy(o, category - FIRST_TOY)
    elif category == 20:
        fruit(o)
    elif category == 21:
        twigs(o)
    else:
        finish(o)
        if category < 14:
            framed_chair(o)
        elif category == 14:
            framed_table(o)
        elif category == 15:
            stand(o)
        elif category == 16:
            cage(o)
        elif category == 17:
            on_wheels(o)
        elif category == 18:
            grid_work(o)
        else:
            rocking(o)


@wp.func
def slot(o: Sketch, further: float, toys: float) -> int:
    """Number of a slot; a further one, or one of the toys, in these shares of cases."""
    category = choose(o, CATEGORIES)
    if further > 0.0 and chance(o, further):
        category = CATEGORIES + choose(o, FURTHER)
    if toys > 0.0 and chance(o, toys):
        category = FIRST_TOY + choose(o, TOYS)
    return category


@wp.func
def quarter_turns(o: Sketch, category: int) -> bool:
    """Cars, robots, animals, rocking toys, half of the furniture are seen from all four sides, toys mostly from the front."""
    if category >= FIRST_TOY:
        return chance(o, wp.where(category == FIRST_TOY + 3, 0.75, 0.2))
    if (category >= 9 and category < 12) or category == 19:
        return True
    if category == 6 or category > 11:
        return chance(o, 0.5)
    return False
