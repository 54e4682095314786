# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""O-Voxel of an object at resolution R (docs/spec/mini.md 1 "O-Voxel"; docs/spec/geometry.md 2 and 5).

Coarse to fine: blocks of 4^3 cells whose centre is farther from the surface than their half diagonal are dropped (the
distances are lower bounds, so nothing is lost), signs are taken at the 5^3 corners of the others, cells whose corners
disagree are active. Flags are the sign changes of the three owned edges, so all four cells of a flagged edge are
active. The dual vertex minimises a quadratic error of the crossings' tangent planes inside its cell.
"""

from dataclasses import dataclass

import torch
import warp as wp

from .frame import CAMERA
from .launch import OPTIONS, launch
from .material import SLOT_METALLIC, SLOT_ROUGHNESS, base_colour
from .render import Pictures
from .sdf import distance, field, gradient, to_object

wp.set_module_options(OPTIONS)

BLOCK = 4  # cells per block side: 8^3 keeps twice the corners, 2^3 doubles the centres
TIKHONOV = wp.constant(0.08)  # pull of each crossing towards the mass point, docs/spec/mini.md 1
ATTRIBUTES = 6


@dataclass(frozen=True)
class Voxels:
    """O-Voxel cells of a batch, rows in lexicographic order (b, x, y, z).

    Attributes:
        coords: int32 [N, 4], batch, x, y, z.
        offsets: float32 [N, 3], dual vertex in the cell, 0..1.
        intersected: bool [N, 3], sign change of the owned edge of axis x, y, z.
        attributes: float32 [N, 6], base colour (sRGB encoded), metallic, roughness, alpha at the dual vertex, 0..1.
        batch: number of objects B.
        resolution: cells per side of the model cube [-0.5, 0.5]^3.
    """

    coords: torch.Tensor
    offsets: torch.Tensor
    intersected: torch.Tensor
    attributes: torch.Tensor
    batch: int
    resolution: int

    def positions(self) -> torch.Tensor:
        """Dual vertices [N, 3] float32 in model space."""
        return (self.coords[:, 1:] + self.offsets) / self.resolution - 0.5


@wp.kernel
def keep_kernel(
    primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), cell: float, keep: wp.array4d(dtype=wp.uint8)
):
    """keep = whether the surface may pass through the block of side 4 cell (0.1 % slack for rounding)."""
    b, x, y, z = wp.tid()
    side = 4.0 * cell
    p = wp.vec3((float(x) + 0.5) * side - 0.5, (float(y) + 0.5) * side - 0.5, (float(z) + 0.5) * side - 0.5)
    if wp.abs(distance(primitives, frame, b, p)) <= 0.867 * side:
        keep[b, x, y, z] = wp.uint8(1)


@wp.kernel
def corner_kernel(
    primitives: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    blocks: wp.array2d(dtype=wp.int64),
    cell: float,
    values: wp.array2d(dtype=float),
):
    """values[k, 25 i + 5 j + l] = distance at corner (i, j, l) of block k, in cells."""
    k, corner = wp.tid()
    x = float(4 * int(blocks[k, 1]) + corner / 25)
    y = float(4 * int(blocks[k, 2]) + (corner / 5) % 5)
    z = float(4 * int(blocks[k, 3]) + corner % 5)
    p = wp.vec3(x * cell - 0.5, y * cell - 0.5, z * cell - 0.5)
    values[k, corner] = distance(primitives, frame, int(blocks[k, 0]), p) / cell


@wp.func
def corner_at(inner: int, corner: int) -> int:
    """Column of `corner` (bits x=4, y=2, z=1) of inner cell 16 i + 4 j + l."""
    i = inner / 16 + corner / 4
    j = (inner / 4) % 4 + (corner / 2) % 2
    k = inner % 4 + corner % 2
    return 25 * i + 5 * j + k


@wp.kernel
def active_kernel(values: wp.array2d(dtype=float), active: wp.array2d(dtype=wp.uint8)):
    """active[k, inner] = whether the signs of the cell's eight corners disagree."""
    k, inner = wp.tid()
    inside = int(0)
    for corner in range(8):
        if values[k, corner_at(inner, corner)] < 0.0:
            inside += 1
    if inside > 0 and inside < 8:
        active[k, inner] = wp.uint8(1)


