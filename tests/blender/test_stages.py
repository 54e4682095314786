# SPDX-License-Identifier: Apache-2.0
"""What a placeholder shows while its job runs."""

from __future__ import annotations

import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import Blender
from test_generate import choose

from blender_addon import preview_mesh, stages, waiting
from genesis_server.protocol.messages import Preview


def test_two_voxels_show_their_ten_outer_faces() -> None:
    arrays = preview_mesh.voxel_faces(np.array([(0, 0, 0), (1, 0, 0)], np.int32), 4)
    assert arrays.sides == 4 and len(arrays.corners) == 4 * 10 and len(arrays.vertices) == 12
    assert arrays.vertices.min(axis=0).tolist() == [-0.5, -0.5, -0.5]
    assert arrays.vertices.max(axis=0).tolist() == [0.0, -0.25, -0.25]


def test_faces_of_voxels_look_outward() -> None:
    arrays = preview_mesh.voxel_faces(np.array([(1, 1, 1)], np.int32), 3)
    corners = arrays.vertices[arrays.corners].reshape(-1, 4, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners.mean(axis=1)).sum(axis=1) > 0.0).all(), "the cell lies around the origin"


def test_many_voxels_are_shown_as_fewer() -> None:
    solid = np.argwhere(np.ones((128,) * 3, bool))
    arrays = preview_mesh.voxel_faces(solid, 128)
    assert len(arrays.corners) // 4 == 6 * preview_mesh.MAX_CELLS**2
    assert arrays.vertices.min() == -0.5 and arrays.vertices.max() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "preview",
    [
        Preview("j", "voxels", 4),
        Preview("j", "voxels", 4, coords=np.full((1, 3), 9, "<u2").tobytes()),
        Preview("j", "mesh", 0),
        Preview("j", "mesh", 0, vertices=np.zeros((3, 3), "<f4").tobytes(), faces=np.array([0, 1, 7], "<i4").tobytes()),
    ],
)
def test_a_preview_that_holds_nothing_is_not_shown(preview: Preview) -> None:
    with pytest.raises(ValueError, match="it|its"):
        preview_mesh.arrays_of(preview)


def test_a_preview_stands_where_the_result_will(blender: Blender) -> None:
    mesh = waiting.add_mesh("thing", 3.0)
    mesh.genesis.job, mesh.genesis.size = "j", 3.0
    cells = np.argwhere(np.ones((2, 2, 4), bool)) + 2
    stages.show(mesh, preview_mesh.arrays_of(Preview("j", "voxels", 8, coords=cells.astype("<u2").tobytes())))
    points = np.array([tuple(vertex.co) for vertex in mesh.vertices])
    assert points[:, 2].min() == 0.0 and np.ptp(points[:, 2]) == pytest.approx(3.0)
    assert np.ptp(points[:, 0]) == pytest.approx(1.5)


def test_a_placeholder_becomes_voxels_then_a_shape_then_the_asset(blender: Blender, picture: Path) -> None:
    choose(picture)
    bpy.ops.genesis.generate()
    mesh = bpy.data.objects["my cake"].data
    seen: list[str] = []

    def look() -> bool:
        sides = {polygon.loop_total for polygon in mesh.polygons[:1]}
        state = "asset" if mesh.genesis.imported else {4: "voxels", 3: "shape"}.get(min(sides, default=0), "box")
        if state not in seen:
            seen.append(state)
        return not blender.session.busy

    end = time.monotonic() + 240.0
    while not look():
        blender.session.pump(time.monotonic())
        assert time.monotonic() < end, blender.session.tasks
        time.sleep(0.01)
    assert seen[0] == "box" and seen[-1] == "asset" and "voxels" in seen
    assert mesh == bpy.data.objects["my cake"].data, "one and the same mesh all the time"
