# SPDX-License-Identifier: Apache-2.0
"""Smoothing brings a trembling surface nearer to the truth, leaves an exact one alone, and keeps sharp edges."""

import numpy as np
import torch

from genesis_server.mesh.finish import repair
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_normals
from genesis_server.mesh.smooth import smooth
from genesis_server.ovoxel.extract import extract_mesh
from tests.analytic import rounded_box, sphere, voxelize
from tests.mesh.noise import spoil


def roughness(mesh):
    """Mean angle (degrees) between the faces and the sphere below them."""
    outward = torch.nn.functional.normalize(mesh.vertices[mesh.faces.long()].mean(1), dim=1)
    return float(torch.rad2deg(torch.arccos((face_normals(mesh) * outward).sum(1).clamp(-1, 1))).mean())


def test_tremble_is_taken_out():
    noisy = repair(extract_mesh(spoil(voxelize(sphere(), 48))))
    calm = smooth(noisy, 5)
    assert roughness(calm) < 0.7 * roughness(noisy)
    assert (calm.vertices - noisy.vertices).norm(dim=1).max() <= 0.5 / 48  # half a median edge of about a voxel
    assert torch.equal(calm.faces, noisy.faces)


def test_an_exact_surface_and_its_edges_stay():
    solid = rounded_box(rounding=0.005)
    exact = repair(extract_mesh(voxelize(solid, 48)))
    before, after = (np.abs(solid.distance(m.vertices.double().numpy())) * 48 for m in (exact, smooth(exact, 5)))
    assert after.mean() < before.mean() + 0.05 and np.quantile(after, 0.99) < 0.5  # voxels


def test_no_rounds_change_nothing():
    mesh = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32))
    assert smooth(mesh, 0) is mesh
