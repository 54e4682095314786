# SPDX-License-Identifier: Apache-2.0
"""Finished meshes: closed where the object is, outward, clean, within the target; from noisy O-Voxels too."""

import pytest
import torch

from genesis_server.mesh.connectivity import crowded_sides, edges_of, link_components, manifold_links
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.orientation import clashing
from genesis_server.mesh.repair import clean_faces, first_of_duplicates, with_area
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.protocol.errors import ErrorCode, GenesisError
from tests.analytic import dual_mesh, noisy_blob, rounded_box, sphere, thin_sheet, torus, voxelize
from tests.mesh.noise import spoil
from tests.mesh.test_repair import volume

SOLIDS = [sphere(), rounded_box(), torus(), thin_sheet(0.06)]


def assert_clean(mesh, faces):
    edges = edges_of(mesh.faces)
    assert len(mesh.faces) <= faces
    assert with_area(mesh).all() and first_of_duplicates(mesh.faces).all()
    assert (edges.faces <= 2).all()
    assert not clashing(mesh.faces, manifold_links(edges)).any()
    assert torch.isfinite(mesh.vertices).all()
    assert len(mesh.faces.unique()) == len(mesh.vertices)


@pytest.mark.parametrize("faces", [100_000, 4_000, 600])
@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: solid.name)
def test_closed_objects_stay_closed_and_keep_their_volume(solid, faces):
    truth = volume(dual_mesh(solid, 48)[0])
    mesh = finish_mesh(extract_mesh(voxelize(solid, 48)), faces)
    assert_clean(mesh, faces)
    assert (edges_of(mesh.faces).faces == 2).all()
    # simplification follows the quadrics: 600 faces of a sheet of a few voxels are coarse
    assert volume(mesh) == pytest.approx(truth, rel=1e-3 if faces > 1000 else 0.05)
    assert len(mesh.faces) >= min(faces, len(extract_mesh(voxelize(solid, 48)).faces)) * 0.98  # the target is met, not undercut


@pytest.mark.parametrize("faces", [100_000, 5_000])
@pytest.mark.parametrize("solid", [*SOLIDS, noisy_blob(amplitude=0.01)], ids=lambda solid: solid.name)
def test_noisy_voxels_become_whole_surfaces(solid, faces):
    raw = extract_mesh(spoil(voxelize(solid, 64)))
    mesh = finish_mesh(raw, faces)
    assert_clean(mesh, faces)
    before = int((edges_of(raw.faces).faces == 1).sum())
    after = int((edges_of(mesh.faces).faces == 1).sum())
    assert before > 500 and after <= 0.02 * before  # of thousands of torn edges a few may remain where sheets touch
    truth = volume(dual_mesh(solid, 64)[0])
    assert volume(mesh) == pytest.approx(truth, rel=0.03)
    parts = torch.bincount(link_components(manifold_links(edges_of(mesh.faces)), len(mesh.faces)))
    assert parts.max() > 0.97 * len(mesh.faces)


def test_a_rough_surface_that_trembles_stays_whole():
    """Dozens of edges where it touches itself; trembling vertices swap the order of the faces around them."""
    raw = extract_mesh(spoil(voxelize(noisy_blob(), 64), missing=0.002, stray=0.0, tremble=0.1))
    assert len(crowded_sides(clean_faces(raw), 4)) > 40
    mesh = finish_mesh(raw, 100_000)
    assert_clean(mesh, 100_000)
    assert (edges_of(mesh.faces).faces == 2).all()


def test_small_parts_stay_and_dust_goes():
    body, button = dual_mesh(sphere(0.4), 64)[0], dual_mesh(sphere(0.04), 64)[0]
    button = Mesh(button.vertices + torch.tensor([0.45, 0, 0.2]), button.faces + len(body.vertices))
    speck = torch.tensor([[0.49, 0.49, 0.49], [0.48, 0.49, 0.49], [0.49, 0.48, 0.49]])
    count = len(body.vertices) + len(button.vertices)
    mesh = Mesh(
        torch.cat([body.vertices, button.vertices, speck]),
        torch.cat([body.faces, button.faces, torch.tensor([[count, count + 1, count + 2]], dtype=torch.int32)]),
    )
    out = finish_mesh(mesh, 100_000)
    assert len(out.faces) == len(body.faces) + len(button.faces)


@pytest.mark.parametrize("faces", [4, 5, 10, 50])
def test_tiny_targets_never_crash(faces):
    mesh = finish_mesh(extract_mesh(voxelize(torus(), 32)), faces)
    assert_clean(mesh, 10_000)
    assert 4 <= len(mesh.faces) <= max(faces, 100)


def test_an_open_sheet_keeps_its_rim_and_is_not_doubled():
    line = torch.linspace(-0.4, 0.4, 30)
    x, y = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, 0.1 * torch.sin(6 * x)], -1).reshape(-1, 3)
    a = torch.arange(29 * 30).view(29, 30)[:, :-1].reshape(-1)
    faces = torch.cat([torch.stack([a, a + 30, a + 31], 1), torch.stack([a, a + 31, a + 1], 1)]).int()
    mesh = finish_mesh(Mesh(vertices, faces), 100_000)
    assert len(mesh.faces) == len(faces) and int((edges_of(mesh.faces).faces == 1).sum()) == 4 * 29


def test_the_same_input_gives_the_same_bytes():
    raw = extract_mesh(spoil(voxelize(torus(), 48)))
    one, two = finish_mesh(raw, 3000), finish_mesh(raw, 3000)
    assert torch.equal(one.vertices, two.vertices) and torch.equal(one.faces, two.faces)


@pytest.mark.parametrize(
    ("mesh", "faces", "code"),
    [
        (Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])), 3, ErrorCode.BAD_PARAMETER),
        (Mesh(torch.eye(3), torch.tensor([[0, 1, 1]])), 100, ErrorCode.BAD_MESH),
        (Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)), 100, ErrorCode.BAD_MESH),
        (Mesh(torch.eye(3) / 0, torch.tensor([[0, 1, 2]])), 100, ErrorCode.BAD_MESH),
        (Mesh(torch.eye(3), torch.tensor([[0, 1, 3]])), 100, ErrorCode.BAD_MESH),
        (Mesh(torch.eye(3), torch.tensor([[0, 1, -1]])), 100, ErrorCode.BAD_MESH),
    ],
    ids=["target", "no area", "empty", "not finite", "no such vertex", "negative"],
)
def test_what_cannot_be_finished_is_said(mesh, faces, code):
    with pytest.raises(GenesisError) as caught:
        finish_mesh(mesh, faces)
    assert caught.value.code == code
