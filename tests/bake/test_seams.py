# SPDX-License-Identifier: Apache-2.0
"""Gutters make both sides of a seam look alike in mip levels, and touch nothing that a triangle shows."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from genesis_server.bake.seams import fill_gutters, seam_places
from genesis_server.bake.textures import REACH
from genesis_server.bake.unwrapped import UnwrappedMesh
from native_ext.fill_gutters import nearest_covered
from native_ext.rasterize import rasterize

SIZE = 64
# two charts, whose edges at x = 0 are the same in space; both lie 6 texels from their neighbour
BOTH = [[8, 8], [29, 8], [29, 56], [8, 56]], [[35, 8], [56, 8], [56, 56], [35, 56]]


def two_charts(apart: float = 0.0, size: int = SIZE) -> UnwrappedMesh:
    """Two rectangles in space: the right border of the first chart is the left border of the second, or `apart` from it."""
    left, right = [[-1, 1, 0], [0, 1, 0], [0, -1, 0], [-1, -1, 0]], [[0, 1, 0], [1, 1, 0], [1, -1, 0], [0, -1, 0]]
    vertices = torch.tensor([*left, *right], dtype=torch.float32)
    vertices[4:, 0] += apart
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 6, 5], [4, 7, 6]], dtype=torch.int32)
    uvs = torch.tensor([*BOTH[0], *BOTH[1]], dtype=torch.float32) / SIZE
    normals = torch.tensor([[0.0, 0, 1]]).repeat(8, 1)
    tangents = torch.tensor([[1.0, 0, 0]]).repeat(8, 1)
    return UnwrappedMesh(
        vertices, faces, normals, uvs, tangents, torch.arange(8), torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    )


def texels(mesh: UnwrappedMesh, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values of a surface that is lightest at the seam in one channel and grows lighter only beyond it in the other."""
    raster = rasterize(mesh.uvs[mesh.faces.long()] * size, size, size, REACH)
    covered = raster.face >= 0
    corner = mesh.faces[raster.face[covered].long()].long()
    x = (mesh.vertices[corner, 0] * raster.barycentric[covered]).sum(1)
    values = torch.stack([1 - x.abs() * 0.9, 0.3 + 0.5 * x.clamp_min(0)], 1).clamp(0, 1)
    place = torch.cumsum(covered.reshape(-1), 0)[nearest_covered(covered).long()] - 1
    return values, place, covered


def difference(picture: torch.Tensor, mesh: UnwrappedMesh, level: int) -> np.ndarray:
    """Mean difference across the seam of every channel in a mip level."""
    side = len(picture) >> level
    mip = cv2.resize(picture.numpy(), (side, side), interpolation=cv2.INTER_AREA)
    y = np.linspace(10, 54, 40, dtype=np.float32) / SIZE
    ends = [
        cv2.remap(mip, np.full_like(y, x / SIZE * side - 0.5)[None], (y * side - 0.5)[None], cv2.INTER_LINEAR) for x in (29, 35)
    ]
    return np.abs(ends[0] - ends[1]).mean((0, 1))


def test_a_seam_is_an_edge_with_two_places() -> None:
    places = seam_places(two_charts(), SIZE) * SIZE
    assert len(places) == 16 and torch.allclose(places[:, 0, 1], places[:, 1, 1])
    assert torch.allclose(places[:, 0, 0], torch.tensor(29.0).double()) and torch.allclose(
        places[:, 1, 0], torch.tensor(35.0).double()
    )
    assert not len(seam_places(two_charts(apart=0.1), SIZE))


@pytest.mark.parametrize("size", [SIZE, SIZE + 4])
def test_both_sides_look_alike_in_mip_levels(size: int) -> None:
    mesh = two_charts()
    values, place, covered = texels(mesh, size)
    fresh, where = fill_gutters(values, place, covered, mesh)
    plain, filled = values[place], fresh[where]
    assert torch.equal(filled[covered], plain[covered])
    assert float(fresh.min()) >= 0 and float(fresh.max()) <= 1
    if size == SIZE:
        for level, less in ((1, 1.0), (2, 0.5), (3, 0.5)):
            before, after = (difference(picture, mesh, level) for picture in (plain, filled))
            assert (after <= less * before + 2e-3).all()


def test_the_seam_keeps_its_colour_in_mip_levels() -> None:
    """Both sides could also agree on a wrong one: the seam is the lightest place here, and its mip texels mix darker ones."""
    mesh = two_charts()
    values, place, covered = texels(mesh)
    fresh, where = fill_gutters(values, place, covered, mesh)
    light = [
        cv2.resize(picture.numpy(), (8, 8), interpolation=cv2.INTER_AREA)[2:6, 3:5, 0].mean()
        for picture in (values[place], fresh[where])
    ]
    assert light[0] - 0.01 < light[1] <= 1


def test_without_seams_nothing_changes() -> None:
    mesh = two_charts(apart=0.1)
    values, place, covered = texels(mesh)
    fresh, where = fill_gutters(values, place, covered, mesh)
    assert torch.equal(fresh, values) and torch.equal(where, place)


def test_edges_of_three_faces_are_no_seams() -> None:
    mesh = two_charts()
    third = torch.tensor([[0, 1, 0], [0, 1, 1], [0, -1, 1], [0, -1, 0]], dtype=torch.float32)
    faces = torch.cat([mesh.faces, torch.tensor([[8, 10, 9], [8, 11, 10]], dtype=torch.int32)])
    grown = replace(mesh, vertices=torch.cat([mesh.vertices, third]), faces=faces, uvs=torch.cat([mesh.uvs, mesh.uvs[:4] / 9]))
    assert not len(seam_places(grown, SIZE))
