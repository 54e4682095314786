# SPDX-License-Identifier: Apache-2.0
"""Cut a surface into charts, each inside one cone of normals, so that it projects along its axis without flips.

After docs/spec/geometry.md 16.1: charts grow by merging mutually cheapest neighbours, borders are smoothed, steep faces are
moved to where they fit, small charts are absorbed. Merging looks at smoothed normals, so that the roughness of a predicted
surface does not shred it; what a chart may contain in the end is decided by the true normals. Plain tensors on the mesh's
device, deterministic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh

CONE = math.radians(60)  # half angle of a chart's cone of smoothed normals: wider stretches texels, narrower multiplies charts
STEEP = math.cos(math.radians(78))  # a true normal must keep at least this cosine with its chart's axis
AREA_WEIGHT = 0.1  # radians per unit of area: small charts merge first
PERIMETER_WEIGHT = 0.02  # radians per multiple of a circle's compactness: round charts merge first
SMOOTHING_ROUNDS = 6  # of the normals that merging looks at: averages over about 10 faces' width
REFINE_ROUNDS = 30  # a border moves by one face per round, towards where both axes see the faces equally well
FACING_WEIGHT = 4.0  # of that, against a short border
SMALL_CHART = 2e-3  # of the whole area: absorbed by a neighbour if the true normals allow it
_MAX_ROUNDS = 400  # mutual merging needs about 40 rounds; a bound, not a setting


@dataclass(frozen=True)
class Adjacency:
    """Faces and their neighbours.

    Attributes:
        pairs: int64 [E, 2], faces that share an edge used by exactly two faces.
        length: float32 [E] of that edge.
        normals: float32 [F, 3], unit; zero for a face without area.
        areas: float32 [F].
    """

    pairs: Tensor
    length: Tensor
    normals: Tensor
    areas: Tensor


def face_adjacency(mesh: Mesh) -> Adjacency:
    """Neighbourhood of the mesh's faces across manifold edges."""
    corners = mesh.vertices[mesh.faces.long()].double()
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = cross.norm(dim=1, keepdim=True)
    count = mesh.faces.shape[0]
    ends = mesh.faces.long()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    key = ends.min(1).values * mesh.vertices.shape[0] + ends.max(1).values
    key, order = torch.sort(key, stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    start = first.nonzero()[:, 0]
    uses = torch.diff(start, append=start.new_tensor([key.numel()]))
    start = start[uses == 2]
    face = torch.arange(count, device=key.device).repeat_interleave(3)
    pairs = torch.stack([face[order[start]], face[order[start + 1]]], 1)
    edge = ends[order[start]]
    length = (mesh.vertices[edge[:, 0]] - mesh.vertices[edge[:, 1]]).norm(dim=1)
    apart = pairs[:, 0] != pairs[:, 1]
    normals = (cross / doubled.clamp_min(1e-300)).float()
    return Adjacency(pairs[apart], length[apart], normals, (doubled[:, 0] / 2).float())


def cluster_faces(mesh: Mesh) -> Tensor:
    """Chart number of every face.

    Args:
        mesh: triangles with area, any topology.

    Returns:
        int64 [F], 0..charts-1. Each chart is connected across edges of two faces, and its faces' normals keep a positive
        cosine with its area-weighted mean normal (`STEEP`), except for charts of a single face.
    """
    near = face_adjacency(mesh)
    smooth = smooth_normals(near)
    chart = _merge(torch.arange(mesh.faces.shape[0], device=mesh.faces.device), near, smooth)
    chart = _smooth_borders(chart, near, smooth)
    chart = connected(chart, near.pairs)
    for _ in range(3):
        chart = _evict_steep(chart, near)
        chart = connected(_absorb_small(chart, near), near.pairs)
    return connected(_evict_steep(chart, near), near.pairs)


def connected(chart: Tensor, pairs: Tensor) -> Tensor:
    """Numbers the edge-connected parts of equal labels.

    Args:
        chart: int64 [F], any labels.
        pairs: int64 [E, 2], neighbouring faces.

    Returns:
        int64 [F], 0..parts-1, in the order of each part's smallest face.
    """
    inside = pairs[chart[pairs[:, 0]] == chart[pairs[:, 1]]]
    root = torch.arange(chart.shape[0], device=chart.device)
    while True:
        a, b = root[inside[:, 0]], root[inside[:, 1]]
        open_ = a != b
        if not bool(open_.any()):
            return torch.unique(root, return_inverse=True)[1]
        inside, a, b = inside[open_], a[open_], b[open_]
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        root.scatter_reduce_(0, high, low, "amin")
        while True:
            above = root[root]
            if torch.equal(above, root):
                break
            root = above


def chart_axes(chart: Tensor, near: Adjacency) -> Tensor:
    """Unit area-weighted mean normal of every chart, float32 [C, 3]."""
    return _axes(chart, near.normals, near.areas, int(chart.max()) + 1)


def _axes(chart: Tensor, normals: Tensor, areas: Tensor, count: int) -> Tensor:
    total = torch.zeros(count, 3, dtype=torch.float64, device=chart.device)
    total.index_add_(0, chart, (normals * areas[:, None]).double())
    return torch.nn.functional.normalize(total, dim=1, eps=1e-300).float()


def smooth_normals(near: Adjacency) -> Tensor:
    """Normals averaged over neighbours that face the same way; a sharp edge is not crossed."""
    a, b = near.pairs.unbind(1)
    normals = near.normals
    for _ in range(SMOOTHING_ROUNDS):
        alike = (normals[a] * normals[b]).sum(1).clamp_min(0).square()[:, None]
        total = normals * near.areas[:, None]
        total = total.index_add(0, a, normals[b] * (alike * near.areas[b, None]))
        total = total.index_add(0, b, normals[a] * (alike * near.areas[a, None]))
        normals = torch.nn.functional.normalize(total, dim=1, eps=1e-30)
    return normals


def _chart_edges(chart: Tensor, near: Adjacency, count: int) -> tuple[Tensor, Tensor]:
    """Neighbouring chart pairs [P, 2], low number first, and the length of their common border [P]."""
    ends = chart[near.pairs]
    apart = ends[:, 0] != ends[:, 1]
    ends = ends[apart]
    key = ends.min(1).values * count + ends.max(1).values
    key, inverse = torch.unique(key, return_inverse=True)
    shared = torch.zeros(key.shape[0], dtype=torch.float64, device=key.device)
    shared.index_add_(0, inverse, near.length[apart].double())
    return torch.stack([key // count, key % count], 1), shared


def _merge(chart: Tensor, near: Adjacency, normals: Tensor) -> Tensor:
    """Merges charts that are each other's cheapest neighbour until no merged cone stays within `CONE`."""
    whole = near.areas.double().sum()
    for _ in range(_MAX_ROUNDS):
        count = int(chart.max()) + 1
        edges, shared = _chart_edges(chart, near, count)
        axis = _axes(chart, normals, near.areas, count)
        cosine = torch.ones(count, device=chart.device)
        cosine.scatter_reduce_(0, chart, (normals * axis[chart]).sum(1), "amin")
        angle = torch.arccos(cosine.clamp(-1, 1))
        area = torch.zeros(count, dtype=torch.float64, device=chart.device).index_add_(0, chart, near.areas.double())
        around = torch.zeros(count, dtype=torch.float64, device=chart.device)
        around.index_add_(0, edges[:, 0], shared).index_add_(0, edges[:, 1], shared)
        a, b = edges.unbind(1)
        between = torch.arccos((axis[a] * axis[b]).sum(1).clamp(-1, 1))
        low = torch.minimum(-angle[a], between - angle[b])
        cone = (torch.maximum(angle[a], between + angle[b]) - low) / 2
        merged = area[a] + area[b]
        border = around[a] + around[b] - 2 * shared
        cost = cone + AREA_WEIGHT * merged / whole
        cost = cost + PERIMETER_WEIGHT * border.square() / (4 * math.pi * merged.clamp_min(1e-30))
        allowed = cone <= CONE
        if not bool(allowed.any()):
            break
        chart = _join(chart, edges[allowed], cost[allowed], count)
    return chart


def _join(chart: Tensor, edges: Tensor, cost: Tensor, count: int) -> Tensor:
    """Joins every pair that is the cheapest (ties: the first) of both of its charts; the cheapest of all always is."""
    rank = torch.empty(edges.shape[0], dtype=torch.int64, device=chart.device)
    rank[torch.argsort(cost, stable=True)] = torch.arange(edges.shape[0], device=chart.device)
    best = torch.full((count,), edges.shape[0], dtype=torch.int64, device=chart.device)
    best.scatter_reduce_(0, edges[:, 0], rank, "amin").scatter_reduce_(0, edges[:, 1], rank, "amin")
    mutual = (best[edges[:, 0]] == rank) & (best[edges[:, 1]] == rank)
    target = torch.arange(count, device=chart.device)
    target[edges[mutual, 1]] = edges[mutual, 0]
    return torch.unique(target[chart], return_inverse=True)[1]


def _smooth_borders(chart: Tensor, near: Adjacency, normals: Tensor) -> Tensor:
    """Lets each face choose between its chart and its neighbours' by direction and by the border it would have."""
    count, faces = int(chart.max()) + 1, chart.shape[0]
    a = torch.cat([near.pairs[:, 0], near.pairs[:, 1]])
    b = torch.cat([near.pairs[:, 1], near.pairs[:, 0]])
    length = near.length.double().repeat(2)
    around = torch.zeros(faces, dtype=torch.float64, device=chart.device).index_add_(0, a, length)
    share = length / around[a].clamp_min(1e-30)
    every = torch.arange(faces, device=chart.device)
    for _ in range(REFINE_ROUNDS):
        axis = _axes(chart, normals, near.areas, count)
        on_border = torch.zeros(faces, dtype=torch.bool, device=chart.device)
        on_border[a[chart[a] != chart[b]]] = True
        border = every[on_border]
        if not border.numel():
            break
        here = on_border[a]
        owner = torch.cat([a[here], every[border]])
        key, inverse = torch.unique(owner * count + torch.cat([chart[b[here]], chart[border]]), return_inverse=True)
        face, candidate = key // count, key % count
        score = torch.zeros(key.shape[0], dtype=torch.float64, device=chart.device)
        score.index_add_(0, inverse, torch.cat([share[here], torch.zeros(border.shape[0], device=chart.device).double()]))
        facing = (axis[candidate] * normals[face]).sum(1).double()
        score = torch.where(facing > math.cos(1.2 * CONE), score + FACING_WEIGHT * facing, score - 10)
        score += 1e-5 * (chart[face] == candidate)  # stay on a tie
        best = torch.full((faces,), -math.inf, dtype=torch.float64, device=chart.device)
        best.scatter_reduce_(0, face, score, "amax")
        chosen = torch.full((faces,), count, dtype=torch.int64, device=chart.device)
        wins = score == best[face]
        chosen.scatter_reduce_(0, face[wins], candidate[wins], "amin")
        changed = torch.where(chosen < count, chosen, chart)
        if torch.equal(changed, chart):
            break
        chart = changed
    return torch.unique(chart, return_inverse=True)[1]


def _evict_steep(chart: Tensor, near: Adjacency) -> Tensor:
    """Gives each face that its chart's axis sees too steeply a chart of its own."""
    axis = chart_axes(chart, near)
    steep = (axis[chart] * near.normals).sum(1) < STEEP
    fresh = torch.cumsum(steep.long(), 0) + int(chart.max())
    return torch.unique(torch.where(steep, fresh, chart), return_inverse=True)[1]


def _absorb_small(chart: Tensor, near: Adjacency) -> Tensor:
    """Moves small charts into the neighbour with the longest common border whose axis sees all of their faces."""
    count = int(chart.max()) + 1
    area = torch.zeros(count, dtype=torch.float64, device=chart.device).index_add_(0, chart, near.areas.double())
    small = area < SMALL_CHART * area.sum()
    axis = chart_axes(chart, near)
    edges, shared = _chart_edges(chart, near, count)
    source, target = torch.cat([edges[:, 0], edges[:, 1]]), torch.cat([edges[:, 1], edges[:, 0]])
    shared = shared.repeat(2)
    smaller = (area[source] < area[target]) | ((area[source] == area[target]) & (source > target))
    use = small[source] & smaller
    source, target, shared = source[use], target[use], shared[use]
    order = torch.argsort(chart, stable=True)
    size = torch.bincount(chart, minlength=count)
    start = torch.cumsum(size, 0) - size
    option = torch.arange(source.shape[0], device=chart.device).repeat_interleave(size[source])
    offset = torch.arange(option.shape[0], device=chart.device) - (torch.cumsum(size[source], 0) - size[source])[option]
    face = order[start[source][option] + offset]
    worst = torch.ones(source.shape[0], device=chart.device)
    worst.scatter_reduce_(0, option, (near.normals[face] * axis[target[option]]).sum(1), "amin")
    shared = torch.where(worst > STEEP, shared, -1.0)
    best = torch.zeros(count, dtype=torch.float64, device=chart.device).scatter_reduce_(0, source, shared, "amax")
    wins = (shared > 0) & (shared == best[source])
    into = torch.full((count,), count, dtype=torch.int64, device=chart.device)
    into.scatter_reduce_(0, source[wins], target[wins], "amin")
    into = torch.where(into < count, into, torch.arange(count, device=chart.device))
    while not torch.equal(into[into], into):  # always into a larger chart, so there is no cycle
        into = into[into]
    return torch.unique(into[chart], return_inverse=True)[1]
