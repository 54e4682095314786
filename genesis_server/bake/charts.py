# SPDX-License-Identifier: Apache-2.0
"""Cut a surface into charts, each turned towards one axis, so that it projects along it with few flips and little stretch.

After docs/spec/geometry.md 16.1: charts grow by merging mutually cheapest neighbours, borders are smoothed, small charts are
absorbed. All of it looks at smoothed normals, so that the roughness of a predicted surface does not shred it; folds are ironed
out of the flat charts afterwards (`unfold`). Plain tensors on the mesh's device; sums are exact, so that the result is the same
on every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genesis_server.mesh.mesh import Mesh
from native_ext.exact_sum import exact_sum

KEPT = 0.82  # of its area, at least, a chart keeps in projection: less stretches texels, more multiplies charts
_AVERTED = math.cos(math.radians(72))  # faces do not change to a chart whose axis sees them more steeply
LEAN = math.cos(math.radians(68))  # the axes of two charts that merge keep at least this cosine with the new one
STEEP = math.cos(math.radians(78))  # smoothed normals keep at least this cosine with their chart's axis
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


def cluster_faces(near: Adjacency) -> Tensor:
    """Chart number of every face.

    Args:
        near: of triangles with area, any topology.

    Returns:
        int64 [F], 0..charts-1. Each chart is connected across edges of two faces, and its faces' smoothed normals keep a
        positive cosine with their area-weighted mean; single faces may still lean over.
    """
    smooth = replace(near, normals=smooth_normals(near))
    chart = _merge(near, smooth.normals)
    chart = connected(_smooth_borders(chart, near, smooth.normals), near.pairs)
    for _ in range(3):
        chart = connected(_absorb_small(chart, smooth), near.pairs)
    return chart


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


def rim_faces(chart: Tensor, pairs: Tensor) -> Tensor:
    """int64 [n], the faces that have less than three neighbours in their chart."""
    inner = pairs[chart[pairs[:, 0]] == chart[pairs[:, 1]]]
    return (torch.bincount(inner.reshape(-1), minlength=len(chart)) < 3).nonzero()[:, 0]


def _axes(chart: Tensor, normals: Tensor, areas: Tensor, count: int) -> Tensor:
    total = exact_sum(chart, normals.double() * areas[:, None], count)
    return torch.nn.functional.normalize(total, dim=1, eps=1e-300).float()


def smooth_normals(near: Adjacency) -> Tensor:
    """Normals averaged over neighbours that face the same way, float32 [F, 3]; a sharp edge is not crossed."""
    table = neighbour_table(near)
    areas = torch.cat([near.areas, near.areas.new_zeros(1)])[table]
    normals = near.normals
    for _ in range(SMOOTHING_ROUNDS):
        around = torch.cat([normals, normals.new_zeros(1, 3)])[table]
        alike = (normals[:, None] * around).sum(2).clamp_min(0).square() * areas
        total = normals * near.areas[:, None] + (around * alike[:, :, None]).sum(1)
        normals = torch.nn.functional.normalize(total, dim=1, eps=1e-30)
    return normals


def neighbour_table(near: Adjacency) -> Tensor:
    """int64 [F, 3]: the neighbours of every face in ascending order, F where there are fewer than three."""
    count = len(near.areas)
    face, other = near.pairs.T.reshape(-1), near.pairs.flip(1).T.reshape(-1)
    key, _ = torch.sort(face * count + other)
    face, other = key // count, key % count
    uses = torch.bincount(face, minlength=count)
    place = torch.arange(len(face), device=face.device) - (torch.cumsum(uses, 0) - uses)[face]
    table = torch.full((count, 3), count, dtype=torch.int64, device=face.device)
    table[face, place] = other
    return table


def _merge(near: Adjacency, normals: Tensor) -> Tensor:
    """Merges faces, then charts, that are each other's cheapest neighbour, while the union still keeps `KEPT` of its area
    when seen along its axis. The graph of charts shrinks with every round."""
    count = len(near.areas)
    chart = torch.arange(count, device=near.areas.device)
    area = near.areas.double()
    whole = area.sum()
    towards = normals.double() * area[:, None]
    edges, shared = border_lengths(near.pairs, near.length.double(), count)
    for _ in range(_MAX_ROUNDS):
        a, b = edges.unbind(1)
        around = exact_sum(edges.T.reshape(-1), shared.repeat(2), count)
        merged = area[a] + area[b]
        both = towards[a] + towards[b]
        kept = both.norm(dim=1) / merged.clamp_min(1e-300)
        axis = torch.nn.functional.normalize(both, dim=1, eps=1e-300)
        steepest = torch.minimum(
            *((axis * torch.nn.functional.normalize(towards[i], dim=1, eps=1e-300)).sum(1) for i in (a, b))
        )
        border = around[a] + around[b] - 2 * shared
        cost = torch.arccos((2 * kept - 1).clamp(-1, 1)) + AREA_WEIGHT * merged / whole
        cost = cost + PERIMETER_WEIGHT * border.square() / (4 * math.pi * merged.clamp_min(1e-30))
        allowed = (kept >= KEPT) & (steepest >= LEAN)
        if not bool(allowed.any()):
            break
        target = _join(edges[allowed], cost[allowed], count)
        chart, count = target[chart], int(target.max()) + 1
        sums = exact_sum(target, torch.cat([towards, area[:, None]], 1), count)
        towards, area = sums[:, :3], sums[:, 3]
        edges, shared = border_lengths(target[edges], shared, count)
    return chart


def border_lengths(edges: Tensor, shared: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pairs of different charts, low number first, each once, with the sum of their lengths."""
    apart = edges[:, 0] != edges[:, 1]
    edges = edges[apart]
    key, inverse = torch.unique(edges.min(1).values * count + edges.max(1).values, return_inverse=True)
    return torch.stack([key // count, key % count], 1), exact_sum(inverse, shared[apart], len(key))


def _join(edges: Tensor, cost: Tensor, count: int) -> Tensor:
    """New chart numbers [count] after joining every pair that is the cheapest (ties: the first) of both of its charts; the
    cheapest of all always is."""
    rank = torch.empty(edges.shape[0], dtype=torch.int64, device=edges.device)
    rank[torch.argsort(cost, stable=True)] = torch.arange(edges.shape[0], device=edges.device)
    best = torch.full((count,), edges.shape[0], dtype=torch.int64, device=edges.device)
    best.scatter_reduce_(0, edges[:, 0], rank, "amin").scatter_reduce_(0, edges[:, 1], rank, "amin")
    mutual = (best[edges[:, 0]] == rank) & (best[edges[:, 1]] == rank)
    target = torch.arange(count, device=edges.device)
    target[edges[mutual, 1]] = edges[mutual, 0]
    return torch.unique(target, return_inverse=True)[1]


def _smooth_borders(chart: Tensor, near: Adjacency, normals: Tensor) -> Tensor:
    """Lets each face choose between its chart and its neighbours' by direction and by the border it would have."""
    count, faces = int(chart.max()) + 1, chart.shape[0]
    a, b = near.pairs.unbind(1)
    around = exact_sum(near.pairs.T.reshape(-1), near.length.double().repeat(2), faces).clamp_min(1e-30)
    towards = normals.double() * near.areas[:, None]
    for _ in range(REFINE_ROUNDS):
        axis = torch.nn.functional.normalize(exact_sum(chart, towards, count), dim=1, eps=1e-300).float()
        on_border = torch.zeros(faces, dtype=torch.bool, device=chart.device)
        on_border[near.pairs[chart[a] != chart[b]].reshape(-1)] = True
        border = on_border.nonzero()[:, 0]
        if not border.numel():
            break
        here = (on_border[a] | on_border[b]).nonzero()[:, 0]
        one, two = (torch.cat(part) for part in ((a[here], b[here]), (b[here], a[here])))
        length, use = near.length[here].double().repeat(2), on_border[one]
        one, two, share = one[use], two[use], length[use] / around[one[use]]
        owner = torch.cat([one, border])
        key, inverse = torch.unique(owner * count + torch.cat([chart[two], chart[border]]), return_inverse=True)
        face, candidate = key // count, key % count
        score = exact_sum(inverse, torch.cat([share, share.new_zeros(border.shape[0])]), key.shape[0])
        facing = (axis[candidate] * normals[face]).sum(1).double()
        score = torch.where(facing > _AVERTED, score + FACING_WEIGHT * facing, score - 10)
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


def _absorb_small(chart: Tensor, near: Adjacency) -> Tensor:
    """Moves small charts into the neighbour with the longest common border whose axis sees all of their faces."""
    count = int(chart.max()) + 1
    area = exact_sum(chart, near.areas, count)
    small = area < SMALL_CHART * area.sum()
    axis = _axes(chart, near.normals, near.areas, count)
    edges, shared = border_lengths(chart[near.pairs], near.length.double(), count)
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
