# SPDX-License-Identifier: Apache-2.0
"""O-Voxels after some corners of the grid have changed sides: closed, in place, and otherwise as they were."""

import numpy as np
import torch

from genesis_server.mesh.repair import drop_unused_vertices
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.reshape import reshaped
from genesis_server.ovoxel.voxels import OVoxel
from tests.analytic import sphere, voxelize
from tests.quality import quality

RESOLUTION = 64
EVERYWHERE, NOTHING = torch.tensor(1.0), torch.tensor(-1.0)


def in_order(voxels: OVoxel) -> OVoxel:
    x, y, z = voxels.coords.long().unbind(1)
    order = ((x * RESOLUTION + y) * RESOLUTION + z).argsort()
    parts = (voxels.coords, voxels.dual_vertices, voxels.intersected)
    return OVoxel(*(part[order] for part in parts), RESOLUTION, attributes=voxels.attributes[order])


def test_what_has_no_room_is_cut_off_where_room_ends():
    ball = voxelize(sphere(0.4), RESOLUTION)
    cut = reshaped(ball, lambda points, solid: (0.113 - points[..., 0], NOTHING.expand(solid.shape)))
    mesh = extract_mesh(cut)
    assert quality(mesh).open_edges == 0
    x = mesh.vertices[:, 0]
    assert x.max() < 0.113 + 0.3 / RESOLUTION
    flat = x > 0.113 - 0.2 / RESOLUTION
    assert flat.sum() > 0.8 * np.pi * (0.4**2 - 0.113**2) * RESOLUTION**2
    ball, cut = in_order(ball), in_order(cut)
    left = cut.coords[:, 0] < (0.5 + 0.113) * RESOLUTION - 1  # away from the cut every cell is as it was
    same = ball.coords[:, 0] < (0.5 + 0.113) * RESOLUTION - 1
    assert torch.equal(cut.coords[left], ball.coords[same])
    assert torch.equal(cut.dual_vertices[left], ball.dual_vertices[same]) and torch.equal(
        cut.intersected[left], ball.intersected[same]
    )
    assert torch.equal(cut.attributes[left], ball.attributes[same])


def test_matter_is_added_with_the_colours_beside_it():
    ball = voxelize(sphere(0.2), RESOLUTION)

    def rod(points, solid):
        return EVERYWHERE.expand(solid.shape), 0.05 - points[..., [0, 1]].norm(dim=-1) - (points[..., 2].abs() - 0.4).clamp(
            min=0
        )

    longer = reshaped(ball, rod)
    mesh = drop_unused_vertices(extract_mesh(longer))
    q = quality(mesh)
    assert q.open_edges == 0 and q.components == 1
    top = mesh.vertices[(mesh.vertices[:, 2] - 0.3).abs() < 0.05]
    assert (top[:, :2].norm(dim=1) - 0.05).abs().max() < 0.6 / RESOLUTION and mesh.vertices[:, 2].max() > 0.39
    low, high = ball.attributes.amin(0), ball.attributes.amax(0)
    assert (longer.attributes >= low).all() and (longer.attributes <= high).all()


def test_voxels_that_need_no_change_are_returned_themselves():
    ball = voxelize(sphere(0.3), RESOLUTION)
    assert reshaped(ball, lambda points, solid: (EVERYWHERE.expand(solid.shape), NOTHING.expand(solid.shape))) is ball
