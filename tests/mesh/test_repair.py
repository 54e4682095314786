# SPDX-License-Identifier: Apache-2.0
"""The operators of the clean-up chain, one by one, against goldens and small cases known by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.mesh.connectivity import (
    components,
    crowded_sides,
    edges_of,
    link_components,
    manifold_links,
    pair_sides,
)
from genesis_server.mesh.holes import fill_holes
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.mesh.orientation import clashing, consistent_flips, flip, orient, orient_sheets
from genesis_server.mesh.repair import first_of_duplicates, separate_sheets, split_unlinked, with_area
from tests.analytic import dual_mesh, sphere, torus

GOLDEN = {
    k: torch.from_numpy(np.array(v)) for k, v in np.load(Path(__file__).parents[1] / "data/geometry/mesh_ops.npz").items()
}


def test_golden_duplicates_and_degenerate_faces():
    assert torch.equal(first_of_duplicates(GOLDEN["dup_faces"]), GOLDEN["dup_keep"])
    keep = with_area(Mesh(GOLDEN["vn_vertices"], GOLDEN["deg_faces"]))
    assert torch.equal(keep, GOLDEN["deg_keep"])


def test_golden_vertex_normals():
    normals = vertex_normals(Mesh(GOLDEN["vn_vertices"], GOLDEN["vn_faces"]))
    assert (normals - GOLDEN["vn_normals"]).abs().max() < 1e-5


def test_vertex_normals_are_unit_even_where_faces_cancel_or_have_no_area():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    normals = vertex_normals(Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 1], [3, 3, 3]])))
    assert torch.equal(normals[:3], torch.tensor([[0.0, 0, 1]]).expand(3, 3)) and normals[3].tolist() == [0, 0, 1]


def test_golden_non_manifold_split_components_and_orientation():
    mesh = Mesh(GOLDEN["nm_vertices"], GOLDEN["nm_faces"])
    links = manifold_links(edges_of(mesh.faces))
    split = split_unlinked(mesh, links)
    assert torch.equal(split.vertices, GOLDEN["nm_split_vertices"]) and torch.equal(split.faces, GOLDEN["nm_split_faces"])
    assert torch.equal(link_components(links, len(mesh.faces)), components(links // 3, len(mesh.faces)))
    theirs = GOLDEN["nm_component"].long()
    assert len(torch.unique(torch.stack([link_components(links, len(mesh.faces)), theirs]), dim=1).T) == len(theirs.unique())
    patch, flips = consistent_flips(mesh.faces, links)
    ours, golden = (_from_smallest(faces) for faces in (flip(mesh.faces, flips), GOLDEN["nm_unified_faces"]))
    same = (ours == golden).all(1)
    for number in patch.unique():  # which way a whole patch faces is not part of this operator
        assert same[patch == number].all() or not same[patch == number].any()
    assert torch.equal(ours.sort(1).values, golden.sort(1).values)


def _from_smallest(faces):
    """Faces with their smallest vertex first, winding kept."""
    turn = (faces.long().argmin(1, keepdim=True) + torch.arange(3)) % 3
    return faces.gather(1, turn)


def test_golden_holes_are_filled_with_the_winding_of_their_surroundings():
    mesh = Mesh(GOLDEN["hole_vertices"], GOLDEN["hole_faces"])
    filled = fill_holes(mesh, manifold_links(edges_of(mesh.faces)), float(GOLDEN["hole_max_perimeter"]))
    before, after = edges_of(mesh.faces), edges_of(filled.faces)
    gone = int((before.faces == 1).sum() - (after.faces == 1).sum())
    assert gone == len(GOLDEN["hole_new_faces"])  # the small loop is closed, the large one stays open
    assert not clashing(filled.faces, manifold_links(after)).any()


def volume(mesh):
    a, b, c = mesh.vertices.double()[mesh.faces.long()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.5, 1.0])
def test_winding_comes_out_outward_however_it_was(share):
    mesh, _ = dual_mesh(torus(), 32)
    flips = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(0)) < share
    wrong = Mesh(mesh.vertices, flip(mesh.faces, flips))
    right = orient(wrong, pair_sides(wrong))[0]
    assert volume(right) == pytest.approx(volume(mesh), rel=1e-9) and volume(mesh) > 0


def test_nested_shells_and_an_open_bowl_face_outward():
    outer, inner = dual_mesh(sphere(0.45), 32)[0], dual_mesh(sphere(0.2), 32)[0]
    both = Mesh(
        torch.cat([outer.vertices, inner.vertices]), torch.cat([outer.faces, inner.faces + len(outer.vertices)]).flip(1)
    )
    right = orient(both, pair_sides(both))[0]
    assert volume(right) == pytest.approx(volume(outer) + volume(inner), rel=1e-6)
    low = outer.vertices[outer.faces.long()].mean(1)[:, 2] < 0.3
    bowl = Mesh(outer.vertices, outer.faces[low].flip(1))
    assert torch.equal(orient(bowl, pair_sides(bowl))[0].faces, flip(bowl.faces, low[low]))


def test_one_wrong_bridge_does_not_turn_a_half_inside_out():
    """Two spheres, one wound inward, joined by a single link that says they agree."""
    mesh, _ = dual_mesh(sphere(), 16)
    links = manifold_links(edges_of(mesh.faces))
    liar = links.clone()
    faces = flip(mesh.faces, torch.zeros(len(mesh.faces), dtype=torch.bool))
    patch, flips = consistent_flips(faces, torch.cat([liar, torch.tensor([[0, 3 * (len(faces) // 2)]])]))
    assert int(patch.max()) == 0 and not flips.any()


def two_cubes_touching(along: str) -> Mesh:
    corner = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=torch.float32)
    quads = torch.tensor([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    shift = {"edge": torch.tensor([1.0, 1, 0]), "corner": torch.tensor([1.0, 1, 1])}[along]
    vertices, number = torch.unique(torch.cat([corner, corner + shift]), dim=0, return_inverse=True)
    return Mesh(vertices, number[torch.cat([faces, faces + 8])].int())


@pytest.mark.parametrize("along", ["edge", "corner"])
def test_solids_that_touch_come_apart_whole(along):
    mesh = two_cubes_touching(along)
    links = pair_sides(mesh)
    apart, links = separate_sheets(mesh, links)
    assert torch.equal(links.sort(1).values.unique(dim=0), manifold_links(edges_of(apart.faces)).sort(1).values.unique(dim=0))
    assert (edges_of(apart.faces).faces == 2).all() and len(apart.faces) == 24
    assert volume(orient(apart, manifold_links(edges_of(apart.faces)))[0]) == pytest.approx(2, rel=1e-6)


def test_a_fin_leaves_the_surface_closed():
    mesh, _ = dual_mesh(sphere(), 16)
    a, b = mesh.faces[0, :2].tolist()
    fin = Mesh(
        torch.cat([mesh.vertices, mesh.vertices[a][None] * 1.5]),
        torch.cat([mesh.faces, torch.tensor([[a, b, len(mesh.vertices)]], dtype=torch.int32)]),
    )
    apart, _ = separate_sheets(fin, pair_sides(fin))
    closed = edges_of(apart.faces[:-1])
    assert (edges_of(apart.faces).faces <= 2).all() and (closed.faces == 2).all()


def test_diagonal_holes_are_two_holes():
    """Two missing quads of a plane that share a corner: both closed, the outer rim left alone."""
    side = 7
    x, y = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    vertices = torch.stack([x, y, 0 * x], -1).reshape(-1, 3).float()
    quads = [(i, j) for i in range(side - 1) for j in range(side - 1) if (i, j) not in {(2, 2), (3, 3)}]
    faces = []
    for i, j in quads:
        a, b, c, d = i * side + j, (i + 1) * side + j, (i + 1) * side + j + 1, i * side + j + 1
        faces += [[a, b, c], [a, c, d]]
    mesh = Mesh(vertices, torch.tensor(faces, dtype=torch.int32))
    filled = fill_holes(mesh, manifold_links(edges_of(mesh.faces)), 1000.0)
    assert len(filled.faces) == 2 * (side - 1) ** 2
    assert int((edges_of(filled.faces).faces == 1).sum()) == 4 * (side - 1)
    assert volume(Mesh(filled.vertices + torch.tensor([0, 0, 1.0]), filled.faces)) == pytest.approx((side - 1) ** 2 / 3)


def test_three_of_four_faces_at_an_edge_do_not_link_the_two_sheets():
    """Cubes that touch along an edge, one face missing there: the straightest two of the other three are of different cubes."""
    mesh = two_cubes_touching("edge")
    four = crowded_sides(mesh, 4)
    assert len(four) == 1
    keep = torch.ones(len(mesh.faces), dtype=torch.bool)
    keep[four[0, 1] // 3] = False
    torn = Mesh(mesh.vertices, mesh.faces[keep])
    assert len(crowded_sides(torn, 3)) == 1
    right, links, _ = orient_sheets(torn)
    assert not clashing(right.faces, links).any()
    apart, links = separate_sheets(right, links)
    whole = fill_holes(apart, links, 100.0)
    assert (edges_of(whole.faces).faces == 2).all() and volume(whole) == pytest.approx(2, rel=1e-6)
