# SPDX-License-Identifier: Apache-2.0
"""The finest part of a sparse decoder in tiles: the same result in a fraction of the memory.

Nearly all of a decoder's memory belongs to its last two levels. Up to there it runs whole; then slabs of voxels, each with
as much of its surroundings as the remaining convolutions reach, go through the rest one after the other, and rows come
back in the order of the whole. Every row adds the same numbers in the same order, so nothing changes but the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.sparse.resample import subdivide
from genesis_server.sparse.tensor import Level, SparseTensor


@dataclass(frozen=True)
class Tile:
    """Some rows of a level, to be decoded on their own.

    Attributes:
        rows: int64 `[n]`, ascending, core and surroundings.
        core: bool `[n]`, which of them are the tile's own.
    """

    rows: Tensor
    core: Tensor


def make_tiles(coords: Tensor, count: int, reach: int) -> list[Tile]:
    """Slabs of about equally many rows along the longest axis.

    Args:
        coords: int32 `[N, 4]`.
        count: of slabs; fewer where voxels lie in fewer layers.
        reach: cells of surroundings on either side.
    """
    sides = coords[:, 1:].amax(0) - coords[:, 1:].amin(0)
    along = coords[:, 1 + int(sides.argmax())]
    cuts = torch.linspace(0, len(along) - 1, count + 1, device=coords.device).long()[1:-1]
    edges = [None, *torch.unique(along.sort().values[cuts]).tolist(), None]
    tiles = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        near, core = torch.ones_like(along, dtype=torch.bool), torch.ones_like(along, dtype=torch.bool)
        if low is not None:
            near, core = near & (along >= low - reach), core & (along >= low)
        if high is not None:
            near, core = near & (along < high + reach), core & (along < high)
        rows = near.nonzero()[:, 0]
        if bool(core.any()):
            tiles.append(Tile(rows, core[rows]))
    return tiles


def decode_tiles(
    h: SparseTensor,
    tiles: list[Tile],
    advance: Callable[[SparseTensor], SparseTensor],
    logits: Callable[[SparseTensor], Tensor | None],
    descend: Callable[[SparseTensor, Tensor], tuple[SparseTensor, Tensor]],
    mask: Tensor | None,
) -> tuple[SparseTensor, Tensor | None]:
    """Put tiles through the last levels.

    Args:
        h: features on the level before the last up block.
        advance: the plain blocks of that level.
        logits: subdivision logits `[n, 8]` of the up block, or None where it does not predict.
        descend: up block and everything after it, from features and mask: the output, and the parent of each of its rows.
        mask: bool `[N, 8]` for all rows, or None to follow the logits.

    Returns:
        The output on the finest level, and the logits `[N, 8]` where there are any.
    """
    outputs, coords, roots, found = [], [], [], None
    for tile in tiles:
        part = advance(SparseTensor(h.feats[tile.rows], Level(h.coords[tile.rows])))
        predicted = logits(part)
        if predicted is not None:
            found = predicted.new_empty(len(h), 8) if found is None else found
            found[tile.rows[tile.core]] = predicted[tile.core]
        chosen = predicted > 0 if mask is None else mask[tile.rows]
        subdivide(part.level, chosen).fine.sorts = False  # a tile is there to save memory
        out, parent = descend(part, chosen)
        own = tile.core[parent]
        outputs.append(out.feats[own])
        coords.append(out.coords[own])
        roots.append(tile.rows[parent[own]])
        del part, out
    order = torch.cat(roots).argsort(stable=True)
    return SparseTensor(torch.cat(outputs)[order], Level(torch.cat(coords)[order])), found
