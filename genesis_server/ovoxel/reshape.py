# SPDX-License-Identifier: Apache-2.0
"""Takes away what a solid O-Voxel has where nothing may be, adds what must be there, and closes the surface again.

All flags together say which corners of the grid lie inside (`native_ext.inside_corners`). Edges at corners that change sides,
and those where nothing may be, are flagged anew; all others stay as they were predicted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from genesis_server.ovoxel.corners import PAD, corner_box, crossed_edges, differing_edges, touching_edges
from genesis_server.ovoxel.voxels import OVoxel
from native_ext.inside_corners import inside_corners

# cells around an edge of axis x, y, z, relative to its low corner
_AROUND = (
    ((0, 0, 0), (0, -1, 0), (0, 0, -1), (0, -1, -1)),
    ((0, 0, 0), (-1, 0, 0), (0, 0, -1), (-1, 0, -1)),
    ((0, 0, 0), (-1, 0, 0), (0, -1, 0), (-1, -1, 0)),
)
_CORNERS_MAX = 20_000_000  # a grid of 256; larger O-Voxels stay as they are


def reshaped(voxels: OVoxel, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> OVoxel:
    """The O-Voxel after some of the grid's corners have changed sides.

    Args:
        voxels: of a solid; flags may be wrong here and there.
        change: positions of all corners float32 [X, Y, Z, 3] in model space, a little beyond [-0.5, 0.5]^3, and which of
            them lie inside, bool [X, Y, Z] -> room and matter, float32 [X, Y, Z]. Corners without room (<= 0) will be
            outside, others with matter (> 0) inside. New surfaces go where these vanish, linear between corners.

    Returns:
        Cells in lexicographic order; attributes and split weights of new ones are their nearest old neighbour's. The same
        object if no corner changes sides.
    """
    if len(voxels.coords) == 0:
        return voxels
    size = (voxels.resolution + 2 * PAD + 1,) * 3
    if size[0] ** 3 > _CORNERS_MAX:
        return voxels
    low = torch.full((3,), -PAD, device=voxels.coords.device)
    cells = voxels.coords.long() - low
    crossed = crossed_edges(cells, voxels.intersected, size)
    solid = _inside(voxels, size)
    corners = torch.cartesian_prod(*(torch.arange(count, device=low.device) for count in size)).view(*size, 3)
    room, matter = change((corners + low).float() / voxels.resolution - 0.5, solid)
    full = room <= 0
    for axis in range(3):  # the surface stays within the grid's cells
        full.narrow(axis, 0, PAD + 1).fill_(True)
        full.narrow(axis, size[axis] - PAD - 1, PAD + 1).fill_(True)
    after = (solid | (matter > 0)) & ~full
    if torch.equal(solid, after):
        return voxels
    decided = touching_edges(full | (solid ^ after))
    crossed = torch.where(decided, differing_edges(after), crossed)
    key, mean, cut = _crossings(crossed, decided, room, matter)
    old = _key(cells, size)
    kept = old[~_surrounded(full)[tuple(cells.unbind(1))]]
    keys = torch.cat([key, kept]).unique()
    x, rest = keys // (size[1] * size[2]), keys % (size[1] * size[2])
    found = torch.stack([x, rest // size[2], rest % size[2]], 1)
    source, known = _nearest(found, cells, old, keys)
    dual = voxels.dual_vertices[source]
    place = torch.searchsorted(key, keys).clamp(max=len(key) - 1)
    drawn = (key[place] == keys) & (cut[place] | ~known)
    dual[drawn] = mean[place][drawn]
    edge = found[:, None] + 1 - torch.eye(3, dtype=torch.int64, device=low.device)  # the owned edges' low corners
    flags = torch.stack([crossed[axis][tuple(edge[:, axis].unbind(1))] for axis in range(3)], 1)
    return OVoxel(
        (found + low).to(voxels.coords.dtype),
        dual,
        flags,
        voxels.resolution,
        None if voxels.split_weight is None else voxels.split_weight[source],
        None if voxels.attributes is None else voxels.attributes[source],
    )


def _inside(voxels: OVoxel, size: tuple[int, ...]) -> Tensor:
    """bool [X, Y, Z], the corners inside, of the whole grid; only the box around the cells has to be looked at."""
    low, box = corner_box(voxels.coords)
    solid = torch.zeros(size, dtype=torch.bool, device=low.device)
    found = inside_corners(crossed_edges(voxels.coords.long() - low, voxels.intersected, box))
    x, y, z = (slice(first, first + count) for first, count in zip((low + PAD).tolist(), box, strict=True))
    solid[x, y, z] = found
    return solid


def _key(cells: Tensor, size: tuple[int, ...]) -> Tensor:
    return (cells[..., 0] * size[1] + cells[..., 1]) * size[2] + cells[..., 2]


def _crossings(crossed: Tensor, decided: Tensor, room: Tensor, matter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per cell around a flagged edge: its key, ascending; the mean of its crossings, as offset; whether one is new."""
    axis, *at = crossed.nonzero().unbind(1)
    at = torch.stack(at, 1)
    step = torch.nn.functional.one_hot(axis, 3)
    cut = decided[axis, at[:, 0], at[:, 1], at[:, 2]]
    share = torch.full_like(room[:1, 0, 0], 0.5).expand(len(at))
    for values in (matter, room):  # the outline is the surer one where both have a border
        first, second = (values[tuple(end.unbind(1))] for end in (at, at + step))
        share = torch.where(cut & ((first > 0) != (second > 0)), first / (first - second), share)
    share = share.clamp(0.02, 0.98)
    point = at + step * share[:, None]
    around = at[:, None] + torch.tensor(_AROUND, device=at.device)[axis]
    keys, row = _key(around, tuple(room.shape)).flatten().unique(return_inverse=True)
    offset = (point[:, None] - around).flatten(0, 1)
    total = torch.zeros(len(keys), 5, device=at.device)
    parts = [offset, torch.ones_like(offset[:, :1]), cut.float().repeat_interleave(4)[:, None]]
    total.index_add_(0, row, torch.cat(parts, 1))
    return keys, total[:, :3] / total[:, 3:4], total[:, 4] > 0


def _surrounded(full: Tensor) -> Tensor:
    """bool [X, Y, Z], cells all of whose corners are full, by low corner."""
    for axis in range(3):
        count = full.shape[axis] - 1
        both = full.clone()
        both.narrow(axis, 0, count).logical_and_(full.narrow(axis, 1, count))
        full = both
    return full


def _nearest(found: Tensor, cells: Tensor, old: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Row of the old cell at or nearest to each found one, and whether it is at the same place."""
    order = old.argsort()
    place = torch.searchsorted(old[order], keys).clamp(max=len(old) - 1)
    source = order[place]
    known = old[source] == keys
    tree = cKDTree(cells.cpu().numpy())
    source[~known] = torch.from_numpy(tree.query(found[~known].cpu().numpy())[1]).to(source)
    return source, known
