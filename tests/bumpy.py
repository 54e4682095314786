# SPDX-License-Identifier: Apache-2.0
"""The large analytic asset of the benchmarks: eight bumpy closed surfaces with a closed-form colour, at any resolution.

The same shape at every resolution: about six voxels of every resolution squared, 6 million at 1024. On the tensors' device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from genesis_server.ovoxel.voxels import OVoxel
from native_ext.dual_contour import CORNERS, EDGES

BLOCK = 16
_BLOCKS_AT_ONCE = 2048
Far = Callable[[Tensor], Tensor]


def distance(points: Tensor, radius: float = 0.2) -> Tensor:
    """[n], negative inside, of points [n, 3]; slope at most about one. `radius` is that of the eight spheres without bumps."""
    q = points.abs() - 0.25
    wave = (torch.sin(points * 37 + 0.5)).prod(1) + 0.5 * torch.sin(points * 90 + 1.0).prod(1)
    return 0.75 * (q.norm(dim=1) - radius - 0.012 * wave)


def colour(points: Tensor) -> Tensor:
    """Base colour, metallic, roughness, alpha [n, 6] of points [n, 3]."""
    x, y, z = points.unbind(1)
    waves = (7 * x + 2 * y, 6 * y - 3 * z + 1, 8 * z + 2 * x, 5 * x, 5 * (y + z))
    return torch.stack([0.5 + 0.4 * torch.sin(wave) for wave in waves] + [torch.ones_like(x)], 1)


def bumpy_voxels(resolution: int, device: str | torch.device = "cpu", radius: float = 0.2) -> OVoxel:
    """The O-Voxel; resolution a multiple of 16, radius as of `distance`."""
    far = partial(distance, radius=radius)
    side = resolution // BLOCK
    axis = torch.arange(side, device=device)
    blocks = torch.cartesian_prod(axis, axis, axis)
    blocks = blocks[far((blocks + 0.5) / side - 0.5).abs() < 1.0 / side]
    corner = torch.cartesian_prod(*[torch.arange(BLOCK + 1, device=device)] * 3)
    parts = [_of_blocks(far, part, corner, resolution) for part in blocks.split(_BLOCKS_AT_ONCE)]
    coords, inside, values = (torch.cat(part) for part in zip(*parts, strict=True))
    points = _dual_points(far, coords, inside, values, resolution)
    owned = []
    for axis in range(3):
        low = [1, 1, 1]
        low[axis] = 0
        owned.append(inside[:, CORNERS.index(tuple(low))] != inside[:, 7])
    offsets = (points + 0.5) * resolution - coords
    return OVoxel(coords.int(), offsets.clamp(0, 1), torch.stack(owned, 1), resolution, None, colour(points))


def _of_blocks(far: Far, blocks: Tensor, corner: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    grid = blocks[:, None] * BLOCK + corner
    values = far(grid.reshape(-1, 3) / resolution - 0.5).view(-1, *[BLOCK + 1] * 3)
    inside = values < 0
    eight = [inside[:, x : x + BLOCK, y : y + BLOCK, z : z + BLOCK] for x, y, z in CORNERS]
    count = sum(part.to(torch.uint8) for part in eight)
    block, x, y, z = torch.nonzero((count > 0) & (count < 8)).unbind(1)
    at = [(block, x + i, y + j, z + k) for i, j, k in CORNERS]
    cells = blocks[block] * BLOCK + torch.stack([x, y, z], 1)
    return cells, torch.stack([inside[index] for index in at], 1), torch.stack([values[index] for index in at], 1)


def _dual_points(far: Far, cells: Tensor, inside: Tensor, values: Tensor, resolution: int) -> Tensor:
    """The mean of the edge crossings, moved onto the surface by two Newton steps, kept in its cell."""
    total, count = torch.zeros(len(cells), 3, device=cells.device), torch.zeros(len(cells), 1, device=cells.device)
    for axis, low in EDGES:
        high = list(low)
        high[axis] = 1
        one, two = CORNERS.index(low), CORNERS.index(tuple(high))
        crosses = (inside[:, one] != inside[:, two])[:, None]
        step = values[:, one] - values[:, two]
        share = torch.where(crosses[:, 0], values[:, one] / torch.where(step == 0, torch.ones_like(step), step), 0.0)
        point = torch.tensor(low, dtype=torch.float32, device=cells.device).repeat(len(cells), 1)
        point[:, axis] = share
        total, count = total + crosses * point, count + crosses
    low = cells / resolution - 0.5
    points = low + total / count / resolution
    reach = 0.1 / resolution
    for _ in range(2):
        d = far(points)
        steps = torch.eye(3, device=cells.device) * reach
        gradient = torch.stack([far(points + step) - far(points - step) for step in steps], 1) / (2 * reach)
        points = points - d[:, None] * gradient / (gradient**2).sum(1, keepdim=True).clamp(min=1e-6)
        points = torch.minimum(torch.maximum(points, low), low + 1 / resolution)
    return points
