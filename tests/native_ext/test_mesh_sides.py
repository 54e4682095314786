# SPDX-License-Identifier: Apache-2.0
"""Sides around vertices: counted on a CPU as they are sorted on a GPU."""

import pytest
import torch

from native_ext.mesh_sides import fans_of


@pytest.mark.parametrize(("vertices", "faces"), [(5, 0), (3, 1), (200, 1000)])
def test_every_side_is_listed_once_by_vertex_and_ascending(vertices: int, faces: int):
    corners = torch.randint(0, vertices, (faces, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    fans = fans_of(corners, vertices)
    assert torch.equal(fans.side.long(), torch.sort(corners.reshape(-1), stable=True).indices)
    count = torch.bincount(corners.reshape(-1), minlength=vertices)
    assert torch.equal(fans.start.long(), torch.cat([count.new_zeros(1), count.cumsum(0)])) and fans.side.dtype == torch.int32
