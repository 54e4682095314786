# SPDX-License-Identifier: Apache-2.0
"""Index operations between a level and the one twice as fine (docs/spec/networks.md 3.10).

Child index inside a parent: `s = x%2 + 2*(y%2) + 4*(z%2)`. Rows of a coarsened level are sorted by (b, x, y, z); rows of
a subdivided level are parent-major with ascending child index. Guides and texture voxels rely on that order.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.sparse.rows import take_coords, take_rows
from genesis_server.sparse.tensor import Level, Refinement, SparseTensor
from native_ext.neighbours import refine_neighbours


def coarsen(level: Level) -> Level:
    """The level of all parents, which remembers `level` as its finer one."""
    b, x, y, z = level.coords.long().unbind(1)
    child = (x & 1) + 2 * (y & 1) + 4 * (z & 1)
    x, y, z = x >> 1, y >> 1, z >> 1
    ny, nz = int(y.max()) + 1, int(z.max()) + 1
    nx = int(x.max()) + 1
    keys, parent = torch.unique(((b * nx + x) * ny + y) * nz + z, return_inverse=True)
    columns = []
    for side in (nz, ny, nx):
        columns.append(keys % side)
        keys = keys // side
    coarse = Level(torch.stack([keys, *reversed(columns)], dim=1))
    coarse.finer = Refinement(level, parent, child)
    return coarse


def subdivide(level: Level, mask: Tensor | None) -> Refinement:
    """The children of a level: those it was coarsened from if it was, else those that `mask` selects.

    The children of the last mask are remembered: a second network guided by the same mask shares their level and
    with it their neighbour table.

    Args:
        level: the parents.
        mask: bool `[N, 8]`, or None to insist on an encoder's index map.

    Raises:
        GenesisError: INTERNAL when there is neither a map nor a mask, or the mask has the wrong number of rows.
    """
    if level.finer is not None:
        return level.finer
    if mask is None or mask.shape != (len(level.coords), 8):
        given = "no subdivision mask" if mask is None else f"a subdivision mask of shape {tuple(mask.shape)}"
        raise GenesisError(
            ErrorCode.INTERNAL,
            f"An up-sampling layer of {len(level.coords)} voxels got {given} and no encoder's index map.",
            "Guide it with the logits of the shape decoder on the same coordinates, in the same row order.",
        )
    if level.divided is not None and torch.equal(level.divided[0], mask):
        return level.divided[1]
    parent, child = mask.nonzero(as_tuple=True)
    bits = torch.stack([torch.zeros_like(child), child & 1, child >> 1 & 1, child >> 2 & 1], dim=1).to(torch.int32)
    scale = torch.tensor([1, 2, 2, 2], dtype=torch.int32, device=bits.device)
    table = level.known_neighbours
    source = None if table is None else partial(refine_neighbours, table, parent, child)
    refinement = Refinement(Level(take_coords(level.coords, parent) * scale + bits, source), parent, child)
    level.divided = (mask, refinement)
    return refinement


def subdivisions_between(coarse: Level, fine: Level, levels: int) -> tuple[list[Tensor], Tensor]:
    """The masks that lead a decoder from `coarse` to exactly the voxels of `fine` (teacher forcing, losses).

    Args:
        coarse: the latent's level, an ancestor of every voxel of `fine` among its rows.
        fine: the voxels `levels` halvings finer, in any order.
        levels: number of up blocks.

    Returns:
        bool `[N_i, 8]` per up block, in the decoder's row order; and int64 `[N]`, with which `fine.coords[order]` are
        the decoder's output coordinates.
    """
    radix = [int(max(fine.coords[:, axis].max(), coarse.coords[:, axis].max())) + 1 for axis in (1, 2, 3)]
    masks: list[Tensor] = []
    current = coarse.coords
    for shift in reversed(range(levels)):
        target = fine.coords.clone()
        target[:, 1:] >>= shift
        child = (target[:, 1] & 1) + 2 * (target[:, 2] & 1) + 4 * (target[:, 3] & 1)
        target[:, 1:] >>= 1
        mask = torch.zeros(len(current), 8, dtype=torch.bool, device=current.device)
        mask[_rows_of(target, current, radix), child.long()] = True
        masks.append(mask)
        current = subdivide(Level(current), mask).fine.coords
    return masks, _rows_of(current, fine.coords, radix)


def _rows_of(wanted: Tensor, coords: Tensor, radix: list[int]) -> Tensor:
    """int64 row of each wanted coordinate among `coords`."""
    keys, order = torch.sort(_keys(coords, radix))
    place = torch.searchsorted(keys, _keys(wanted, radix)).clamp_(max=max(len(keys) - 1, 0))
    if not torch.equal(keys[place], _keys(wanted, radix)):
        raise GenesisError(
            ErrorCode.INTERNAL,
            f"Some of {len(wanted)} voxels have no counterpart among {len(coords)}.",
            "Every fine voxel needs its ancestor in the coarse level.",
        )
    return order[place]


def _keys(coords: Tensor, radix: list[int]) -> Tensor:
    b, x, y, z = coords.long().unbind(1)
    return ((b * radix[0] + x) * radix[1] + y) * radix[2] + z


def space_to_channel(x: SparseTensor, coarse: Level) -> SparseTensor:
    """`[N, C]` to `[N', 8C]` on `coarse = coarsen(x.level)`: child s fills channels `s*C..`; absent children are zero."""
    channels = x.feats.shape[1]
    cells = x.feats.new_zeros(len(coarse.coords) * 8, channels)
    cells = cells.index_copy(0, coarse.finer.slots, x.feats)
    return SparseTensor(cells.view(-1, 8 * channels), coarse)


def channel_to_space(x: SparseTensor, refinement: Refinement) -> SparseTensor:
    """`[N', 8C]` to `[N, C]`: child s takes channels `s*C..` of its parent."""
    cells = x.feats.reshape(len(x) * 8, -1)
    return SparseTensor(take_rows(cells, refinement.slots), refinement.fine)


def average_downsample(x: SparseTensor, coarse: Level) -> SparseTensor:
    """`[N, C]` to `[N', C]`: mean over the children that are present."""
    parent = coarse.finer.parent
    total = x.feats.new_zeros(len(coarse.coords), x.feats.shape[1]).index_add(0, parent, x.feats)
    count = torch.bincount(parent, minlength=len(coarse.coords)).to(x.dtype)
    return SparseTensor(total / count[:, None], coarse)


def nearest_upsample(x: SparseTensor, refinement: Refinement) -> SparseTensor:
    """`[N', C]` to `[N, C]`: every child copies its parent."""
    return SparseTensor(x.feats.index_select(0, refinement.parent), refinement.fine)
