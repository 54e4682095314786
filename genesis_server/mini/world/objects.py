# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""Draws objects from integer seeds: primitives, materials, pose, light (docs/spec/mini.md 1).

Object i of seed s depends on (s, i) alone. An object that is too small, too large, or does not fit the cube is drawn
again from the same pair with a higher attempt number.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import warp as wp

from . import frame as framing
from . import material, sdf
from .categories import draw, quarter_turns, slot
from .launch import OPTIONS, launch
from .render import LIGHT_WIDTH
from .sketch import Sketch, choose, mix_paints, uniform

wp.set_module_options({**OPTIONS, "optimization_level": 1})  # long code that runs once per object

ATTEMPTS = 8  # one draw in thirty is refused, so the last attempt is practically never reached
# occupied cells of 16^3: the estimate misses at most 1 %, so these keep the true count between 200 and 1400
FEWEST, MOST = 215, 1350
FEWEST_FURTHER = 90  # where slender things are among them, of which the estimate sees little
SEEDS = 1 << 31


@dataclass(frozen=True)
class Objects:
    """A batch of B objects; all tensors float32 on one device.

    Attributes:
        primitives: [B, 14, 32], rows of `sdf.py`.
        materials: [B, 5, 16], rows of `material.py`.
        frame: [B, 15], placement in the model cube, rows of `frame.py`.
        light: [B, 8], rows of `render.py`.
        pose: [B, 3, 3], rotation from object to view.
        radius: [B], of the ball around the object's origin that holds it, in object units.
    """

    primitives: torch.Tensor
    materials: torch.Tensor
    frame: torch.Tensor
    light: torch.Tensor
    pose: torch.Tensor
    radius: torch.Tensor

    def __len__(self) -> int:
        return len(self.frame)


@wp.func
def place(o: Sketch, category: int, rotation: wp.array2d(dtype=float), radius: wp.array(dtype=float)):
    """Pose Rx(pitch) Rz(yaw) and the ball around the object's origin that holds it."""
    yaw = uniform(o, -0.5236, 0.5236)
    if quarter_turns(o, category):
        yaw += float(choose(o, 4)) * 0.5 * wp.PI
    pitch = uniform(o, 0.0, 0.4363)
    c = wp.cos(yaw)
    s = wp.sin(yaw)
    e = wp.cos(pitch)
    f = wp.sin(pitch)
    b = o.row
    rotation[b, 0] = c
    rotation[b, 1] = -s
    rotation[b, 2] = 0.0
    rotation[b, 3] = e * s
    rotation[b, 4] = e * c
    rotation[b, 5] = -f
    rotation[b, 6] = f * s
    rotation[b, 7] = f * c
    rotation[b, 8] = e
    reach = float(0.0)
    for i in range(o.used[b]):
        if int(o.primitives[b, i, sdf.SLOT_OPERATOR]) == sdf.UNION:
            k = sdf.SLOT_POSITION
            p = wp.vec3(o.primitives[b, i, k], o.primitives[b, i, k + 1], o.primitives[b, i, k + 2])
            rest = 0.5 * wp.max(o.primitives[b, i, sdf.SLOT_ROW] - 1.0, 0.0) * o.primitives[b, i, sdf.SLOT_STEP]
            rest += o.primitives[b, i, sdf.SLOT_BOUND] + o.primitives[b, i, sdf.SLOT_BLEND]
            reach = wp.max(reach, wp.length(p) + rest)
    radius[b] = reach


@wp.func
def illuminate(o: Sketch, light: wp.array2d(dtype=float)):
    """Key light from the front, above, left or right; rows of `render.py`."""
    b = o.row
    direction = wp.normalize(wp.vec3(uniform(o, -0.9, 0.9), uniform(o, -1.2, -0.6), uniform(o, 0.35, 1.0)))
    for c in range(3):
        light[b, c] = direction[c]
    sky = uniform(o, 0.34, 0.48)
    light[b, 3] = uniform(o, 0.9, 1.02) - sky
    light[b, 4] = sky
    light[b, 5] = sky * uniform(o, 0.45, 0.8)
    light[b, 6] = uniform(o, 5.0, 16.0)
    light[b, 7] = uniform(o, -0.06, 0.1)


