# SPDX-License-Identifier: Apache-2.0
"""Previews are small, valid and where the object is."""

from __future__ import annotations

import numpy as np
import torch

from genesis_server.mesh.mesh import Mesh
from genesis_server.pipeline import preview
from genesis_server.pipeline.latents import Structure


def sphere(rings: int) -> Mesh:
    """A unit-box sphere of about 2 rings^2 faces, closed around but open at the poles."""
    u, v = torch.meshgrid(torch.arange(rings), torch.arange(rings), indexing="ij")
    theta, phi = (u + 0.5) / rings * torch.pi, v / rings * 2 * torch.pi
    points = 0.4 * torch.stack((theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()), -1)
    corner = lambda a, b: ((a * rings) + b % rings).flatten()  # noqa: E731
    a, b, c, d = (corner(u[:-1] + i, v[:-1] + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    faces = torch.cat((torch.stack((a, b, c), 1), torch.stack((a, c, d), 1)))
    return Mesh(points.reshape(-1, 3).float(), faces.int())


def check(mesh: Mesh, faces: int) -> None:
    assert 0 < len(mesh.faces) <= faces
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.vertices) - 1
    radius = mesh.vertices.norm(dim=1)
    assert (radius - 0.4).abs().max() < 0.02


def test_a_mesh_is_made_light_and_keeps_its_form(monkeypatch) -> None:
    check(preview.light_mesh(sphere(120), 2000), 3000)
    monkeypatch.setattr(preview, "DIRECT", 1000)  # as a mesh too large to collapse edge by edge
    check(preview.light_mesh(sphere(120), 2000), 3000)


def test_merging_cells_drops_what_collapses() -> None:
    mesh = preview.merge_cells(sphere(200), 24)
    check(mesh, 10_000)
    assert len(mesh.vertices) < 24**3


def test_a_small_mesh_stays_as_it_is() -> None:
    assert len(preview.light_mesh(sphere(10)).faces) == 180


def test_voxels_are_those_of_the_first_sample() -> None:
    coords = torch.tensor([[0, 1, 2, 3], [0, 300, 5, 6], [1, 9, 9, 9]], dtype=torch.int32)
    made = preview.voxel_preview(Structure(coords, 512))
    assert np.frombuffer(made.coords, "<u2").reshape(-1, 3).tolist() == [[1, 2, 3], [300, 5, 6]]
    assert made.resolution == 512
