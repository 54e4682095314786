# SPDX-License-Identifier: Apache-2.0
"""Flat triangles relax towards their true shapes; the kernel does what the plain tensor operations do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from native_ext.relax_flat import own_shapes, relax_flat, relax_flat_reference


def half_tube(around: int = 24, along: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """A half tube of radius 1, length 2, seen from outside along x: flat [F, 3, 2], points [F, 3], in space [F, 3, 3]."""
    angle = torch.linspace(-math.pi / 2, math.pi / 2, around + 1, dtype=torch.float64)
    height = torch.linspace(0, 2, along + 1, dtype=torch.float64)
    a, z = torch.meshgrid(angle, height, indexing="ij")
    points = torch.stack([a.cos(), a.sin(), z], 2).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(around), torch.arange(along), indexing="ij")
    low = (i * (along + 1) + j).reshape(-1)
    side, up = low + along + 1, low + 1
    corner = torch.cat([torch.stack([low, side, up], 1), torch.stack([side, side + 1, up], 1)])
    corners = points[corner]
    return torch.stack([corners[..., 1], -corners[..., 2]], 2), corner, corners


def areas(flat: Tensor) -> Tensor:
    a, b, c = flat.unbind(1)
    return -((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def test_a_half_tube_rolls_out() -> None:
    flat, corner, corners = half_tube()
    assert float(areas(flat).sum()) < 4.01  # seen from the front it is 2 wide
    out = relax_flat(flat, corner, own_shapes(corners), 400)
    ratio = areas(out) / areas(own_shapes(corners))
    assert float(ratio.min()) > 0.97 and float(ratio.max()) < 1.03
    width = out[..., 0].max() - out[..., 0].min()
    assert abs(float(width) / math.pi - 1) < 0.01


def test_what_has_its_shape_already_stays() -> None:
    _, corner, corners = half_tube()
    angle = torch.atan2(corners[..., 1], corners[..., 0])
    flat = torch.stack([angle * 24 / math.pi * 2 * math.sin(math.pi / 48), -corners[..., 2]], 2)  # chords, side by side
    out = relax_flat(flat, corner, own_shapes(corners), 50)
    assert float((out - flat).abs().max()) < 1e-9


def test_kernel_and_reference_agree() -> None:
    flat, corner, corners = half_tube(7, 5)
    flat = flat + 0.02 * torch.rand(36 + 12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[corner]
    one, two = relax_flat(flat, corner, own_shapes(corners), 20), relax_flat_reference(flat, corner, own_shapes(corners), 20)
    assert float((one - two).abs().max()) < 1e-12  # sums in the same order; rotations may round differently
    assert float((one - flat).abs().max()) > 1e-3


def test_shapes_keep_their_sides_and_turn_the_right_way() -> None:
    _, _, corners = half_tube(5, 3)
    shape = own_shapes(corners)
    sides = (shape.roll(-1, 1) - shape).norm(dim=2)
    assert torch.allclose(sides, (corners.roll(-1, 1) - corners).norm(dim=2), atol=1e-12)
    assert (areas(shape) > 0).all()


def test_a_point_whose_corners_lie_apart_begins_in_their_middle() -> None:
    """As where two charts have just been laid side by side; whichever corner came last must not decide."""
    _, corner, corners = half_tube(3, 2)
    shape = own_shapes(corners)
    apart = torch.rand(len(corner), 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    order = torch.randperm(len(corner), generator=torch.Generator().manual_seed(3))
    one, two = relax_flat(apart, corner, shape, 3), relax_flat(apart[order], corner[order], shape[order], 3)
    assert float((one[order] - two).abs().max()) < 1e-12
