# SPDX-License-Identifier: Apache-2.0
"""Edges between the corners of an O-Voxel's box: the view in which all flags together say what is inside."""

from __future__ import annotations

import torch
from torch import Tensor

PAD = 3  # corners around the cells: one for the border, one for a sheet's back, one to spare


def corner_box(coords: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Lowest corner int64 [3] of a box around the cells [N, 3], N > 0, and its corners per axis."""
    low = coords.amin(0).long() - PAD
    return low, tuple((coords.amax(0).long() - low + PAD + 2).tolist())


def unit(axis: int, device: torch.device) -> Tensor:
    """int64 [3], one step along the axis."""
    return torch.eye(3, dtype=torch.int64, device=device)[axis]


def crossed_edges(cells: Tensor, flags: Tensor, size: tuple[int, ...]) -> Tensor:
    """bool [3, X, Y, Z], flagged edges by axis and low corner, of cells int64 [N, 3] in the box and their flags [N, 3]."""
    crossed = torch.zeros(3, *size, dtype=torch.bool, device=cells.device)
    for axis in range(3):
        x, y, z = (cells[flags[:, axis]] + 1 - unit(axis, cells.device)).unbind(1)  # the owned edge is at the upper corner
        crossed[axis, x, y, z] = True
    return crossed


def differing_edges(solid: Tensor) -> Tensor:
    """bool [3, X, Y, Z], edges with one end inside, by axis and low corner."""
    return _of_both_ends(solid, torch.logical_xor)


def touching_edges(corners: Tensor) -> Tensor:
    """bool [3, X, Y, Z], edges with at least one of the corners bool [X, Y, Z] at their ends."""
    return _of_both_ends(corners, torch.logical_or)


def _of_both_ends(corners: Tensor, rule) -> Tensor:
    edges = torch.zeros(3, *corners.shape, dtype=torch.bool, device=corners.device)
    for axis in range(3):
        count = corners.shape[axis] - 1
        edges[axis].narrow(axis, 0, count).copy_(rule(corners.narrow(axis, 0, count), corners.narrow(axis, 1, count)))
    return edges
