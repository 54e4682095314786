# SPDX-License-Identifier: Apache-2.0
"""Extraction reproduces the goldens exactly and makes closed surfaces of closed objects."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.dual_grid_mesh import centre_fans, dual_grid_quads, flatter_diagonal
from tests.analytic import sphere, torus, voxelize

DATA = Path(__file__).parents[1] / "data" / "geometry"


@pytest.mark.parametrize("name", ["fins_32_rand", "plane_open_32_qef"])
def test_goldens(name):
    g = {key: torch.from_numpy(value) for key, value in np.load(DATA / f"{name}.npz").items()}
    voxels = OVoxel(g["coords"].int(), g["dual_local"], g["intersected"], int(g["grid_size"][0]))
    plain = extract_mesh(voxels, split="ref")
    weighted = extract_mesh(OVoxel(*(getattr(voxels, n) for n in ("coords", "dual_vertices", "intersected", "resolution")),
                                   split_weight=g["split_weight"]))  # fmt: skip
    assert (plain.vertices - g["vertices"]).abs().max() < 1e-6
    assert torch.equal(plain.faces, g["faces_none"]) and torch.equal(weighted.faces, g["faces_weight"])
    quads = dual_grid_quads(voxels.coords, voxels.intersected, voxels.resolution)
    vertices, faces = centre_fans(plain.vertices, quads, g["split_weight"][:, 0])
    assert (vertices - g["train_vertices"]).abs().max() < 1e-6 and torch.equal(faces, g["train_faces"])


@pytest.mark.parametrize("solid", [sphere(), torus()], ids=lambda solid: solid.name)
def test_closed_objects_give_surfaces_where_every_edge_has_two_faces(solid):
    mesh = extract_mesh(voxelize(solid, 32))
    edges = mesh.faces.long()[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
    assert (edges.unique(dim=0, return_counts=True)[1] == 2).all()


def test_angle_split_takes_the_diagonal_inside_an_arrowhead():
    arrowhead = torch.tensor([[0.8, 0.8, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])  # flat, dented at corner 0
    quads = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]])
    assert flatter_diagonal(arrowhead, quads).tolist() == [True, False, True, False]


def _single(coords, flags, offset=0.5):
    count = len(coords)
    return OVoxel(torch.tensor(coords, dtype=torch.int32).view(count, 3), torch.full((count, 3), offset),
                  torch.tensor(flags).view(count, 3), 8)  # fmt: skip


@pytest.mark.parametrize(
    ("voxels", "code"),
    [
        (OVoxel(torch.zeros(0, 3).int(), torch.zeros(0, 3), torch.zeros(0, 3).bool(), 8), ErrorCode.EMPTY_STRUCTURE),
        (_single([[1, 1, 1]], [[True] * 3]), ErrorCode.EMPTY_STRUCTURE),
        (_single([[1, 1, 8]], [[True] * 3]), ErrorCode.BAD_ASSET),
        (_single([[1, 1, 1]], [[True] * 3], float("nan")), ErrorCode.BAD_ASSET),
    ],
    ids=["no voxel", "one voxel", "outside", "nan"],
)
def test_what_has_no_surface_is_said(voxels, code):
    with pytest.raises(GenesisError) as caught:
        extract_mesh(voxels)
    assert caught.value.code == code