@wp.kernel
def draw_kernel(
    seed: int,
    numbers: wp.array(dtype=wp.int64),
    attempt: int,
    further: float,
    toys: float,
    random: wp.array(dtype=int),
    used: wp.array(dtype=int),
    primitives: wp.array3d(dtype=float),
    materials: wp.array3d(dtype=float),
    rotation: wp.array2d(dtype=float),
    radius: wp.array(dtype=float),
    light: wp.array2d(dtype=float),
):
    """Draw object `numbers[row]` of the seed into row `row`."""
    row = wp.tid()
    random[row] = int(wp.rand_init(seed, int(numbers[row]) * 8 + attempt))
    o = Sketch()
    o.primitives = primitives
    o.materials = materials
    o.random = random
    o.used = used
    o.row = row
    mix_paints(o)
    category = slot(o, further, toys)
    draw(o, category)
    place(o, category, rotation, radius)
    illuminate(o, light)


def attempt_objects(
    seed: int, numbers: torch.Tensor, attempt: int, further: float = 0.0, toys: float = 0.0
) -> tuple[Objects, torch.Tensor]:
    """One attempt at the objects `numbers` (int64 [B]); also bool [B], whether each is acceptable."""
    batch, device = len(numbers), numbers.device
    empty = torch.zeros((batch,), device=device)
    primitives = torch.zeros((batch, sdf.PRIMITIVES, sdf.WIDTH), device=device)
    materials = torch.zeros((batch, material.MATERIALS, material.WIDTH), device=device)
    rotation, radius = torch.zeros((batch, 9), device=device), empty.clone()
    light = torch.zeros((batch, LIGHT_WIDTH), device=device)
    state = torch.zeros((batch,), dtype=torch.int32, device=device)
    used = torch.zeros_like(state)
    outputs = (state, used, primitives, materials, rotation, radius, light)
    launch(draw_kernel, batch, (seed, numbers, attempt, further, toys, *outputs))
    frame = framing.fit(primitives, rotation.view(batch, 3, 3), radius)
    occupied = torch.zeros_like(state)
    launch(framing.count_kernel, (batch, 16, 16, 16), (primitives, frame, occupied))
    reach = framing.measure(primitives, frame)[:, 4:].amax(dim=1)
    good = (occupied >= (FEWEST if further + toys == 0 else FEWEST_FURTHER)) & (occupied <= MOST) & (reach < framing.WALL)
    return Objects(primitives, materials, frame, light, rotation.view(batch, 3, 3), radius), good


def turned(objects: Objects, turn: torch.Tensor) -> Objects:
    """The same objects turned about their vertical axis and framed anew, as the next pictures on a turntable show them.

    Args:
        turn: float32 [B], radians, counter-clockwise seen from above: a quarter turn shows what was on the left.
    """
    c, s, zero, one = torch.cos(turn), torch.sin(turn), torch.zeros_like(turn), torch.ones_like(turn)
    about_z = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    pose = (objects.pose @ about_z).contiguous()
    return replace(objects, frame=framing.fit(objects.primitives, pose, objects.radius), pose=pose)


def generate(device: torch.device, seed: int, start: int, count: int, further: float = 0.0, toys: float = 0.0) -> Objects:
    """Objects start .. start + count - 1 of `seed`, each redrawn until it is acceptable; shares as `World` has them."""
    numbers = torch.arange(start, start + count, device=device)
    objects, good = attempt_objects(seed % SEEDS, numbers, 0, further, toys)
    for attempt in range(1, ATTEMPTS):
        bad = (~good).nonzero()[:, 0]
        if len(bad) == 0:
            break
        again, fine = attempt_objects(seed % SEEDS, numbers[bad].contiguous(), attempt, further, toys)
        for field in fields(Objects):
            getattr(objects, field.name)[bad] = getattr(again, field.name)
        good[bad] = fine
    return objects
