# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""Places an object in the view-aligned model frame (docs/spec/mini.md 1, "Frame and camera").

Camera on -y at distance 0.5 / tan 15 degrees looking at the origin, x right, z up. The object is scaled and shifted so
that its silhouette box is centred and its longer side fills `FILL` of the picture; its depth is centred at y = 0 and
squashed if it would leave the cube. Far parts that would leave the cube sideways are drawn in by a homothety about the
camera, which changes no pixel.

The extents are found by tangent search: rays along a line move inwards by the clearance that the march has met, which
is safe because distances are lower bounds, and stop at the first touch. No grid, no rendering, exact to `TOUCH`.

A frame row is 15 floats: rotation object to model (9, row-major), shift (3), scale of x and z, scale of y, homothety.
"""

import math

import torch
import warp as wp

from .launch import OPTIONS, launch
from .sdf import distance

wp.set_module_options(OPTIONS)

WIDTH = 15
TANGENT = wp.constant(math.tan(math.radians(15.0)))
CAMERA = wp.constant(0.5 / math.tan(math.radians(15.0)))
FILL = wp.constant(0.985)
CUBE = wp.constant(0.488)  # largest coordinate; 1.5 cells of a 128 grid inside the wall
WALL = 0.495  # an object that reaches beyond is drawn again: half a cell of 128 inside the cube
TOUCH = wp.constant(6.0e-4)  # clearance that counts as contact, model units: 0.13 pixels of 224

LINES = 96  # rays per side and pass; 2.3 pixels of 224 apart
SIDES = 10  # picture left, right, bottom, top; then box -x, +x, -y, +y, -z, +z
PASSES = 6


@wp.func
def clearance(
    primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), b: int, origin: wp.vec3, ray: wp.vec3, cone: float
) -> float:
    """Smallest distance to the object along the ray; divided by (y + camera distance) if `cone` is 1."""
    t = float(0.0)
    nearest = float(1.0e3)
    for _step in range(96):
        p = origin + t * ray
        d = distance(primitives, frame, b, p)
        reach = d / (1.0 - cone + cone * (p[1] + CAMERA))
        nearest = wp.min(nearest, reach)
        if nearest < 0.5 * TOUCH or t > 1.7:
            break
        t += wp.max(d, 0.5 * TOUCH)
    return nearest


@wp.kernel
def measure_kernel(primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), extents: wp.array2d(dtype=float)):
    """extents[b, side] = max over lines of the outermost touching position, along the side's outward direction."""
    b, side, line = wp.tid()
    cone = wp.where(side < 4, 1.0, 0.0)
    across = (2.0 * (float(line) + 0.5) / 96.0 - 1.0) * 0.62
    sign = float(2 * (side % 2) - 1)
    position = float(0.85)
    for _ray in range(48):
        if position <= extents[b, side] or position < -0.85:
            break
        origin = wp.vec3(0.0, 0.0, 0.0)
        ray = wp.vec3(0.0, 1.0, 0.0)
        if side < 4:
            u = wp.where(side < 2, sign * position, across)
            v = wp.where(side < 2, across, sign * position)
            slope = wp.vec3(u / CAMERA, 1.0, v / CAMERA)
            origin = wp.vec3(0.0, -CAMERA, 0.0) + (CAMERA - 0.85) * slope
            ray = wp.normalize(slope)
        elif side < 6:
            origin = wp.vec3(sign * position, -0.85, across)
        elif side < 8:
            origin = wp.vec3(-0.85, sign * position, across)
            ray = wp.vec3(1.0, 0.0, 0.0)
        else:
            origin = wp.vec3(across, -0.85, sign * position)
        room = clearance(primitives, frame, b, origin, ray, cone)
        if room < TOUCH:
            wp.atomic_max(extents, b, side, position)
            break
        position -= wp.where(side < 4, room * CAMERA * 0.93, room)


@wp.kernel
def refit_kernel(frame: wp.array2d(dtype=float), extents: wp.array2d(dtype=float), first: int):
    """Move the frame so that the measured extents become the wanted ones."""
    b = wp.tid()
    near = -extents[b, 6]
    far = extents[b, 7]
    side = 4 * first  # the first pass trusts the box, later ones the picture
    rise = 2 + 6 * first
    left = extents[b, side]
    right = extents[b, side + 1]
    bottom = extents[b, rise]
    top = extents[b, rise + 1]
    size = 0.5 * wp.max(left + right, top + bottom)
    grow = 0.5 * FILL / wp.max(size, 1.0e-3)
    widest = wp.max(wp.max(extents[b, 4], extents[b, 5]), wp.max(extents[b, 8], extents[b, 9]))
    pull = wp.where(first == 1, 1.0, wp.min(1.0, frame[b, 14] * CUBE / wp.max(widest, 1.0e-3)))
    middle = -CAMERA * (1.0 - pull)
    # depth: undo the present squash, then the squash that fits the room between the walls
    squash = frame[b, 13] / frame[b, 12]
    pulled = pull / frame[b, 14]
    depth = 0.5 * pulled * grow * (far - near) / squash
    wanted = wp.min(1.0, (CUBE + middle) / wp.max(depth, 1.0e-3))
    grow_y = grow * wanted / squash
    frame[b, 9] = pulled * grow * (frame[b, 9] - 0.5 * (right - left) * frame[b, 14])
    frame[b, 10] = middle + pulled * grow_y * (frame[b, 10] - 0.5 * (near + far))
    frame[b, 11] = pulled * grow * (frame[b, 11] - 0.5 * (top - bottom) * frame[b, 14])
    frame[b, 12] = pulled * grow * frame[b, 12]
    frame[b, 13] = pulled * grow_y * frame[b, 13]
    frame[b, 14] = pull


@wp.kernel
def count_kernel(primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), occupied: wp.array(dtype=int)):
    """occupied[b] += 1 for a cell of 16^3 that the surface passes, found with 5^3 signs unless its centre decides."""
    b, x, y, z = wp.tid()
    cell = 1.0 / 16.0
    low = wp.vec3(float(x) * cell - 0.5, float(y) * cell - 0.5, float(z) * cell - 0.5)
    d = distance(primitives, frame, b, low + 0.5 * cell * wp.vec3(1.0, 1.0, 1.0))
    if wp.abs(d) > 0.867 * cell:
        return
    for k in range(125):
        step = 0.25 * cell * wp.vec3(float(k / 25), float((k / 5) % 5), float(k % 5))
        if (distance(primitives, frame, b, low + step) < 0.0) != (d < 0.0):
            wp.atomic_add(occupied, b, 1)
            return


def measure(primitives: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """Extents [B, 10] float32 along `SIDES`; picture extents in model units at y = 0 (half picture = 0.5)."""
    extents = torch.full((len(frame), SIDES), -1.0, dtype=torch.float32, device=frame.device)
    launch(measure_kernel, (len(frame), SIDES, LINES), (primitives, frame, extents))
    return extents


def fit(primitives: torch.Tensor, rotation: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Frames [B, 15] float32 of objects [B, 14, 32] turned by `rotation` [B, 3, 3] and lying in a ball of `radius` [B]."""
    scale = (0.48 / radius)[:, None]
    frame = torch.cat([rotation.flatten(1), torch.zeros_like(rotation[:, 0]), scale, scale, torch.ones_like(scale)], dim=1)
    for step in range(PASSES):
        launch(refit_kernel, len(frame), (frame, measure(primitives, frame), int(step == 0)))
    return frame