@wp.func
def crossing(
    primitives: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    b: int,
    low: wp.vec3,
    axis: wp.vec3,
    f0: float,
    f1: float,
) -> float:
    """Zero of the distance on low + t axis, 0..1, by two steps of false position with the Illinois weight."""
    a = float(0.0)
    c = float(1.0)
    fa = f0
    fc = f1
    t = fa / (fa - fc)
    size = wp.length(axis)
    for _step in range(2):
        f = distance(primitives, frame, b, low + t * axis) / size
        if (f < 0.0) == (fa < 0.0):
            a = t
            fa = f
            fc = 0.5 * fc
        else:
            c = t
            fc = f
            fa = 0.5 * fa
        t = a + (c - a) * fa / (fa - fc)
    return t


@wp.func
def closest(q: wp.mat33, r: wp.vec3) -> wp.vec3:
    """Minimiser of x.Qx / 2 - r.x in the box |x| <= 0.5, by coordinate descent from the clamped free minimiser."""
    x = wp.inverse(q) * r
    if wp.max(wp.max(wp.abs(x[0]), wp.abs(x[1])), wp.abs(x[2])) <= 0.5:
        return x
    for c in range(3):
        x[c] = wp.clamp(x[c], -0.5, 0.5)
    for _sweep in range(8):
        for c in range(3):
            rest = r[c] - q[c, 0] * x[0] - q[c, 1] * x[1] - q[c, 2] * x[2] + q[c, c] * x[c]
            x[c] = wp.clamp(rest / q[c, c], -0.5, 0.5)
    return x


