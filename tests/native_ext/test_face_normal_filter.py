# SPDX-License-Identifier: Apache-2.0
"""Both steps of smoothing against their formulas, written with torch."""

import torch
from torch.nn.functional import normalize

from genesis_server.mesh.connectivity import edges_of, manifold_links
from genesis_server.mesh.normals import face_crosses
from native_ext.face_normal_filter import filter_normals, follow_normals
from tests.analytic import dual_mesh, torus


def test_normals_listen_to_neighbours_that_face_the_same_way():
    mesh, _ = dual_mesh(torus(), 24)
    links = manifold_links(edges_of(mesh.faces))[5:]  # five sides without a neighbour
    beside = torch.full((3 * len(mesh.faces),), -1, dtype=torch.int32)
    beside[links[:, 0]], beside[links[:, 1]] = (links[:, 1] // 3).int(), (links[:, 0] // 3).int()
    crosses = face_crosses(mesh).double()
    area = crosses.norm(dim=1)
    noise = 0.5 * torch.randn(len(area), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = start = normalize(normalize(crosses, dim=1) + noise, dim=1)
    a, b = torch.cat([links, links.flip(1)]).T // 3
    for _ in range(3):
        weight = ((expected[a] * expected[b]).sum(1) - 0.4).clamp(min=0) ** 2 * area[b]
        expected = normalize((expected * area[:, None]).index_add(0, a, weight[:, None] * expected[b]), dim=1)
    assert torch.allclose(filter_normals(start, area, beside.view(-1, 3), 0.4, 3), expected, atol=1e-12)


def test_vertices_follow_the_planes_through_their_faces_centres():
    mesh, _ = dual_mesh(torus(), 24)
    normal = normalize(torch.randn(len(mesh.faces), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=1)
    faces, expected = mesh.faces.long(), mesh.vertices.double()
    count = torch.bincount(faces.reshape(-1))[:, None]
    for _ in range(3):
        corners = expected[faces]
        height = ((corners.mean(1, keepdim=True) - corners) * normal[:, None]).sum(2, keepdim=True)
        expected = (
            expected
            + torch.zeros_like(expected).index_add(0, faces.reshape(-1), (height * normal[:, None]).view(-1, 3)) / count
        )
    got = follow_normals(mesh.vertices.double(), mesh.faces, mesh.fans, normal, 3)
    assert torch.allclose(got, expected, atol=1e-12)
