# SPDX-License-Identifier: Apache-2.0
"""Sums over runs: short, long and empty ones, against plain sums."""

import torch

from native_ext.segment_sum import segment_sum, sum_by_row


def test_runs_of_every_length_are_summed():
    length = torch.tensor([0, 3, 1_500_000, 0, 1, 1024, 1025, 5000, 0])
    start = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(length, 0)])
    values = torch.randint(-100, 100, (int(length.sum()), 2), generator=torch.Generator().manual_seed(0)).double()
    wanted = torch.stack([part.sum(0) for part in values.split(length.tolist())])
    assert torch.equal(segment_sum(values, start), wanted)


def test_rows_in_any_order_and_rows_without_values():
    row = torch.randint(0, 3, (9000,), generator=torch.Generator().manual_seed(1)) * 2
    total = sum_by_row(row, torch.ones(9000, 1), 6)
    assert torch.equal(total[:, 0], torch.bincount(row, minlength=6).double())
    assert sum_by_row(row[:0], torch.ones(0, 1), 2).tolist() == [[0], [0]]
