# SPDX-License-Identifier: Apache-2.0
"""A hash table from 64-bit cell keys to rows (docs/spec/geometry.md 8), as tensors that kernels look things up in.

Open addressing with linear probing, Murmur3's finaliser, capacity a power of two of at least twice the rows. Slots depend on
scheduling, answers do not: of equal keys the smallest row wins.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_EMPTY = wp.constant(wp.int64(-1))


class VoxelHash:
    """Rows by key, on the device of `keys`.

    Args:
        keys: int64 [N], not negative; N < 2^31.
    """

    def __init__(self, keys: Tensor) -> None:
        wp.init()
        self.size = 1 << max(4, (2 * len(keys) - 1).bit_length() if len(keys) else 0)
        self.slots = torch.full((self.size,), -1, dtype=torch.int64, device=keys.device)
        self.rows = torch.full((self.size,), 2**31 - 1, dtype=torch.int32, device=keys.device)
        self._launch(_insert, len(keys), [wp.from_torch(keys.contiguous())])

    def __call__(self, wanted: Tensor) -> Tensor:
        """int32 [n], rows of int64 keys [n]; -1 where a key is not there, or negative."""
        found = torch.empty(len(wanted), dtype=torch.int32, device=wanted.device)
        self._launch(_look_up, len(wanted), [wp.from_torch(wanted.contiguous()), wp.from_torch(found)])
        return found

    def arrays(self) -> list:
        """What `find_row` wants, for kernels; valid while this object lives."""
        return [wp.from_torch(self.slots), wp.from_torch(self.rows)]

    def _launch(self, kernel: wp.Kernel, threads: int, inputs: list) -> None:
        if threads == 0:
            return
        device = self.slots.device
        with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
            wp.launch(kernel, dim=threads, inputs=[*inputs, *self.arrays()], device=wp.device_from_torch(device))


@wp.func
def _slot_of(key: wp.int64, mask: wp.int64) -> int:
    h = wp.uint64(key)
    h = h ^ (h >> wp.uint64(33))
    h = h * wp.uint64(0xFF51AFD7ED558CCD)
    h = h ^ (h >> wp.uint64(33))
    h = h * wp.uint64(0xC4CEB9FE1A85EC53)
    h = h ^ (h >> wp.uint64(33))
    return int(wp.int64(h) & mask)


@wp.func
def find_row(key: wp.int64, slots: wp.array(dtype=wp.int64), rows: wp.array(dtype=int)) -> int:
    """Row of a key, or -1."""
    if key < wp.int64(0):
        return -1
    last = slots.shape[0] - 1
    at = _slot_of(key, wp.int64(last))
    while slots[at] != key:
        if slots[at] == _EMPTY:
            return -1
        at = (at + 1) & last
    return rows[at]


@wp.kernel
def _insert(keys: wp.array(dtype=wp.int64), slots: wp.array(dtype=wp.int64), rows: wp.array(dtype=int)):
    i = wp.tid()
    last = slots.shape[0] - 1
    at = _slot_of(keys[i], wp.int64(last))
    placed = int(0)
    while placed == 0:
        before = wp.atomic_cas(slots, at, _EMPTY, keys[i])
        if before == _EMPTY or before == keys[i]:
            wp.atomic_min(rows, at, i)
            placed = 1
        at = (at + 1) & last


@wp.kernel
def _look_up(
    wanted: wp.array(dtype=wp.int64), found: wp.array(dtype=int), slots: wp.array(dtype=wp.int64), rows: wp.array(dtype=int)
):
    i = wp.tid()
    found[i] = find_row(wanted[i], slots, rows)
