# SPDX-License-Identifier: Apache-2.0
"""Points settle at the weighted mean of their neighbours."""

from __future__ import annotations

import torch

from native_ext.settle_points import settle_points, settle_points_reference


def test_the_kernel_does_what_the_tensor_operations_do() -> None:
    random = torch.Generator().manual_seed(0)
    uses = torch.randint(1, 9, (50,), generator=random)
    start = torch.cat([uses.new_zeros(1), uses.cumsum(0)])
    names = torch.randperm(80, generator=random)[:50]
    other = torch.randint(0, 80, (int(uses.sum()),), generator=random)
    weight = torch.rand(len(other), generator=random, dtype=torch.float64) + 0.1
    shares = [torch.full((50,), share, dtype=torch.float64) for share in (0.0, 0.9, 1.0)]
    first = torch.rand(80, 2, generator=random, dtype=torch.float64)
    second = first.clone()
    settle_points(first, names, start, other, weight, shares)
    settle_points_reference(second, names, start, other, weight, shares)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_a_chain_between_two_ends_becomes_straight() -> None:
    point = torch.tensor([[0, 0], [5, 1], [-3, 2], [3, 0]]).double()
    names, start, other = torch.tensor([1, 2]), torch.tensor([0, 2, 4]), torch.tensor([0, 2, 1, 3])
    settle_points(point, names, start, other, torch.ones(4).double(), [torch.full((2,), 0.9).double()] * 60)
    torch.testing.assert_close(point, torch.tensor([[0, 0], [1, 0], [2, 0], [3, 0]]).double(), atol=1e-9, rtol=0)
