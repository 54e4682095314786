# SPDX-License-Identifier: Apache-2.0
"""Edge collapse and flips: targets met, surfaces kept whole, slivers gone."""

import numpy as np
import pytest
import torch

from genesis_server.mesh.connectivity import edges_of, link_components, manifold_links
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.orientation import clashing
from genesis_server.mesh.simplify import simplify, without_slivers
from native_ext.edge_collapse import EdgeCosts, choose_sides, collapse, collapse_costs, outdated
from native_ext.mesh_sides import fans_of
from native_ext.quadric_surface import start_surface
from tests.analytic import dual_mesh, rounded_box, sphere, torus
from tests.quality import aspects


@pytest.mark.parametrize("faces", [8000, 2001, 500, 60])
@pytest.mark.parametrize("solid", [sphere(), torus(), rounded_box(rounding=0.03)], ids=lambda solid: solid.name)
def test_the_target_is_met_and_the_surface_stays_whole(solid, faces):
    mesh, _ = dual_mesh(solid, 48)
    out = simplify(mesh, faces)
    assert faces - 1 <= len(out.faces) <= faces
    edges = edges_of(out.faces)
    assert (edges.faces == 2).all() and not clashing(out.faces, manifold_links(edges)).any()
    assert len(out.vertices) - len(edges.vertices) + len(out.faces) == (0 if solid.name == "torus" else 2)  # Euler
    if faces >= 500:
        off = np.abs(solid.distance(out.vertices.double().numpy())) * 48
        assert off.mean() < 0.15 and (aspects(out) > 10).double().mean() < 0.005


def test_what_is_collapsed_together_has_no_common_neighbours():
    mesh, _ = dual_mesh(torus(), 32)
    fans = fans_of(mesh.faces, len(mesh.vertices))
    surface = start_surface(mesh.vertices, mesh.faces, fans)
    cost = collapse_costs(surface, fans, 1e-5)
    assert int(torch.isfinite(cost).sum()) == len(edges_of(mesh.faces).vertices)  # every edge has one name
    edges = EdgeCosts(cost, torch.zeros(len(cost), dtype=torch.bool))
    chosen = choose_sides(surface, fans, edges, 1e30, 0.2, 0.1, 3)
    sides = chosen.sides
    assert (chosen.going == 2).all() and not edges.refused[sides].any()
    faces = mesh.faces.long()
    ends = torch.stack([faces.reshape(-1)[sides], faces.roll(-1, 1).reshape(-1)[sides]], 1)
    touched = torch.zeros(len(mesh.vertices), dtype=torch.bool)
    touched[ends.reshape(-1)] = True
    owner = torch.full((len(mesh.vertices),), -1)
    owner[ends] = torch.arange(len(ends))[:, None]
    of_face = owner[faces]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        one, two = of_face[:, i], of_face[:, j]
        assert ((one < 0) | (two < 0) | (one == two)).all()
    assert len(sides) > len(faces) / 30


def test_costs_that_are_carried_over_a_collapse_are_those_of_the_new_surface():
    mesh, _ = dual_mesh(rounded_box(rounding=0.0), 32)
    fans = fans_of(mesh.faces, len(mesh.vertices))
    surface = start_surface(mesh.vertices, mesh.faces, fans)
    edges = EdgeCosts(collapse_costs(surface, fans, 1e-5), torch.zeros(3 * len(mesh.faces), dtype=torch.bool))
    for _ in range(4):
        chosen = choose_sides(surface, fans, edges, 1e-7, 0.5, 0.2, 3)
        again = outdated(surface, fans, edges, *collapse(surface, fans, chosen.sides))
        fans = fans_of(surface.faces, len(surface.points))
        edges.cost[again] = collapse_costs(surface, fans, 1e-5, again)
        assert torch.equal(edges.cost, collapse_costs(surface, fans, 1e-5))
        asked = EdgeCosts(edges.cost, torch.zeros_like(edges.refused))
        refused = torch.nonzero(edges.refused)[:, 0]
        asked.cost = torch.full_like(edges.cost, torch.inf).index_copy(0, refused, edges.cost[refused])
        assert len(refused) and len(choose_sides(surface, fans, asked, 1e30, 0.5, 0.2, 9).sides) == 0
    assert len(surface.faces) < 0.7 * len(mesh.faces)


def test_open_rims_keep_their_place_and_parts_are_never_lost():
    line = torch.linspace(-0.4, 0.4, 30)
    x, y = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, 0 * x], -1).reshape(-1, 3)
    a = torch.arange(29 * 30).view(29, 30)[:, :-1].reshape(-1)
    sheet = torch.cat([torch.stack([a, a + 30, a + 31], 1), torch.stack([a, a + 31, a + 1], 1)])
    ball, _ = dual_mesh(sphere(0.02), 64)
    mesh = Mesh(torch.cat([vertices, ball.vertices + 0.3]), torch.cat([sheet, ball.faces + len(vertices)]).int())
    out = simplify(mesh, 100)
    parts = link_components(manifold_links(edges_of(out.faces)), len(out.faces))
    assert len(out.faces) in (99, 100) and int(parts.max()) == 1
    flat = out.vertices[out.vertices[:, 2].abs() < 1e-4]
    assert (flat.amax(0) - flat.amin(0))[:2].tolist() == pytest.approx([0.8, 0.8], abs=1e-3)


def test_slivers_go_and_edges_stay():
    mesh, _ = dual_mesh(rounded_box(rounding=0.005, turn=0.0), 48)
    cut = mesh.faces.long()[100]
    ends = mesh.vertices[cut[:2]]
    near = ends[0] + (ends[1] - ends[0]) * 0.4 + (mesh.vertices[cut[2]] - ends[0]) * 1e-4  # a flat cap on a face's first edge
    number = len(mesh.vertices)
    spoilt = torch.tensor([[cut[0], cut[1], number], [cut[1], cut[2], number], [cut[2], cut[0], number]], dtype=torch.int32)
    faces = torch.cat([mesh.faces[:100], mesh.faces[101:], spoilt])
    bad = Mesh(torch.cat([mesh.vertices, near[None]]), faces)
    assert aspects(bad).max() > 1000
    good = without_slivers(bad)
    assert aspects(good).max() < 12 and (edges_of(good.faces).faces == 2).all()
    assert not clashing(good.faces, manifold_links(edges_of(good.faces))).any()
    assert torch.allclose(good.vertices.amax(0), mesh.vertices.amax(0), atol=2e-3)


def test_the_same_mesh_gives_the_same_bytes():
    mesh, _ = dual_mesh(torus(), 48)
    one, two = simplify(mesh, 3000), simplify(mesh, 3000)
    assert torch.equal(one.vertices, two.vertices) and torch.equal(one.faces, two.faces)
