# SPDX-License-Identifier: Apache-2.0
"""A GLB, read back: every line of the mesh quality table on a torn solid and on sheets, with the levels of detail."""

from genesis_server.ovoxel.voxelize import voxelize_mesh
from tests.analytic import leaves, torus, voxelize
from tests.benchmarks.mesh_quality import measure
from tests.mesh.noise import spoil


def test_a_torn_solid_is_exported_closed_with_its_levels():
    torn = spoil(voxelize(torus(), 64), missing=0.04, stray=0.01, tremble=0.1)
    row = measure("torus", torn, "plain", 8000, "cpu")
    assert row["watertight"] and row["components"] == 1
    assert row["short"] == []


def test_sheets_are_exported_as_closed_slabs_on_request():
    row = measure("leaves", voxelize_mesh(leaves(), 64), "remesh", 4000, "cpu")
    assert row["watertight"] and row["components"] == 5
    assert row["lost_p99"] < 0.2  # voxels
    assert row["short"] == []
