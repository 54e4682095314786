# SPDX-License-Identifier: Apache-2.0
"""Octree streams of one chunk of voxels, and the two byte filters that lean on neighbourhood (docs/spec/geometry.md 6.1).

All functions take the voxels of a chunk as ascending Morton codes of their local coordinates; byte arithmetic is modulo 256.
"""

from __future__ import annotations

import numpy as np
import torch

from genesis_server.ovoxel.serialize import morton_decode, morton_encode
from native_ext.octree_walk import octree_leaves

# predictors of the neighbour filter, in order of preference (x, y, z)
_PREDICTORS = ((-1, -1, -1), (0, -1, -1), (-1, 0, -1), (-1, -1, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0))


def encode_octree(codes: np.ndarray, depth: int) -> bytes:
    """Child masks of all inner nodes in depth-first order; the root is always there."""
    if len(codes) == 0:
        return b"\0"
    masks, order = [], []
    for level in range(depth):
        child = np.unique(codes >> 3 * (depth - level - 1))
        node, owner = np.unique(child >> 3, return_inverse=True)
        masks.append(np.bincount(owner, weights=1 << (child & 7)).astype(np.uint8))
        order.append(np.stack([node << 3 * (depth - level), np.full(len(node), level)]))
    first_leaf, level = np.concatenate(order, 1)
    return np.concatenate(masks)[np.lexsort((level, first_leaf))].tobytes()


def decode_octree(stream: bytes, depth: int) -> np.ndarray:
    """Ascending Morton codes int64 of a stream.

    Raises:
        ValueError: a stream that is no octree of this depth.
    """
    if not stream:
        raise ValueError("octree without a root")
    return octree_leaves(torch.frombuffer(bytearray(stream), dtype=torch.uint8), depth).numpy().astype(np.int64)


def _parent_links(codes: np.ndarray, depth: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per level: first voxel of every node one level down, whether it is its parent's first child, and its filtered row.

    Rows are handed out on entering a node, to its children after the first; first children have none (-1).
    """
    levels, order = [], []
    for level in range(depth):
        child, first = np.unique(codes >> 3 * (depth - level - 1), return_index=True)
        node, owner, count = np.unique(child >> 3, return_inverse=True, return_counts=True)
        eldest = np.ones(len(child), bool)
        eldest[1:] = owner[1:] != owner[:-1]
        rank = np.arange(len(child)) - np.flatnonzero(eldest)[owner]
        levels.append((first, eldest, owner, rank))
        order.append(np.stack([node << 3 * (depth - level), np.full(len(node), level), count - 1]))
    first_leaf, level_of, rows = np.concatenate(order, 1)
    visit = np.lexsort((level_of, first_leaf))
    start = np.empty(len(visit), np.int64)
    start[visit] = 1 + np.concatenate([[0], np.cumsum(rows[visit])[:-1]])
    links, base = [], 0
    for first, eldest, owner, rank in levels:
        links.append((first, eldest, np.where(eldest, -1, start[base + owner] + rank - 1)))
        base += owner[-1] + 1
    return links


def filter_parent(codes: np.ndarray, values: np.ndarray, depth: int) -> np.ndarray:
    """Rows of differences between sibling nodes, a node's value being its first voxel's; uint8 [N, C] to uint8 [N, C]."""
    filtered = np.empty_like(values)
    filtered[0] = values[0]
    for first, eldest, row in _parent_links(codes, depth):
        younger = np.flatnonzero(~eldest)
        filtered[row[younger]] = values[first[younger]] - values[first[younger - 1]]
    return filtered


def unfilter_parent(codes: np.ndarray, filtered: np.ndarray, depth: int) -> np.ndarray:
    """Inverse of `filter_parent`: top-down, children are running sums from their parent's value."""
    values = np.zeros_like(filtered)
    values[0] = filtered[0]
    for first, eldest, row in _parent_links(codes, depth):
        steps = np.where(eldest[:, None], 0, filtered[row]).astype(np.int64)
        total = np.cumsum(steps, 0)
        head = np.flatnonzero(eldest)[np.cumsum(eldest) - 1]
        values[first] = (total - total[head] + values[first[head]]).astype(np.uint8)
    return values


def _predictor(codes: np.ndarray, depth: int) -> np.ndarray:
    """Row of each voxel's predictor, -1 where it has none."""
    coords = morton_decode(torch.from_numpy(codes), depth).long()
    found = np.full(len(codes), -1, np.int64)
    for offset in reversed(_PREDICTORS):
        there = coords + torch.tensor(offset)
        inside = (there >= 0).all(1).numpy()
        wanted = morton_encode(there.clamp(min=0), depth).numpy()
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        found = np.where(inside & (codes[place] == wanted), place, found)
    return found


def filter_neighbor(codes: np.ndarray, values: np.ndarray, depth: int) -> np.ndarray:
    """Differences from the first existing of seven lower neighbours; uint8 [N, C] to uint8 [N, C]."""
    predictor = _predictor(codes, depth)
    return values - np.where(predictor[:, None] >= 0, values[predictor], 0).astype(np.uint8)


def unfilter_neighbor(codes: np.ndarray, filtered: np.ndarray, depth: int) -> np.ndarray:
    """Inverse of `filter_neighbor`: predictors form trees, summed from the roots by doubling the reach of each link."""
    nowhere = len(codes)
    values = np.concatenate([filtered, np.zeros_like(filtered[:1])])
    link = np.append(_predictor(codes, depth), nowhere)
    link[link < 0] = nowhere
    while (link != nowhere).any():
        values = values + values[link]
        link = link[link]
    return values[:-1]
