# SPDX-License-Identifier: Apache-2.0
"""What the evaluation measures on an object it is given as its own answer."""

import dataclasses

import torch

from genesis_server.mini.evaluate import VIEW, compare, draw, format_table, truths_of
from genesis_server.mini.world import World
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.latents import Structure

UNKNOWN = {"metallic", "roughness", "hidden_distance", "hidden_colour"}


class _Plan:
    resolution, grid = 128, 16


class _Model:
    @staticmethod
    def plan():
        return _Plan


def _case(colour_shift=0.0, **unknown):
    world = World("cpu", 128, 64)
    chosen = world.objects(5, 0, 1)
    voxels = world.voxels(chosen)
    attributes = voxels.attributes.clone()
    attributes[:, :3] += colour_shift
    found = OVoxel(voxels.coords[:, 1:], voxels.offsets, voxels.intersected, 128, attributes=attributes)
    structure = Structure(world.occupancy(voxels, 16)[0].nonzero(), 16)
    return compare((structure, found), dataclasses.replace(truths_of(world, chosen, _Model)[0], **unknown))


def test_the_truth_itself_scores_full_marks():
    row = _case()
    assert row["iou_structure"] == row["iou_voxels"] == 1
    assert row["chamfer"] < 1e-4  # distances come from inner products in float32
    assert row["normals"] > 0.999 and row["hidden_distance"] < 1e-4 and row["hidden_colour"] > 40
    assert row["silhouette"] > 0.95  # the outline is as fine as the drawing's pixels
    assert row["colour_psnr"] > 20  # edges of patterns fall on other pixels
    assert row["metallic"] < 0.02


def test_a_colour_error_is_measured_at_its_size():
    assert _case(0.5)["colour_psnr"] < 10


def test_what_is_not_known_is_not_measured_and_the_rest_is():
    row = _case(metallic_roughness=None, hidden=None)
    assert row == {name: value for name, value in _case().items() if name not in UNKNOWN}
    assert not UNKNOWN & set(row)
    report = {"objects": 1, "failed": 0, "mean": row, "median": row}
    assert len(format_table(report).splitlines()) == 2 + len(row)


def test_nothing_generated_scores_nothing():
    assert compare(None, None)["iou_structure"] == 0


def test_the_nearest_voxel_hides_the_others():
    positions = torch.tensor([[0.0, -0.3, 0.0], [0.0, 0.3, 0.0]])
    mask, image = draw(positions, torch.tensor([[1.0], [2.0]]), VIEW)
    assert mask.sum() == 4 and torch.equal(image[mask], torch.ones(4, 1))
