# SPDX-License-Identifier: Apache-2.0
"""Faces without an area are found, thin ones are not; as the formula in torch."""

import torch

from native_ext.flat_faces import flat_faces


def by_formula(vertices: torch.Tensor, faces: torch.Tensor, flat: float) -> torch.Tensor:
    corners = vertices.double()[faces.long()]
    edges = (corners.roll(-1, 1) - corners).norm(dim=2)
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2
    return ~((edges.amin(1) > 0) & (area > flat * edges.amax(1) ** 2))


def test_flat_faces_are_those_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randint(0, 4, (300, 3), generator=generator).float() / 7  # many in a line, many twice
    faces = torch.randint(0, 300, (20_000, 3), generator=generator).int()
    found = flat_faces(vertices, faces, 1e-12)
    assert torch.equal(found, by_formula(vertices, faces, 1e-12))
    assert 100 < found.sum() < 10_000


def test_thin_faces_stay_and_points_and_lines_do_not():
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0.5, 1e-4, 0], [0, 0, 0], [0.5, 0, 0], [float("nan"), 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 4], [0, 3, 1], [0, 0, 1], [0, 1, 5]], dtype=torch.int32)
    assert flat_faces(vertices, faces, 1e-12).tolist() == [False, True, True, True, True]
    assert flat_faces(vertices, faces[:0], 1e-12).tolist() == []
