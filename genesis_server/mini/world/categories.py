# SPDX-License-Identifier: Apache-2.0
"""What the world contains: one Warp function per category of things (docs/spec/mini.md 1)."""

import warp as wp

from .sketch import Sketch, ball, block, chance, uniform

wp.set_module_options({"enable_backward": False, "fast_math": False})

CATEGORIES = wp.constant(12)


@wp.func
def assemble(o: Sketch):
    """Placeholder pair while the categories are drawn."""
    ball(o, 0, wp.vec3(0.0, 0.0, 0.0), wp.vec3(uniform(o, 0.4, 0.9), uniform(o, 0.4, 0.9), uniform(o, 0.4, 0.9)))
    block(o, 1, wp.vec3(uniform(o, -0.6, 0.6), 0.0, -0.5), wp.vec3(0.5, 0.4, uniform(o, 0.3, 0.6)), 0.05)
    if chance(o, 0.5):
        ball(o, 2, wp.vec3(0.0, -0.5, 0.6), wp.vec3(0.3, 0.3, 0.3))


@wp.func
def draw(o: Sketch, category: int):
    assemble(o)
