# SPDX-License-Identifier: Apache-2.0
"""Meshes become O-Voxels: as the goldens say, and back to the surface they came from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.surface import AlphaMode, SurfaceMaterial, TexturedSurface
from genesis_server.ovoxel.surface_attributes import surface_attributes
from genesis_server.ovoxel.texture import Texture, Wrap
from genesis_server.ovoxel.voxelize import fit_to_box, voxelize_mesh, voxelize_surface
from genesis_server.protocol.errors import ErrorCode, GenesisError
from tests.analytic import dual_mesh, rounded_box, sphere, torus


@pytest.mark.parametrize("solid", [sphere(), torus(), rounded_box(rounding=0.01)], ids=lambda solid: solid.name)
def test_there_and_back_is_the_same_surface(solid):
    mesh, _ = dual_mesh(solid, 64)
    again = extract_mesh(voxelize_mesh(mesh, 64))
    off = np.abs(solid.distance(again.vertices.double().numpy())) * 64
    assert off.mean() < 0.05 and np.quantile(off, 0.99) < 0.3  # voxels


def test_one_triangle_across_the_grid_fills_its_cells_densely():
    """A triangle of a million candidate cells: taken apart by blocks, each active cell is found once."""
    mesh = fit_to_box(Mesh(torch.tensor([[0.0, 0, 0], [1, 0.3, 0.9], [0.2, 1, 0.6]]), torch.tensor([[0, 1, 2]])))
    voxels = voxelize_mesh(mesh, 128)
    n = torch.linalg.cross(*(mesh.vertices[i] - mesh.vertices[0] for i in (1, 2)))
    points = (voxels.coords + voxels.dual_vertices) / 128 - 0.5
    height = ((points - mesh.vertices[0]) * n).sum(1).abs() / n.norm() * 128
    area = float(n.norm() / 2) * 128**2
    assert area < len(points) < 3.2 * area
    assert height.quantile(0.95) < 1e-3


def test_a_seam_of_doubled_vertices_is_no_rim():
    mesh, _ = dual_mesh(sphere(), 32)
    torn = Mesh(mesh.vertices[mesh.faces.long()].reshape(-1, 3), torch.arange(3 * len(mesh.faces)).view(-1, 3).int())
    one, two = voxelize_mesh(mesh, 32), voxelize_mesh(torn, 32)
    assert torch.equal(one.coords, two.coords) and torch.equal(one.dual_vertices, two.dual_vertices)


def test_the_same_mesh_gives_the_same_bytes():
    mesh, _ = dual_mesh(torus(), 48)
    one, two = voxelize_mesh(mesh, 48), voxelize_mesh(mesh, 48)
    assert torch.equal(one.dual_vertices, two.dual_vertices) and torch.equal(one.intersected, two.intersected)


def quad(material):
    vertices = torch.tensor([[-0.4, -0.4, 0.01], [0.4, -0.4, 0.01], [0.4, 0.4, 0.01], [-0.4, 0.4, 0.01]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    uv = (vertices[:, :2] / 0.8 + 0.5)[faces.long()]
    return TexturedSurface(Mesh(vertices, faces), torch.zeros(2, dtype=torch.int64), (material,), uv)


def test_colours_land_in_the_cells_below_them():
    rows = torch.arange(64, dtype=torch.uint8) * 4
    picture = torch.stack([rows[None, :].expand(64, -1), rows[:, None].expand(-1, 64), torch.full((64, 64), 7).byte()], 2)
    voxels = voxelize_surface(quad(SurfaceMaterial(base_color_texture=Texture(picture), roughness=0.25)), 32)
    x, y = ((voxels.coords[:, :2] + 0.5) / 32 - 0.5).T
    inside = (x.abs() < 0.38) & (y.abs() < 0.38)
    assert (voxels.attributes[inside, 0] - (x[inside] / 0.8 + 0.5)).abs().max() < 0.02
    assert (voxels.attributes[inside, 1] - (0.5 - y[inside] / 0.8)).abs().max() < 0.02  # the first row is the top
    assert (voxels.attributes[:, 4] == 0.25).all() and (voxels.attributes[:, 5] == 1).all()


def test_a_mask_cuts_and_an_opaque_surface_ignores_alpha():
    holes = torch.zeros(2, 2, 1, dtype=torch.uint8)
    holes[:, 1] = 255
    material = SurfaceMaterial(alpha_mode=AlphaMode.MASK, alpha_texture=Texture(holes, linear=False, wrap=Wrap.CLAMP))
    voxels = voxelize_surface(quad(material), 32)
    right = voxels.coords[:, 0] >= 16
    assert (voxels.attributes[right, 5] == 1).all() and (voxels.attributes[~right, 5] == 0).all()
    opaque = voxelize_surface(quad(replace(material, alpha_mode=AlphaMode.OPAQUE)), 32)
    assert (opaque.attributes[:, 5] == 1).all()


def test_mirrored_charts_keep_the_direction_of_their_bumps():
    """A normal map that leans to +u: on a chart mirrored in u it leans to -x, on an upright one to +x; never inward."""
    lean = torch.tensor([200, 128, 230], dtype=torch.uint8).expand(4, 4, 3)
    surface = quad(SurfaceMaterial(normal_texture=Texture(lean)))
    box = (torch.full((3,), -0.5), torch.full((3,), 0.5), (32, 32, 32))
    _, upright = surface_attributes(surface, *box)
    flipped = surface.corner_uv * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0])
    _, mirrored = surface_attributes(replace(surface, corner_uv=flipped), *box)
    assert (upright["normal"][:, 0] > 0.4).all() and (mirrored["normal"][:, 0] < -0.4).all()
    assert (mirrored["normal"][:, 2] > 0.7).all()


@pytest.mark.parametrize(
    ("vertices", "faces", "resolution", "code"),
    [
        (torch.eye(3) * 0.4, [[0, 1, 2]], 1, ErrorCode.BAD_PARAMETER),
        (torch.eye(3) * 0.4, [[0, 1, 2]], 4096, ErrorCode.BAD_PARAMETER),
        (torch.eye(3), [[0, 1, 2]], 32, ErrorCode.BAD_MESH),
        (torch.eye(3) * 0.4, [[0, 1, 3]], 32, ErrorCode.BAD_MESH),
        (torch.eye(3) * 0.4, [[0, 1, -1]], 32, ErrorCode.BAD_MESH),
        (torch.eye(3) / 0, [[0, 1, 2]], 32, ErrorCode.BAD_MESH),
        (torch.eye(3) * 1e-4, [[0, 1, 2]], 3, ErrorCode.BAD_MESH),
        (torch.zeros(0, 3), torch.zeros(0, 3), 32, ErrorCode.BAD_MESH),
    ],
    ids=["one cell", "too fine", "outside", "no such vertex", "negative vertex", "not finite", "too small", "empty"],
)
def test_what_cannot_be_voxelised_is_said(vertices, faces, resolution, code):
    with pytest.raises(GenesisError) as caught:
        voxelize_mesh(Mesh(vertices, torch.as_tensor(faces).int()), resolution)
    assert caught.value.code == code
