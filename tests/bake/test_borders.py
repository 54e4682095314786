# SPDX-License-Identifier: Apache-2.0
"""Charts do not lie over themselves, not even by less than a texel (docs/spec/geometry.md 21)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genesis_server.bake.borders import crossing_faces, uncrossed
from genesis_server.bake.layout import altitudes, flat_areas


def ring(turn: float, steps: int = 40, inner: float = 0.8) -> tuple[Tensor, Tensor]:
    """A band around the origin, `turn` of a whole circle long, as flat faces and the numbers of their corners."""
    angle = torch.linspace(0, 2 * math.pi * turn, steps + 1, dtype=torch.float64)
    rim = torch.stack([angle.cos(), -angle.sin()], 1)
    point = torch.cat([rim, inner * rim])
    i = torch.arange(steps)
    corner = torch.cat([torch.stack([i, i + 1, steps + 1 + i], 1), torch.stack([i + 1, steps + 2 + i, steps + 1 + i], 1)])
    return point[corner], corner


def test_ends_of_a_band_that_just_overlap_give_way() -> None:
    flat, corner = ring(1.002)
    chart = torch.zeros(len(corner), dtype=torch.int64)
    assert bool((flat_areas(flat) > 0).all())
    assert bool(crossing_faces(flat, corner, chart).any())
    after, left = uncrossed(flat, corner, chart, altitudes(flat).clamp_max(1e-3))
    assert not bool(left.any()) and not bool(crossing_faces(after, corner, chart).any())
    assert bool((altitudes(after) >= 1e-3).all())
    far = (corner > 4).all(1) & ((corner < 36) | (corner > 45)).all(1) & (corner < 77).all(1)
    assert bool(far.any()) and torch.equal(after[far], flat[far])  # only the ends have moved


def test_a_band_that_does_not_meet_itself_stays() -> None:
    flat, corner = ring(0.95)
    after, left = uncrossed(flat, corner, torch.zeros(len(corner), dtype=torch.int64), altitudes(flat).clamp_max(1e-3))
    assert torch.equal(after, flat) and not bool(left.any())


def test_what_cannot_give_way_is_named() -> None:
    """A spiral of one and a half turns lies over itself for half of its length."""
    flat, corner = ring(1.5)
    _, left = uncrossed(flat, corner, torch.zeros(len(corner), dtype=torch.int64), altitudes(flat).clamp_max(1e-3))
    assert bool(left.any())


def test_two_charts_may_lie_in_the_same_place() -> None:
    flat, corner = ring(0.5)
    both, corners = torch.cat([flat, flat + 0.01]), torch.cat([corner, corner + 82])
    chart = torch.arange(2).repeat_interleave(len(flat))
    assert not bool(crossing_faces(both, corners, chart).any())
    assert bool(crossing_faces(both, corners, torch.zeros_like(chart)).any())


def test_a_hole_turned_inside_out_is_seen() -> None:
    """Its edges share their ends with all that they could cross."""
    angle = torch.arange(6) * (math.pi / 3)
    rim = torch.stack([angle.cos(), -angle.sin()], 1).double()
    inner = 0.1 * torch.stack([(angle[:3] * 2).cos(), -(angle[:3] * 2).sin()], 1).double()
    corner = torch.tensor([[0, 1, 6], [1, 7, 6], [1, 2, 7], [2, 3, 7], [3, 8, 7], [3, 4, 8], [4, 5, 8], [5, 6, 8], [5, 0, 6]])
    across = inner * torch.tensor([[-0.8, 1.0], [1, 1], [1, 1]])  # the first beyond the edge of the other two
    for point, wrong in ((inner, False), (across, True)):
        flat = torch.cat([rim, point])[corner]
        assert bool((flat_areas(flat) > 0).all())
        assert bool(crossing_faces(flat, corner, torch.zeros(9, dtype=torch.int64)).any()) == wrong
