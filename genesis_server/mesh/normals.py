# SPDX-License-Identifier: Apache-2.0
"""Face and vertex normals (docs/spec/geometry.md 12): always unit length and finite."""

from __future__ import annotations

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh


def face_crosses(mesh: Mesh) -> Tensor:
    """float32 [F, 3], normal of each face times twice its area."""
    a, b, c = mesh.vertices[mesh.faces.long()].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def face_areas(mesh: Mesh) -> Tensor:
    """float32 [F]."""
    return face_crosses(mesh).norm(dim=1) / 2


def face_normals(mesh: Mesh) -> Tensor:
    """float32 [F, 3] unit normals; zero for faces without area."""
    return torch.nn.functional.normalize(face_crosses(mesh), dim=1, eps=1e-30)


def vertex_normals(mesh: Mesh) -> Tensor:
    """float32 [V, 3] unit normals weighted by area.

    Where the sum is zero: the first incident face with an area decides, and (0, 0, 1) where there is none.
    """
    crosses = face_crosses(mesh).double()
    total = torch.zeros(len(mesh.vertices), 3, dtype=torch.float64, device=crosses.device)
    corners = mesh.faces.long().reshape(-1)
    total.index_add_(0, corners, crosses.repeat_interleave(3, 0))  # double: the order of sums cannot show in float32
    normals = torch.nn.functional.normalize(total, dim=1, eps=1e-300).float()
    lost = torch.nonzero(total.norm(dim=1) <= 1e-30)[:, 0]
    if len(lost):
        normals[lost] = _first_normals(mesh, lost)
    return normals


def _first_normals(mesh: Mesh, vertices: Tensor) -> Tensor:
    unit = face_normals(mesh)
    count = len(mesh.faces)
    usable = torch.nonzero(unit.any(1))[:, 0]
    first = torch.full((len(mesh.vertices),), count, device=unit.device)
    corners = mesh.faces.long()[usable].reshape(-1)
    first.scatter_reduce_(0, corners, usable.repeat_interleave(3), "amin")
    fallback = torch.cat([unit, torch.tensor([[0.0, 0.0, 1.0]], device=unit.device)])
    return fallback[first[vertices]]
