# SPDX-License-Identifier: Apache-2.0
"""Faces grown into charts by merging pairs, as published (docs/spec/geometry.md 16.1); exports have charts of their own.

Cost of a merge: the half angle of the smallest cone around both charts' normal cones, `+ area (A0 + A1) + perimeter P'^2 / A'`.
Every chart names its cheapest neighbour; pairs that name each other, and cost no more than the limit, merge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from native_ext.mesh_sides import fans_of, twin_sides
from native_ext.segment_sum import sum_by_row

_TIE = 1e-5  # scores of the refinement that differ by less are alike


@dataclass(frozen=True)
class Clustering:
    """Parameters; the defaults are those of the published export.

    Attributes:
        angle: radians, highest cost of a merge.
        refinements: rounds of faces choosing among the charts around them.
        rounds: of merging, refining and splitting.
        smoothing: weight of shared lengths in the refinement.
        area, perimeter: weights in the cost.
    """

    angle: float = 1.5707963
    refinements: int = 0
    rounds: int = 1
    smoothing: float = 1.0
    area: float = 0.1
    perimeter: float = 1e-4


EXPORT = Clustering()


def cluster_faces(vertices: Tensor, faces: Tensor, how: Clustering = EXPORT) -> Tensor:
    """int64 [F], chart of every face, numbered from 0.

    Args:
        vertices: float32 [V, 3]; faces: int [F, 3] with areas.
    """
    if len(faces) == 0:
        return torch.zeros(0, dtype=torch.int64, device=faces.device)
    corners = vertices.double()[faces.long()]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal, area = torch.nn.functional.normalize(cross, dim=1, eps=1e-300), cross.norm(dim=1) / 2
    twin = twin_sides(faces, fans_of(faces, len(vertices))).long()
    side = torch.nonzero(twin > torch.arange(len(twin), device=twin.device))[:, 0]
    pairs = torch.stack([side // 3, twin[side] // 3], 1)
    length = (corners.roll(-1, 1) - corners).norm(dim=2).reshape(-1)[side]
    chart = torch.arange(len(faces), device=faces.device)
    for _ in range(how.rounds):
        while (merged := _merge(chart, pairs, length, normal, area, how)) is not chart:
            chart = merged
        for _ in range(how.refinements):
            chart = _refine(chart, pairs, length, normal, how.smoothing)
        chart = _split(chart, pairs)
    return chart


def _axes(chart: Tensor, normal: Tensor, charts: int) -> Tensor:
    return torch.nn.functional.normalize(sum_by_row(chart, normal, charts), dim=1, eps=1e-300)


def _angle(one: Tensor, two: Tensor) -> Tensor:
    return torch.arccos((one * two).sum(1).clamp(-1, 1))


def _merge(chart: Tensor, pairs: Tensor, length: Tensor, normal: Tensor, area: Tensor, how: Clustering) -> Tensor:
    """One round; the same tensor where nothing merges."""
    charts = int(chart.max()) + 1
    ends = chart[pairs].sort(1).values
    between = ends[:, 0] != ends[:, 1]
    key, which = torch.unique(ends[between, 0] * charts + ends[between, 1], return_inverse=True)
    if len(key) == 0:
        return chart
    one, two = key // charts, key % charts
    shared = sum_by_row(which, length[between][:, None], len(key))[:, 0]
    both = torch.cat([one, two])
    perimeter = sum_by_row(both, shared.repeat(2)[:, None], charts)[:, 0]
    total = sum_by_row(chart, area[:, None], charts)[:, 0]
    axis = _axes(chart, normal, charts)
    spread = torch.zeros(charts, dtype=torch.float64, device=chart.device)
    spread.scatter_reduce_(0, chart, _angle(axis[chart], normal), "amax")
    tilt = _angle(axis[one], axis[two])
    low = torch.minimum(-spread[one], tilt - spread[two])
    high = torch.maximum(spread[one], tilt + spread[two])
    joined, rim = total[one] + total[two], perimeter[one] + perimeter[two] - 2 * shared
    cost = (high - low) / 2 + how.area * joined + how.perimeter * rim**2 / joined.clamp(min=1e-300)
    rank = torch.empty_like(key)
    rank[torch.sort(cost, stable=True).indices] = torch.arange(len(key), device=key.device)
    least = torch.full((charts,), len(key), device=key.device).scatter_reduce_(0, both, rank.repeat(2), "amin")
    agreed = (least[one] == rank) & (least[two] == rank) & (cost <= how.angle)
    if not bool(agreed.any()):
        return chart
    into = torch.arange(charts, device=chart.device).index_copy(0, two[agreed], one[agreed])
    return torch.unique(into[chart], return_inverse=True)[1]


def _refine(chart: Tensor, pairs: Tensor, length: Tensor, normal: Tensor, smoothing: float) -> Tensor:
    count, charts = len(chart), int(chart.max()) + 1
    axis = _axes(chart, normal, charts)
    face = torch.cat([torch.arange(count, device=chart.device), pairs[:, 0], pairs[:, 1]])
    wanted = torch.cat([chart, chart[pairs[:, 1]], chart[pairs[:, 0]]])
    weight = torch.cat([torch.zeros(count, dtype=torch.float64, device=chart.device), length, length])
    key, which = torch.unique(face * charts + wanted, return_inverse=True)
    face, wanted = key // charts, key % charts
    facing = (axis[wanted] * normal[face]).sum(1)
    score = facing + smoothing * sum_by_row(which, weight[:, None], len(key))[:, 0]
    score = torch.where(facing > 0, score, -torch.inf)
    best = torch.full((count,), -torch.inf, dtype=torch.float64, device=chart.device)
    best.scatter_reduce_(0, face, score, "amax")
    good = (score >= best[face] - _TIE) & (score > -torch.inf)
    out = torch.full((count,), charts, device=chart.device).scatter_reduce_(0, face[good], wanted[good], "amin")
    return torch.where(out < charts, out, chart)


def _split(chart: Tensor, pairs: Tensor) -> Tensor:
    """Connected parts of charts, numbered by their smallest faces."""
    label = torch.arange(len(chart), device=chart.device)
    one, two = pairs[chart[pairs[:, 0]] == chart[pairs[:, 1]]].unbind(1)
    while bool((label[one] != label[two]).any()):
        a, b = label[one], label[two]
        label = label.scatter_reduce(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        while not torch.equal(label, up := label[label]):
            label = up
    return torch.unique(label, return_inverse=True)[1]
