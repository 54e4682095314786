# SPDX-License-Identifier: Apache-2.0
"""Uncovered texels take the nearest covered one, exactly (docs/spec/geometry.md 19.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from native_ext.fill_gutters import nearest_covered


@pytest.mark.parametrize(("shape", "share"), [((40, 60), 0.02), ((64, 17), 0.3), ((1, 50), 0.1), ((33, 33), 0.001)])
def test_the_source_is_the_nearest_covered_texel(shape: tuple[int, int], share: float) -> None:
    covered = np.random.default_rng(1).random(shape) < share
    covered.flat[shape[0] * shape[1] // 2] = True
    source = nearest_covered(torch.from_numpy(covered)).numpy()
    assert covered.reshape(-1)[source].all()
    rows, cols = np.indices(shape)
    distance = np.hypot(source // shape[1] - rows, source % shape[1] - cols)
    assert np.abs(distance - distance_transform_edt(~covered)).max() < 1e-9


def test_nothing_covered_gives_no_source() -> None:
    assert (nearest_covered(torch.zeros(8, 9, dtype=torch.bool)) == -1).all()


def test_ties_go_left_and_up() -> None:
    covered = torch.zeros(5, 5, dtype=torch.bool)
    covered[2, 0] = covered[2, 4] = covered[0, 2] = covered[4, 2] = True
    assert int(nearest_covered(covered)[2, 2]) == 2  # straight above, before the same distance to the left
