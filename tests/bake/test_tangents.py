# SPDX-License-Identifier: Apache-2.0
"""Tangents are those of MikkTSpace, and a normal map shows the dense surface's normals (docs/spec/geometry.md 19.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.bake.tangents import encode_normals, vertex_tangents
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.mesh.finish import finish_mesh, repair
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.protocol.parameters import BakeSettings
from tests import analytic
from tests.texture_truth import SurfacePoints, angles, dense_normals, shading_normals


def test_a_flat_square_points_along_its_picture() -> None:
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]).float()
    normals = torch.tensor([[0.0, 0, 1]]).repeat(4, 1)
    uvs = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]]).float()  # v downward: up in the picture is +y
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    assert torch.allclose(vertex_tangents(vertices, normals, uvs, faces), torch.tensor([[1.0, 0, 0]]).repeat(4, 1))
    turned = torch.stack([1 - uvs[:, 1], uvs[:, 0]], 1)  # u now grows along +y
    assert torch.allclose(vertex_tangents(vertices, normals, turned, faces), torch.tensor([[0.0, 1, 0]]).repeat(4, 1))


def test_corners_count_by_their_angle() -> None:
    """Two faces meet at vertex 0 with angles of 90 and 45 degrees and tangents that differ."""
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 1, 0]]).float()
    normals = torch.tensor([[0.0, 0, 1]]).repeat(4, 1)
    uvs = torch.tensor([[0, 0], [1, 0], [0, -1], [-1, -2]]).float()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    first = np.array([1.0, 0, 0])
    second = np.array([1.0, 1.0, 0]) / np.sqrt(2)  # dP/du where (0, 1, 0) is (0, -1) and (-1, 1, 0) is (-1, -2) in uv
    expected = first * np.pi / 2 + second * np.pi / 4
    expected /= np.linalg.norm(expected)
    assert np.allclose(vertex_tangents(vertices, normals, uvs, faces)[0].numpy(), expected, atol=1e-6)


def test_decoding_a_texel_gives_the_wanted_normal() -> None:
    rng = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    normal = unit(torch.randn(500, 3, generator=rng), dim=1) * 0.97  # interpolated normals are shorter than one
    tangent = unit(torch.linalg.cross(normal, torch.randn(500, 3, generator=rng)), dim=1) * 0.95 + 0.02 * normal
    wanted = unit(unit(normal, dim=1) + 0.7 * torch.randn(500, 3, generator=rng), dim=1)
    front = (wanted * normal).sum(1) > 0.2
    texel = encode_normals(wanted, normal, tangent) * 2 - 1
    shown = texel[:, :1] * tangent + texel[:, 1:2] * torch.linalg.cross(normal, tangent) + texel[:, 2:] * normal
    assert torch.allclose(unit(shown, dim=1)[front], wanted[front], atol=1e-5)


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> tuple[GlbModel, Mesh]:
    voxels = analytic.voxelize(analytic.noisy_blob(), 64)
    detailed = extract_mesh(voxels)
    unwrapped = unwrap(finish_mesh(detailed, 4000), 512)
    path = tmp_path_factory.mktemp("baked") / "a.glb"
    write_glb(path, unwrapped, bake_textures(unwrapped, detailed, voxels, BakeSettings(texture_size=512)))
    return read_glb(path), repair(detailed)


def test_the_normal_map_lowers_the_error_by_six_tenths(baked: tuple[GlbModel, Mesh]) -> None:
    model, dense = baked
    points = SurfacePoints(model, 20_000)
    wanted = dense_normals(dense, points)
    plain, mapped = (angles(shading_normals(model, points, use), wanted).mean() for use in (False, True))
    assert mapped <= 0.4 * plain, (plain, mapped)


def test_a_smooth_solid_gets_sixteen_bits_and_as_good_a_map(tmp_path: Path) -> None:
    """Of half a degree to show, 8 bits lose a third."""
    voxels = analytic.voxelize(analytic.sphere(), 64)
    detailed = extract_mesh(voxels)
    unwrapped = unwrap(finish_mesh(detailed, 8000), 512)
    write_glb(tmp_path / "a.glb", unwrapped, bake_textures(unwrapped, detailed, voxels, BakeSettings(texture_size=512)))
    model = read_glb(tmp_path / "a.glb")
    points = SurfacePoints(model, 20_000)
    wanted = dense_normals(repair(detailed), points)
    plain, mapped = (angles(shading_normals(model, points, use), wanted).mean() for use in (False, True))
    assert model.material.normal.dtype == np.uint16 and plain < 0.8
    assert mapped <= 0.2 * plain, (plain, mapped)


def test_neutral_texels_change_nothing(baked: tuple[GlbModel, Mesh]) -> None:
    normal, tangent = baked[0].normals, baked[0].tangents
    assert (tangent[:, 3] == 1).all()
    assert np.allclose(np.linalg.norm(tangent[:, :3], axis=1), 1, atol=1e-5)
    assert np.abs((normal * tangent[:, :3]).sum(1)).max() < 1e-4
