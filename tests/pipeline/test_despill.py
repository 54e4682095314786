# SPDX-License-Identifier: Apache-2.0
"""The colour of a model's ground leaves what it painted, unless the picture itself has that colour."""

import pytest
import torch
from PIL import Image

from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.conditioning import Framing
from genesis_server.pipeline.despill import despilled

GREEN = Framing(ground=(0, 255, 0))


@pytest.fixture
def voxels():
    colours = torch.tensor([[0.2, 0.8, 0.1], [0.5, 0.3, 0.2]])
    attributes = torch.cat([colours, torch.full((2, 3), 0.5)], dim=1)
    return OVoxel(torch.zeros(2, 3).int(), torch.zeros(2, 3), torch.ones(2, 3).bool(), 8, attributes=attributes)


def test_green_parts_of_a_brown_object_lose_it(voxels):
    found = despilled(voxels, [Image.new("RGBA", (8, 8), (90, 60, 30, 255))], GREEN).attributes
    assert torch.allclose(found[0], torch.tensor([0.2, 0.2, 0.1, 0.5, 0.5, 0.5])) and torch.equal(
        found[1], voxels.attributes[1]
    )


def test_a_green_object_stays_green(voxels):
    found = despilled(voxels, [Image.new("RGBA", (8, 8), (40, 200, 30, 255))], GREEN).attributes
    assert torch.equal(found, voxels.attributes)


def test_nothing_changes_for_a_model_without_a_ground(voxels):
    assert despilled(voxels, [Image.new("RGBA", (8, 8), (90, 60, 30, 255))], Framing()) is voxels
