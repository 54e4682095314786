# SPDX-License-Identifier: Apache-2.0
"""Sparse voxel tensors: features on integer coordinates, and what their coordinates imply.

A `Level` is one set of voxels. It owns everything that follows from coordinates alone (per-sample slices, neighbour
table, rotary phases, index maps to the finer level) and is shared by all tensors on those voxels, so each of these
is computed once however many layers, networks or samplers use it (docs/spec/networks.md 2.2, 3.10).

References only ever point from a coarse level to a finer one; levels are freed as soon as the last tensor is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.fast import infers_with_kernel
from native_ext.neighbours import neighbour_table
from native_ext.tap_order import Places, TapOrder, fill_tiles, order_by_taps, place_children

# Rows up to which a level keeps a sorted copy of its neighbour table (at this size, 226 MB). The finest levels have few and
# narrow convolutions: sorting them costs as much as it saves.
_ORDERED_MAX = 1 << 21


class Level:
    """One set of active voxels.

    Args:
        coords: int32 `[N, 4]`, columns `(b, x, y, z)`, non-negative; rows of a sample contiguous, samples ascending.
        neighbours: how to make the neighbour table when that is cheaper than searching the coordinates.
    """

    def __init__(self, coords: Tensor, neighbours: Callable[[], Tensor] | None = None) -> None:
        if coords.ndim != 2 or coords.shape[1] != 4:
            raise GenesisError(
                ErrorCode.INTERNAL,
                f"Sparse coordinates have shape {tuple(coords.shape)} instead of [N, 4].",
                "Pass rows of (sample, x, y, z).",
            )
        self.coords = coords.to(torch.int32).contiguous()
        self.finer: Refinement | None = None  # left by a down-sampling layer; overrides subdivision masks
        self.divided: tuple[Tensor, Refinement] | None = None  # the last subdivision mask and its children
        self.sorts = True  # whether sorted copies of its tables may be made and kept
        self.known_neighbours: Tensor | None = None  # the table, once something has asked for it
        self._neighbour_source = neighbours or partial(neighbour_table, self.coords)
        self._child_order: tuple[Refinement, Places, TapOrder | None] | None = None
        self._derived: dict[Hashable, Any] = {}

    @cached_property
    def batch_sizes(self) -> list[int]:
        """Rows of each sample, on the host (one synchronisation per level)."""
        return torch.bincount(self.coords[:, 0].long()).tolist() if len(self.coords) else []

    @property
    def batch_size(self) -> int:
        """Number of samples, `max(b) + 1`."""
        return len(self.batch_sizes)

    @cached_property
    def slices(self) -> list[slice]:
        """Row range of each sample."""
        ends = torch.tensor([0, *self.batch_sizes]).cumsum(0).tolist()
        return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    @cached_property
    def batch_index(self) -> Tensor:
        """int64 `[N]`, the sample of each row."""
        return self.coords[:, 0].long()

    @property
    def neighbours(self) -> Tensor:
        """int32 `[N, 27]`, the 3x3x3 neighbour table (-1 where empty)."""
        if self.known_neighbours is None:
            self.known_neighbours = self._neighbour_source()
            del self._neighbour_source  # lets go of the parents' table
        return self.known_neighbours

    @property
    def tap_order(self) -> TapOrder | None:
        """Rows in the order in which a GPU convolves them fastest, made once; None where sorting would not pay."""
        if not self.sorts or len(self.coords) > _ORDERED_MAX or not infers_with_kernel(self.coords):
            return None
        return self.derived("tap order", lambda: order_by_taps(self.neighbours))

    def child_order(self, refinement: Refinement) -> TapOrder:
        """Rows of `refinement.fine` as children of this level's, for a convolution that computes no other.

        Where they go is kept for a second network; the order itself only where it is small, because that of the finest level
        would be the largest tensor of all.
        """
        if self._child_order is None or self._child_order[0] is not refinement:
            places = place_children(self.neighbours, refinement.parent, refinement.child, 8)
            self._child_order = (refinement, places, None)
        _, places, order = self._child_order
        if order is None:
            order = fill_tiles(places, self.neighbours)
            if not refinement.fine.sorts:
                self._child_order = None
            elif places.count <= _ORDERED_MAX:
                self._child_order = (refinement, places, order)
        return order

    def derived(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Anything else that depends on the coordinates only, computed by `make` on first use of `key`."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]


@dataclass(frozen=True)
class Refinement:
    """Which fine voxel is which child of which coarse voxel.

    Attributes:
        fine: the finer level.
        parent: int64 `[N]`, coarse row of each fine row.
        child: int64 `[N]`, child index `x%2 + 2*(y%2) + 4*(z%2)` of each fine row.
    """

    fine: Level
    parent: Tensor
    child: Tensor

    @cached_property
    def slots(self) -> Tensor:
        """int64 `[N]`, `parent*8 + child`, unique."""
        return self.parent * 8 + self.child


class SparseTensor:
    """Features on the voxels of a level.

    Args:
        feats: `[N, ...]`, any float dtype, on the device of the coordinates.
        coords: int32 `[N, 4]` as for `Level`, or an existing `Level` to share what it has already computed.
    """

    def __init__(self, feats: Tensor, coords: Tensor | Level) -> None:
        self.level = coords if isinstance(coords, Level) else Level(coords)
        if feats.shape[0] != self.level.coords.shape[0]:
            raise GenesisError(
                ErrorCode.INTERNAL,
                f"{feats.shape[0]} feature rows were given for {self.level.coords.shape[0]} voxels.",
                "Pass one row per voxel.",
            )
        self.feats = feats

    @property
    def coords(self) -> Tensor:
        """int32 `[N, 4]`."""
        return self.level.coords

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return self.level.batch_size

    @property
    def device(self) -> torch.device:
        return self.feats.device

    @property
    def dtype(self) -> torch.dtype:
        return self.feats.dtype

    def __len__(self) -> int:
        return self.feats.shape[0]

    def replace(self, feats: Tensor) -> SparseTensor:
        """Other features on the same voxels, sharing the level."""
        return SparseTensor(feats, self.level)

    def sample(self, index: int) -> tuple[Tensor, Tensor]:
        """Coordinates `[n, 3]` and features `[n, ...]` of one sample."""
        rows = self.level.slices[index]
        return self.coords[rows, 1:], self.feats[rows]


def batch_sparse(tensors: list[SparseTensor]) -> SparseTensor:
    """One tensor of several single-sample tensors; sample b of the result is `tensors[b]`."""
    coords = [torch.cat([torch.full_like(t.coords[:, :1], b), t.coords[:, 1:]], dim=1) for b, t in enumerate(tensors)]
    return SparseTensor(torch.cat([t.feats for t in tensors]), torch.cat(coords))
