# SPDX-License-Identifier: Apache-2.0
"""Closest points against a double precision reference, the goldens, and the side filter on a thin wall."""

from pathlib import Path

import numpy as np
import pytest
import torch

from native_ext.closest_point import closest_point

GOLDEN = Path(__file__).parents[1] / "data" / "geometry" / "bvh_udf.npz"


def reference(vertices, faces, points):
    """Distances [P, F] in double precision: foot point if inside, else the nearest of the three segments."""
    a, b, c = (vertices.double()[faces.long()[:, i]] for i in range(3))
    p = points.double()[:, None]

    def segment(s, e):
        d = e - s
        t = (((p - s) * d).sum(-1) / (d * d).sum(-1).clamp(min=1e-300)).clamp(0, 1)
        return (s + t[..., None] * d - p).norm(dim=-1)

    n = torch.linalg.cross(b - a, c - a)
    inside = torch.ones(len(points), len(faces), dtype=torch.bool)
    for s, e in ((a, b), (b, c), (c, a)):
        inside &= (torch.linalg.cross((e - s)[None].expand(len(p), -1, -1), p - s) * n).sum(-1) >= 0
    plane = ((p - a) * n).sum(-1).abs() / n.norm(dim=-1).clamp(min=1e-300)
    edges = torch.stack([segment(a, b), segment(b, c), segment(c, a)]).amin(0)
    return torch.where(inside & (n.norm(dim=-1) > 0), plane, edges)


@pytest.mark.parametrize("name", ["sphere", "nested", "cube_rot"])
def test_goldens(name):
    g = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
    vertices, faces = g[f"{name}_vertices"], g[f"{name}_faces"]
    distance, face, weights = closest_point(vertices, faces, g[f"{name}_points"])
    assert (distance - g[f"{name}_distance"]).abs().max() < 1e-6
    clear = g[f"{name}_second_gap"] > 1e-6
    assert torch.equal(face[clear], g[f"{name}_face_id"][clear])
    point = (weights[..., None] * vertices[faces[face].long()]).sum(1)
    golden = (g[f"{name}_uvw"][..., None] * vertices[g[f"{name}_faces"][g[f"{name}_face_id"]].long()]).sum(1)
    assert (point - golden)[clear].abs().max() < 2e-6  # float32 coordinates of size 1


def test_random_soup_matches_the_reference_and_passes_over_faces_without_area():
    generator = torch.Generator().manual_seed(3)
    vertices = torch.rand(60, 3, generator=generator)
    faces = torch.randint(0, 60, (80, 3), generator=generator, dtype=torch.int32)  # some repeat an index
    faces[:3] = torch.tensor([[0, 0, 0], [1, 1, 2], [3, 4, 3]])
    points = torch.rand(500, 3, generator=generator) * 2 - 0.5
    truth = reference(vertices, faces, points)
    flat = [len(set(face)) < 3 for face in faces.tolist()]
    truth[:, flat] = torch.inf
    distance, face, weights = closest_point(vertices, faces, points)
    assert (distance - truth.amin(1)).abs().max() < 3e-6  # float32 weights of faces as large as the coordinates
    assert (truth.gather(1, face[:, None])[:, 0] - truth.amin(1)).max() < 1e-5
    assert torch.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(1) - 1).abs().max() < 1e-6


def test_ties_go_to_the_smallest_face():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    faces = torch.tensor([[0, 4, 1], [0, 3, 4], [0, 2, 3], [0, 1, 2]])
    above_centre = torch.tensor([[0.0, 0.0, 0.3]])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        assert closest_point(vertices, faces[order], above_centre)[1].item() == 0


def test_incompatible_side_of_a_thin_wall_is_skipped():
    """Beside a thin upright wall, near its foot: the floor is nearer, but the texel belongs to the wall."""
    vertices = torch.tensor([[0.0, -1, 0], [0, 1, 0], [0, 0, 1], [-1, -1, 0], [1, -1, 0], [0, 2, 0]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    point, normal = torch.tensor([[0.1, 0.0, 0.05]]), torch.tensor([[-1.0, 0.0, 0.0]])
    assert closest_point(vertices, faces, point)[1].item() == 1
    distance, face, _ = closest_point(vertices, faces, point, 0.2, normal)
    assert face.item() == 0 and distance.item() == pytest.approx(0.1, abs=1e-6)
    distance, face, _ = closest_point(vertices, faces, point, 0.08, normal)
    assert face.item() == -1 and distance.item() == float("inf")


def test_nothing_to_find():
    no_faces = torch.zeros(0, 3, dtype=torch.int32)
    distance, face, weights = closest_point(torch.zeros(0, 3), no_faces, torch.zeros(2, 3))
    assert distance.isinf().all() and (face == -1).all() and (weights == 0).all()
    assert len(closest_point(torch.eye(3), torch.tensor([[0, 1, 2]]), torch.zeros(0, 3))[0]) == 0


def test_with_faces_wound_outward_only_the_same_side_qualifies() -> None:
    """A point just under the upper side of a slab, looking down, belongs to its lower side."""
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = torch.cat([square, square + torch.tensor([0, 0, 0.1])])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7]])  # below looking down, above looking up
    point, down = torch.tensor([[0.6, 0.3, 0.09]]), torch.tensor([[0.0, 0, -1]])
    assert closest_point(vertices, faces, point, 0.2, down)[1].item() in (2, 3)
    distance, face, _ = closest_point(vertices, faces, point, 0.2, down, outward=True)
    assert face.item() in (0, 1) and distance.item() == pytest.approx(0.09, abs=1e-6)
    assert closest_point(vertices, faces, point, 0.05, down, outward=True)[1].item() == -1
