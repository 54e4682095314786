# SPDX-License-Identifier: Apache-2.0
"""The two-pass extraction against its torch reference, the hash table against a dictionary."""

import pytest
import torch

from native_ext.dual_grid_faces import dual_grid_faces
from native_ext.dual_grid_mesh import dual_grid_quads, flatter_diagonal, split_quads
from native_ext.voxel_hash import VoxelHash
from tests.analytic import torus, voxelize
from tests.mesh.noise import spoil


def test_the_hash_finds_what_is_there_and_the_smallest_of_equal_rows():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 1 << 40, (5000,), generator=generator)
    keys = torch.cat([keys, keys[:100], torch.arange(700)])
    table = VoxelHash(keys)
    rows = {}
    for row, key in enumerate(keys.tolist()):
        rows.setdefault(key, row)
    wanted = torch.cat([keys, keys + 1, torch.tensor([-1, -5])])
    assert table(wanted).tolist() == [rows.get(key, -1) for key in wanted.tolist()]
    assert VoxelHash(keys[:0])(keys[:3]).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("shuffled", [False, True])
def test_faces_are_those_of_the_reference_in_the_same_order(shuffled):
    voxels = spoil(voxelize(torus(), 48), missing=0.1, stray=0.1)
    order = torch.randperm(len(voxels.coords), generator=torch.Generator().manual_seed(1)) if shuffled else slice(None)
    coords, flags = voxels.coords[order], voxels.intersected[order]
    vertices = (coords + voxels.dual_vertices[order]) / 48 - 0.5
    weight = torch.rand(len(coords), generator=torch.Generator().manual_seed(2))
    quads = dual_grid_quads(coords, flags, 48)
    w = weight[quads]
    for rule, first in {
        "ref": torch.ones(len(quads), dtype=torch.bool),
        "weight": w[:, 0] * w[:, 2] > w[:, 1] * w[:, 3],
        "angle": flatter_diagonal(vertices, quads),
    }.items():
        faces, golden = dual_grid_faces(coords, flags, 48, vertices, rule, weight), split_quads(quads, first)
        assert torch.equal(faces, golden)


def test_nothing_and_cells_outside():
    none = torch.zeros(0, 3, dtype=torch.int32)
    assert dual_grid_faces(none, none.bool(), 8, none.float(), "angle").shape == (0, 3)
    for cell in ([0, 0, 8], [-1, 0, 0]):
        with pytest.raises(ValueError, match="leave the grid"):
            dual_grid_faces(torch.tensor([cell], dtype=torch.int32), torch.ones(1, 3).bool(), 8, torch.zeros(1, 3), "ref")
