# SPDX-License-Identifier: Apache-2.0
"""Crossing segments are found, however long."""

from __future__ import annotations

import torch

from native_ext.segment_crossings import crossing_segments


def test_the_same_segments_are_found_as_by_comparing_all() -> None:
    random = torch.Generator().manual_seed(0)
    a = torch.rand(300, 2, generator=random, dtype=torch.float64) * 40
    b = a + torch.randn(300, 2, generator=random, dtype=torch.float64)
    b[:5] = torch.rand(5, 2, generator=random, dtype=torch.float64) * 40  # long ones
    ends = torch.arange(600).reshape(300, 2)

    def side(p: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return (q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]

    p, q, r, s = a[:, None], b[:, None], a[None], b[None]
    crossing = (side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)
    assert 20 < int(crossing.any(1).sum()) < 280
    assert torch.equal(crossing_segments(a, b, ends), crossing.any(1))


def test_segments_that_share_an_end_do_not_cross() -> None:
    a, b = torch.tensor([[0.0, 0], [2, 0]]).double(), torch.tensor([[2.0, 2], [0, 2]]).double()
    assert crossing_segments(a, b, torch.tensor([[0, 1], [2, 3]])).tolist() == [True, True]
    assert crossing_segments(a, b, torch.tensor([[0, 1], [2, 0]])).tolist() == [False, False]
    assert crossing_segments(a[:0], b[:0], torch.zeros(0, 2, dtype=torch.int64)).shape == (0,)