@wp.kernel
def voxel_kernel(
    primitives: wp.array3d(dtype=float),
    materials: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    values: wp.array2d(dtype=float),
    found: wp.array2d(dtype=wp.int64),
    coords: wp.array2d(dtype=wp.int32),
    cell: float,
    offsets: wp.array2d(dtype=float),
    intersected: wp.array2d(dtype=wp.uint8),
    attributes: wp.array2d(dtype=float),
):
    """Flags, dual vertex and attributes of one active cell.

    Q = sum n n^T + 0.08 m I, r = sum n (n.q) + 0.08 m mean(q) over the m crossings q, relative to the cell centre.
    """
    row = wp.tid()
    k = int(found[row, 0])
    inner = int(found[row, 1])
    b = int(coords[row, 0])
    corner = wp.vec3(float(coords[row, 1]), float(coords[row, 2]), float(coords[row, 3])) * cell - wp.vec3(0.5, 0.5, 0.5)
    q = wp.mat33(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    r = wp.vec3(0.0, 0.0, 0.0)
    mean = wp.vec3(0.0, 0.0, 0.0)
    count = float(0.0)
    for edge in range(12):
        a = edge / 4
        along = wp.where(a == 0, 4, wp.where(a == 1, 2, 1))
        second = wp.where(a == 0, 2, wp.where(a == 1, 1, 4))
        third = wp.where(a == 0, 1, wp.where(a == 1, 4, 2))
        start = (edge % 2) * second + ((edge / 2) % 2) * third
        f0 = values[k, corner_at(inner, start)]
        f1 = values[k, corner_at(inner, start + along)]
        if (f0 < 0.0) != (f1 < 0.0):
            low = wp.vec3(float(start / 4), float((start / 2) % 2), float(start % 2))
            axis = wp.vec3(float(along / 4), float((along / 2) % 2), float(along % 2))
            t = crossing(primitives, frame, b, corner + cell * low, cell * axis, f0, f1)
            local = low + t * axis
            n = gradient(primitives, frame, b, corner + cell * local, 0.05 * cell)
            local -= wp.vec3(0.5, 0.5, 0.5)
            q += wp.outer(n, n)
            r += n * wp.dot(n, local)
            mean += local
            count += 1.0
            if edge % 4 == 3:
                intersected[row, a] = wp.uint8(1)
    weight = TIKHONOV * count
    q += weight * wp.identity(n=3, dtype=float)
    x = closest(q, r + TIKHONOV * mean) + wp.vec3(0.5, 0.5, 0.5)
    point = to_object(frame, b, corner + cell * x)
    m = int(field(primitives, b, point)[1])
    colour = base_colour(materials, b, m, point)
    for c in range(3):
        offsets[row, c] = x[c]
        attributes[row, c] = colour[c]
    attributes[row, 3] = materials[b, m, SLOT_METALLIC]
    attributes[row, 4] = materials[b, m, SLOT_ROUGHNESS]
    attributes[row, 5] = 1.0


def voxelise(primitives: torch.Tensor, materials: torch.Tensor, frame: torch.Tensor, resolution: int) -> Voxels:
    """O-Voxel at `resolution` (a multiple of 4); two host synchronisations per batch."""
    batch, device = len(frame), frame.device
    cell = 1.0 / resolution
    keep = torch.zeros((batch, *(resolution // BLOCK,) * 3), dtype=torch.uint8, device=device)
    launch(keep_kernel, keep.shape, (primitives, frame, cell, keep))
    blocks = keep.nonzero()
    values = torch.empty((len(blocks), (BLOCK + 1) ** 3), device=device)
    launch(corner_kernel, values.shape, (primitives, frame, blocks, cell, values))
    active = torch.zeros((len(blocks), BLOCK**3), dtype=torch.uint8, device=device)
    launch(active_kernel, active.shape, (values, active))
    found = active.nonzero()
    block, inner = blocks[found[:, 0]], found[:, 1]
    within = torch.stack([inner // 16, inner // 4 % 4, inner % 4], dim=1)
    coords = torch.cat([block[:, :1], BLOCK * block[:, 1:] + within], dim=1)
    key = ((coords[:, 0] * resolution + coords[:, 1]) * resolution + coords[:, 2]) * resolution + coords[:, 3]
    order = key.argsort()
    found, coords = found[order].contiguous(), coords[order].to(torch.int32).contiguous()
    offsets = torch.empty((len(coords), 3), device=device)
    intersected = torch.zeros((len(coords), 3), dtype=torch.uint8, device=device)
    attributes = torch.empty((len(coords), ATTRIBUTES), device=device)
    outputs = (offsets, intersected, attributes)
    launch(voxel_kernel, len(coords), (primitives, materials, frame, values, found, coords, cell, *outputs))
    return Voxels(coords, offsets, intersected.bool(), attributes, batch, resolution)


def occupancy(voxels: Voxels, grid: int) -> torch.Tensor:
    """Bool [B, grid, grid, grid]: which coarse cells hold an active cell; `grid` divides the resolution."""
    result = torch.zeros((voxels.batch, grid, grid, grid), dtype=torch.bool, device=voxels.coords.device)
    b, x, y, z = voxels.coords.long().unbind(1)
    ratio = voxels.resolution // grid
    result[b, x // ratio, y // ratio, z // ratio] = True
    return result


def visible(voxels: Voxels, pictures: Pictures) -> torch.Tensor:
    """Bool [N]: whether the dual vertex is what its pixel shows, within 1.5 cells of depth."""
    size = pictures.depth.shape[1]
    p = voxels.positions()
    depth = p[:, 1] + CAMERA
    column = ((0.5 + p[:, 0] / depth * CAMERA) * size).long().clamp(0, size - 1)
    row = ((0.5 - p[:, 2] / depth * CAMERA) * size).long().clamp(0, size - 1)
    seen = pictures.depth[voxels.coords[:, 0].long(), row, column]
    return (seen > 0) & ((seen - depth).abs() < 1.5 / voxels.resolution)
