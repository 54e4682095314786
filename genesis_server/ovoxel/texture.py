# SPDX-License-Identifier: Apache-2.0
"""Texture images and how a point of a surface looks them up (docs/spec/geometry.md 4.4).

Linear textures are sampled from a chain of halved images (each the integer mean of 2 x 2 texels of the one above), so that a
voxel sees the mean of what it covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Wrap(IntEnum):
    """What lies outside the image."""

    REPEAT = 0
    CLAMP = 1
    MIRROR = 2


@dataclass(frozen=True)
class Texture:
    """An image for sampling.

    Attributes:
        pixels: uint8 [H, W, C]; row 0 is the top of the image.
        linear: bilinear with mip levels; otherwise the nearest texel of the full image.
        wrap: outside 0..1.
    """

    pixels: Tensor
    linear: bool = True
    wrap: Wrap = Wrap.REPEAT

    def sample(self, uv: Tensor, footprint: Tensor, level_offset: float = 0.0) -> Tensor:
        """Values at points of the image.

        Args:
            uv: float64 [n, 2], v growing upward.
            footprint: float64 [n], extent of a sample in UV.
            level_offset: added to the mip level.

        Returns:
            float64 [n, C], 0..1.
        """
        if not self.linear:
            height, width = self.pixels.shape[:2]
            x = _inside(torch.floor(uv[:, 0] * width).long(), width, self.wrap)
            y = _inside(torch.floor((1 - uv[:, 1]) * height).long(), height, self.wrap)
            return self.pixels[y, x].double() / 255
        levels = _mip_levels(_square(self.pixels))
        last = len(levels) - 1
        level = torch.log2(footprint * levels[0].shape[0]) + level_offset
        level = torch.where(torch.isfinite(level), level, torch.zeros_like(level)).clamp(0, last)
        below = level.floor().long()
        flat = torch.cat([image.reshape(-1, image.shape[2]) for image in levels])
        sizes = torch.tensor([image.shape[0] for image in levels], device=flat.device)
        starts = torch.cumsum(sizes * sizes, 0) - sizes * sizes
        share = (level - below)[:, None]
        one = _bilinear(flat, starts[below], sizes[below], uv, self.wrap)
        above = (below + 1).clamp(max=last)
        two = _bilinear(flat, starts[above], sizes[above], uv, self.wrap)
        return (one * (1 - share) + two * share) / 255


def _inside(index: Tensor, size: int | Tensor, wrap: Wrap) -> Tensor:
    if wrap is Wrap.CLAMP:
        return torch.minimum(index.clamp(min=0), torch.as_tensor(size - 1, device=index.device))
    if wrap is Wrap.MIRROR:
        index = index % (2 * size)
        return torch.where(index < size, index, 2 * size - 1 - index)
    return index % size


def _bilinear(flat: Tensor, start: Tensor, size: Tensor, uv: Tensor, wrap: Wrap) -> Tensor:
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    left, top = torch.floor(x), torch.floor(y)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    total = torch.zeros(len(uv), flat.shape[1], dtype=torch.float64, device=flat.device)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = _inside(top.long() + down, size, wrap)
        column = _inside(left.long() + right, size, wrap)
        weight = (fx if right else 1 - fx) * (fy if down else 1 - fy)
        total += weight * flat[start + row * size + column].double()
    return total


def _mip_levels(pixels: Tensor) -> list[Tensor]:
    levels = [pixels]
    while levels[-1].shape[0] > 1:
        image = levels[-1].int()
        quads = image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]
        levels.append((quads // 4).to(torch.uint8))
    return levels


def _square(pixels: Tensor) -> Tensor:
    """The image as a square of a power of two: the one nearest to its larger side, the upper on a tie."""
    larger = max(pixels.shape[:2])
    lower = 1 << int(math.log2(larger))
    side = lower if larger - lower < 2 * lower - larger else 2 * lower
    if pixels.shape[0] == pixels.shape[1] == side:
        return pixels
    planes = [
        Image.fromarray(plane).resize((side, side), Image.Resampling.LANCZOS) for plane in pixels.cpu().permute(2, 0, 1).numpy()
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes], 2)).to(pixels.device)
