# SPDX-License-Identifier: Apache-2.0
"""Fits what a small view-aligned model makes to the one thing that its picture tells exactly: the outline.

Nothing stands beside the outline, and something stands behind every part of it. What was decoded beside it is taken away; gaps
are closed by round rods as wide as the outline is there, at the depth of what is found at their ends.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from genesis_server.ovoxel.reshape import reshaped
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.conditioning import Framing, framed

_COVERED = 0.4  # of a pixel, at least, where something may stand: what shows through thin things is mixed with them
_THICKEST = 4.0  # voxels, radius of what closes a gap: wide gaps are covered by sheets
_THINNEST = 0.9  # voxels: what is thinner would be lost in the mesh
_ROUNDS = 100  # by which depths are drawn between the ends of a gap


def fitted(voxels: OVoxel, cutout: Image.Image, framing: Framing) -> OVoxel:
    """The voxels within the cutout's outline, and all over it.

    Args:
        voxels: of an object aligned with the picture.
        cutout: of the first picture, as `cut_out` makes it; without alpha it tells nothing.
        framing: of the model; without a camera nothing is changed.
    """
    if framing.camera is None or cutout.mode != "RGBA":
        return voxels
    alpha = framed(cutout, framing.border).getchannel("A")
    resolution = voxels.resolution
    fine = _cover(alpha, 2 * resolution).to(voxels.coords.device)
    coarse = _cover(alpha, round(0.85 * resolution))  # pixels that the corners of a solid cover without holes

    def change(points: Tensor, solid: Tensor) -> tuple[Tensor, Tensor]:
        scale = framing.camera / (points[..., 1] + framing.camera)
        seen = torch.stack([2 * scale * points[..., 0], -2 * scale * points[..., 2]], -1).view(1, 1, -1, 2)
        room = torch.nn.functional.grid_sample(fine[None, None], seen, align_corners=False)[0, 0, 0] - _COVERED
        room = room.view(solid.shape)
        side = len(coarse)
        column, row = ((0.5 + 0.5 * seen[0, 0]) * side).long().clamp(0, side - 1).unbind(1)
        depth, radius = _gaps(coarse > 0.5, points[..., 1], solid & (room > 0), row * side + column, 1 / resolution)
        pixel = row * side + column
        inside = (radius[pixel] - (points[..., 1].flatten() - depth[pixel]).abs()).view(solid.shape)
        return room, inside

    return reshaped(voxels, change)


def _cover(alpha: Image.Image, side: int) -> Tensor:
    """float32 [side, side], coverage 0..1."""
    return torch.from_numpy(np.asarray(alpha.resize((side, side), Image.Resampling.BOX), np.float32) / 255)


def _gaps(outline: Tensor, y: Tensor, solid: Tensor, pixel: Tensor, voxel: float) -> tuple[Tensor, Tensor]:
    """Depth and half thickness [S * S] of what is missing in the picture; no thickness (-1) where nothing is.

    Args:
        outline: bool [S, S].
        y: depths of the grid's corners; solid: which of them are inside; pixel: int64, where each is seen.
        voxel: size of a voxel.
    """
    side = len(outline)
    device = y.device
    first = torch.full((side * side,), torch.inf, device=device)
    first = first.scatter_reduce(0, pixel[solid.flatten()], y.flatten()[solid.flatten()], "amin").view(side, side)
    known = first.isfinite()
    outline = outline.to(device)
    gap = outline & ~known
    nothing = torch.full((side * side,), -1.0, device=device)
    if not bool(gap.any()) or not bool((known & outline).any()):
        return torch.zeros_like(nothing), nothing
    width = torch.from_numpy(distance_transform_edt(np.pad(outline.cpu().numpy(), 1))[1:-1, 1:-1].astype(np.float32)).to(device)
    radius = (width / side).clamp(_THINNEST * voxel, _THICKEST * voxel)
    ends = known & outline
    centre = torch.where(ends, first + radius, 0.0)
    at = distance_transform_edt(~ends.cpu().numpy(), return_distances=False, return_indices=True)
    nearest = centre[torch.from_numpy(at[0]).to(device), torch.from_numpy(at[1]).to(device)]
    depth = _between(torch.where(gap, nearest, centre), gap, outline)
    near = torch.nn.functional.max_pool2d(gap.float()[None], 3, 1, 1)[0] > 0  # rods reach into what they end at
    return depth.flatten(), torch.where(near & outline, radius, -1.0).flatten()


def _between(depth: Tensor, gap: Tensor, outline: Tensor) -> Tensor:
    """Depths in gaps become the mean of their neighbours within the outline, again and again."""
    weight = torch.ones(1, 1, 3, 3, device=depth.device)
    count = torch.nn.functional.conv2d(outline.float()[None, None], weight, padding=1).clamp(min=1)
    for _ in range(_ROUNDS):
        mean = torch.nn.functional.conv2d((depth * outline)[None, None], weight, padding=1) / count
        depth = torch.where(gap, mean[0, 0], depth)
    return depth
