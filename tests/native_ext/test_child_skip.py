# SPDX-License-Identifier: Apache-2.0
"""Every child gets its eighth of the parent's channels, each repeated consecutively (docs/spec/networks.md 3.11)."""

import torch

from native_ext.child_skip import add_child_skip_


def test_children_take_their_channels() -> None:
    x = torch.arange(2 * 16.0).view(2, 16)  # two parents, two channels for each of eight children
    h = torch.full((3, 6), 100.0)  # each repeated three times
    slots = torch.tensor([0 * 8 + 1, 1 * 8 + 0, 1 * 8 + 7])
    with torch.no_grad():
        result = add_child_skip_(h, x, slots)
    assert result is h
    assert (h - 100).tolist() == [[2, 2, 2, 3, 3, 3], [16, 16, 16, 17, 17, 17], [30, 30, 30, 31, 31, 31]]
