# SPDX-License-Identifier: Apache-2.0
"""Levels share what their coordinates imply, and going down and up again is exact."""

import gc
import weakref

import pytest
import torch

from genesis_server.protocol.errors import GenesisError
from genesis_server.sparse import Level, SparseTensor
from genesis_server.sparse.resample import channel_to_space, coarsen, space_to_channel, subdivide
from genesis_server.sparse.rows import take_rows
from native_ext.neighbours import neighbour_table


def some_voxels(seed: int = 0, channels: int = 3) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = (torch.rand(2, 6, 5, 7, generator=generator) < 0.3).nonzero().int()
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords)


def test_tensors_on_the_same_voxels_share_one_neighbour_table():
    x = some_voxels()
    assert x.replace(x.feats * 2).level.neighbours is x.level.neighbours


def test_space_to_channel_and_back_restores_rows_and_order():
    x = some_voxels()
    y = space_to_channel(x, coarsen(x.level))
    back = channel_to_space(y, subdivide(y.level, None))
    assert torch.equal(back.feats, x.feats) and back.level is x.level


def test_an_encoders_map_overrides_a_mask():
    x = some_voxels()
    coarse = coarsen(x.level)
    everything = torch.ones(len(coarse.coords), 8, dtype=torch.bool)
    assert subdivide(coarse, everything).fine is x.level


def test_children_are_parent_major_with_x_as_lowest_bit():
    level = Level(torch.tensor([[0, 3, 1, 2], [1, 0, 0, 5]], dtype=torch.int32))
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, [1, 4]] = True
    mask[1, 2] = True
    assert subdivide(level, mask).fine.coords.tolist() == [[0, 7, 2, 4], [0, 6, 2, 5], [1, 0, 1, 10]]


def test_the_same_mask_gives_the_same_level_again():
    level = some_voxels().level
    mask = torch.rand(len(level.coords), 8) < 0.5
    assert subdivide(level, mask).fine is subdivide(level, mask.clone()).fine
    assert subdivide(level, ~mask).fine is not subdivide(level, mask).fine


@pytest.mark.parametrize("table_first", [True, False])
def test_neighbours_of_children_do_not_depend_on_how_they_are_found(table_first):
    level = some_voxels().level
    if table_first:
        assert level.neighbours.shape[1] == 27
    fine = subdivide(level, torch.rand(len(level.coords), 8) < 0.5).fine
    assert torch.equal(fine.neighbours, neighbour_table(fine.coords))


def test_levels_are_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = some_voxels()
        down = space_to_channel(x, coarsen(x.level))
        bare = SparseTensor(down.feats, down.coords)
        up = channel_to_space(bare, subdivide(bare.level, torch.ones(len(down), 8, dtype=torch.bool)))
        watched = [weakref.ref(t.level) for t in (x, down, bare, up)]
        del x, down, bare, up
        assert all(reference() is None for reference in watched)
    finally:
        gc.enable()


def test_missing_mask_is_refused():
    with pytest.raises(GenesisError, match="no subdivision mask"):
        subdivide(some_voxels().level, None)


def test_rows_and_voxels_must_agree():
    with pytest.raises(GenesisError, match="2 feature rows were given for 3 voxels"):
        SparseTensor(torch.zeros(2, 1), torch.zeros(3, 4, dtype=torch.int32))


def test_slices_of_samples():
    x = some_voxels()
    assert x.batch_size == 2
    for b in range(2):
        coords, feats = x.sample(b)
        rows = x.coords[:, 0] == b
        assert torch.equal(coords, x.coords[rows, 1:]) and torch.equal(feats, x.feats[rows])


def test_gradient_of_taken_rows_is_that_of_indexing():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([4, 0, 5])
    assert torch.autograd.gradcheck(lambda x: take_rows(x, rows), x)
