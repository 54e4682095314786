# SPDX-License-Identifier: Apache-2.0
"""One step of edge collapse exactly as published (docs/spec/geometry.md 14, "one step"), to compare with; see `edge_collapse`.

Cost of edge (a, b) moved to x: `x'(Q_a + Q_b)x + l |e|^2 + s S |e|^2`, quadrics of unit normals made anew in every step, S the
mean of `1 - 4 sqrt(3) area / sum(edges^2)` over the faces that stay; infinite where a face turns over. x is the middle, or
the end that lies on a boundary where just one does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.grid_crossings import spread
from native_ext.mesh_sides import fans_of


def published_collapse(
    vertices: Tensor, faces: Tensor, threshold: float, length_weight: float = 1e-2, skinny_weight: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step.

    Args:
        vertices: float [V, 3]; faces: int [F, 3].
        threshold: highest cost.

    Returns:
        edges int64 [E, 2] ascending; cost float64 [E]; collapsed edges int64 [K]; the new vertices float64 and faces int64.
    """
    points, faces = vertices.double(), faces.long()
    start, end = faces.reshape(-1), faces.roll(-1, 1).reshape(-1)
    key, edge_of_side, uses = torch.unique(
        torch.minimum(start, end) << 32 | torch.maximum(start, end), return_inverse=True, return_counts=True
    )
    edges = torch.stack([key >> 32, key & 0xFFFFFFFF], 1)
    rim = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    rim[edges[uses == 1]] = True
    a, b = edges.unbind(1)
    target = (points[a] + points[b]) / 2
    only_a, only_b = (rim[a] & ~rim[b])[:, None], (rim[b] & ~rim[a])[:, None]
    target = torch.where(only_a, points[a], torch.where(only_b, points[b], target))
    edge, face = _rings(edges, faces, len(points))
    stays = (faces[face] == a[edge][:, None]).any(1) ^ (faces[face] == b[edge][:, None]).any(1)
    error = _quadric_error(points, faces, a, target) + _quadric_error(points, faces, b, target)
    length2 = ((points[a] - points[b]) ** 2).sum(1)
    before = points[faces[face[stays]]]
    moved = (faces[face[stays]] == a[edge[stays]][:, None]) | (faces[face[stays]] == b[edge[stays]][:, None])
    after = torch.where(moved[..., None], target[edge[stays]][:, None], before)
    old, new = (torch.linalg.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]) for c in (before, after))
    turned = torch.zeros(len(edges), dtype=torch.bool, device=points.device)
    turned[edge[stays][(old * new).sum(1) < 0]] = True
    squares = ((after.roll(-1, 1) - after) ** 2).sum((1, 2))
    skinny = 1 - (2 * 3**0.5 * new.norm(dim=1) / squares).clamp(0, 1)
    total = torch.zeros_like(error).index_add_(0, edge[stays], skinny)
    mean = total / torch.bincount(edge[stays], minlength=len(edges)).clamp(min=1)
    cost = error + length_weight * length2 + skinny_weight * mean * length2
    cost = torch.where(turned, torch.inf, cost)
    collapsed = _winners(cost, edge, face, len(faces), threshold)
    return edges, cost, collapsed, *_apply(points, faces, edges, target, collapsed)


def _rings(edges: Tensor, faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pairs of an edge and a face at one of its ends, each once, ascending by edge."""
    fans = fans_of(faces, count)
    starts, side = fans.start.long(), fans.side.long()
    owner, rank = spread((starts[1:] - starts[:-1])[edges.reshape(-1)])
    face = side[starts[edges.reshape(-1)[owner]] + rank] // 3
    pair = torch.unique((owner // 2) * len(faces) + face)
    return pair // len(faces), pair % len(faces)


def _quadric_error(points: Tensor, faces: Tensor, vertex: Tensor, x: Tensor) -> Tensor:
    corners = points[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = torch.nn.functional.normalize(normal, dim=1, eps=1e-300)
    plane = torch.cat([normal, -(normal * corners[:, :1].squeeze(1)).sum(1, keepdim=True)], 1)
    products = (plane[:, :, None] * plane[:, None]).repeat_interleave(3, 0)
    quadric = torch.zeros(len(points), 4, 4, dtype=torch.float64, device=points.device)
    quadric.index_add_(0, faces.reshape(-1), products)
    homogeneous = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    return torch.einsum("ei,eij,ej->e", homogeneous, quadric[vertex], homogeneous)


def _winners(cost: Tensor, edge: Tensor, face: Tensor, faces: int, threshold: float) -> Tensor:
    """Edges that are the cheapest (then smallest) of all faces at their ends."""
    rank = torch.empty(len(cost), dtype=torch.int64, device=cost.device)
    rank[torch.sort(cost, stable=True).indices] = torch.arange(len(cost), device=cost.device)
    least = torch.full((faces,), len(cost), device=cost.device).scatter_reduce_(0, face, rank[edge], "amin")
    best = torch.zeros_like(rank).scatter_reduce_(0, edge, (least[face] == rank[edge]).long(), "amin", include_self=False)
    return torch.nonzero((best == 1) & (cost <= threshold))[:, 0]


def _apply(points: Tensor, faces: Tensor, edges: Tensor, target: Tensor, collapsed: Tensor) -> tuple[Tensor, Tensor]:
    a, b = edges[collapsed].unbind(1)
    points = points.index_copy(0, a, target[collapsed])
    into = torch.arange(len(points), device=points.device).index_copy(0, b, a)
    faces = into[faces]
    faces = faces[(faces != faces.roll(1, 1)).all(1)]
    used = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    used[faces.reshape(-1)] = True
    return points[used], (torch.cumsum(used, 0) - 1)[faces]
