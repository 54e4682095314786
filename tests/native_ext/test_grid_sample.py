# SPDX-License-Identifier: Apache-2.0
"""Sparse grid sampling against the goldens and a brute-force reference; points without data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from native_ext import voxel_lookup
from native_ext.grid_sample import nearest_voxel, sample_grid, sample_grid_or_nearest

GOLDEN = Path(__file__).parents[1] / "data" / "geometry" / "grid_sample.npz"


@pytest.mark.parametrize("dense", [True, False], ids=["table", "sorted keys"])
def test_goldens(dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(voxel_lookup, "_DENSE_CELLS_MAX", 0)
    g = np.load(GOLDEN)
    sides = tuple(int(side) for side in g["shape"][2:])
    for batch in range(len(g["query"])):
        rows = g["coords"][:, 0] == batch
        coords, feats = torch.from_numpy(g["coords"][rows][:, 1:]), torch.from_numpy(g["feats"][rows])
        values, weight = sample_grid(feats, coords, sides, torch.from_numpy(g["query"][batch]))
        known = g["weight_sum"][batch] > 1e-3
        assert np.abs(values.numpy() - g["trilinear"][batch])[known].max() < 1e-5
        assert np.abs(weight.numpy() - g["weight_sum"][batch]).max() < 1e-6  # float32


def test_nearest_voxel_matches_brute_force_near_and_far():
    generator = torch.Generator().manual_seed(1)
    coords = torch.randint(0, 64, (300, 3), generator=generator).unique(dim=0)
    coords = coords[coords[:, 0] < 20]
    points = torch.rand(400, 3, generator=generator) * 80 - 8
    row = nearest_voxel(coords, 64, points)
    distance = torch.cdist(points.double(), coords.double() + 0.5)
    assert (distance.gather(1, row[:, None])[:, 0] - distance.amin(1)).max() < 1e-5  # float32 distances of up to 64


def test_points_without_data_take_the_nearest_value_and_say_so():
    coords = torch.tensor([[1, 1, 1], [6, 6, 6]])
    feats = torch.tensor([[1.0], [float("nan")]])
    values, known = sample_grid_or_nearest(feats, coords, 8, torch.tensor([[1.5, 1.5, 1.5], [1.5, 4.0, 1.5], [1.2, 1.9, 2.0]]))
    assert known.tolist() == [True, False, True]
    assert values[:, 0].tolist() == pytest.approx([1.0, 1.0, 1.0])  # the unrelated NaN row never leaks


def test_gradients_are_the_normalised_weights():
    coords = torch.tensor([[0, 0, 0], [1, 0, 0]])
    feats = torch.zeros(2, 1, requires_grad=True)
    values, _ = sample_grid(feats, coords, 4, torch.tensor([[0.75, 0.5, 0.5]]))
    values.sum().backward()
    assert feats.grad[:, 0].tolist() == pytest.approx([0.75, 0.25])


def test_cells_outside_the_grid_are_refused():
    with pytest.raises(ValueError, match="leave the grid"):
        sample_grid(torch.zeros(1, 1), torch.tensor([[4, 0, 0]]), 4, torch.zeros(1, 3))


def test_no_voxels_give_zeros():
    values, known = sample_grid_or_nearest(torch.zeros(0, 2), torch.zeros(0, 3, dtype=torch.int32), 4, torch.ones(3, 3))
    assert values.shape == (3, 2) and not values.any() and not known.any()
