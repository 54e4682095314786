# SPDX-License-Identifier: Apache-2.0
"""Sums over runs of rows, the same on every run: `out[i] = sum(values[order[start[i] : start[i+1]]])`.

One thread walks one run for one channel, in double precision: no atomics, so no order that scheduling could change. Long runs
(all faces of one component) are cut into pieces, whose sums are summed in the same way.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_PIECE = 1024  # rows that one thread adds up


def segment_sum(values: Tensor, start: Tensor) -> Tensor:
    """Sums of consecutive runs.

    Args:
        values: float32 or float64 [M, C].
        start: int64 [N + 1], first row of every run and M.

    Returns:
        float64 [N, C].
    """
    length = start[1:] - start[:-1]
    if len(length) and int(length.max()) > _PIECE:
        pieces = (length + _PIECE - 1) // _PIECE
        last = torch.cumsum(pieces, 0)
        run = torch.repeat_interleave(torch.arange(len(pieces), device=start.device), pieces)
        rank = torch.arange(len(run), device=start.device) - (last - pieces)[run]
        cut = torch.cat([start[:-1][run] + rank * _PIECE, start[-1:]])
        return segment_sum(_sum(values, cut), torch.cat([torch.zeros_like(last[:1]), last]))
    return _sum(values, start)


def _sum(values: Tensor, start: Tensor) -> Tensor:
    wp.init()
    count, channels = len(start) - 1, values.shape[1]
    out = torch.zeros(count, channels, dtype=torch.float64, device=values.device)
    if count == 0 or channels == 0:
        return out
    with wp.ScopedStream(wp.stream_from_torch(values.device) if values.is_cuda else None):
        wp.launch(
            _sum_runs,
            dim=(count, channels),
            inputs=[wp.from_torch(values.double().contiguous()), wp.from_torch(start), wp.from_torch(out)],
            device=wp.device_from_torch(values.device),
        )
    return out


def sum_by_row(row: Tensor, values: Tensor, rows: int) -> Tensor:
    """float64 [rows, C], sums of values [M, C] with equal row numbers int64 [M]; rows that nobody names are 0."""
    order = torch.sort(row, stable=True).indices
    return segment_sum(values[order], run_starts(row, rows))


def run_starts(row: Tensor, rows: int) -> Tensor:
    """int64 [rows + 1], where the run of each row number begins once `row` is sorted."""
    start = torch.zeros(rows + 1, dtype=torch.int64, device=row.device)
    start[1:] = torch.cumsum(torch.bincount(row, minlength=rows), 0)
    return start


@wp.kernel
def _sum_runs(values: wp.array2d(dtype=wp.float64), start: wp.array(dtype=wp.int64), out: wp.array2d(dtype=wp.float64)):
    i, c = wp.tid()
    total = wp.float64(0.0)
    at = start[i]
    while at < start[i + 1]:
        total += values[at, c]
        at += wp.int64(1)
    out[i, c] = total
