# SPDX-License-Identifier: Apache-2.0
"""Pack bitmaps into a strip: each goes to the lowest free place, in any of four quarter turns, never mirrored.

For bitmap B and the filled cells A, place (x, y, turn) is free when no cell of A is under a cell of turned B. The free place
with the smallest `(y + height, x, turn)` is taken, bitmap by bitmap in the order given (docs/spec/geometry.md 16.4, 19.6).

A bitmap is kept as runs `[first, last]` per row; the strip as jumps: a free cell holds the next filled column, a filled cell
minus a column to its right up to which all is filled. A run that hits a filled stretch `[j, e)` hits it at every x up to
`e - first`, so the search leaps over whole charts; rows far apart are looked at one after the other, as they tell most.
One thread tests all x of one (y, turn), and an integer minimum decides: the same result on every device. Most rows have no gap
for a bitmap's longest run, which one look at the row's widest gap tells.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_NOWHERE = 2**63 - 1
_TURNS = 4
_WORKERS = os.cpu_count() or 1
_APART = 32  # cells after every row: rows a power of two apart would share few lines of the cache
_FIND_PLACE, _FILL_PLACE = 8, 6  # of the arguments of the two kernels, the one that changes
_TURNS_WIDE = wp.constant(wp.int64(_TURNS))


@dataclass(frozen=True)
class Placement:
    """Where the bitmaps went.

    Attributes:
        position: int64 [B, 2], column and row of the turned bitmap's corner.
        turn: int64 [B], quarter turns; cell (x, y) of a w x h bitmap goes to (h-1-y, x) for 1, (w-1-x, h-1-y) for 2,
            (y, w-1-x) for 3.
        height: rows used by all.
        fits: whether every bitmap found a place.
    """

    position: Tensor
    turn: Tensor
    height: int
    fits: bool


@wp.func
def _size(box: wp.vec4i, turn: int) -> wp.vec2i:
    if turn % 2 == 1:
        return wp.vec2i(box[3], box[2])
    return wp.vec2i(box[2], box[3])


@wp.kernel
def _cut_runs(
    canvas: wp.array2d(dtype=wp.uint8),
    turned: wp.array2d(dtype=wp.uint8),
    boxes: wp.array(dtype=wp.vec4i),
    lines: wp.array(dtype=int),
    owner: wp.array(dtype=int),
    first_row: wp.array(dtype=int),
    run_start: wp.array(dtype=int),
    writing: bool,
    counts: wp.array(dtype=int),
    runs: wp.array(dtype=wp.vec2i),
):
    """Runs of a row without a turn or with one, and of that which it becomes by two more: the same from the other end."""
    k = lines[wp.tid()]
    box = boxes[owner[k] // _TURNS]
    turn = owner[k] % _TURNS
    row = k - first_row[owner[k]]
    size = _size(box, turn)
    opposite = first_row[owner[k] + 2] + size[1] - 1 - row
    found = wp.int32(0)
    first = wp.int32(-1)
    for col in range(size[0] + 1):
        filled = False
        if col < size[0]:
            if turn == 0:
                filled = canvas[box[1] + row, box[0] + col] != wp.uint8(0)
            else:
                filled = turned[box[0] + row, box[1] + box[3] - 1 - col] != wp.uint8(0)
        if filled and first < 0:
            first = col
        if not filled and first >= 0:
            if writing:
                runs[run_start[k] + found] = wp.vec2i(first, col - 1)
                runs[run_start[opposite + 1] - 1 - found] = wp.vec2i(size[0] - col, size[0] - 1 - first)
            found += 1
            first = -1
    if not writing:
        counts[k] = found
        counts[opposite] = found


@wp.kernel
def _find_longest(
    first_row: wp.array(dtype=int),
    run_start: wp.array(dtype=int),
    runs: wp.array(dtype=wp.vec2i),
    longest: wp.array(dtype=wp.vec2i),
):
    """Row and length of the longest run of each turned bitmap."""
    k = wp.tid()
    best = wp.vec2i(0, 0)
    for row in range(first_row[k + 1] - first_row[k]):
        line = first_row[k] + row
        for run in range(run_start[line], run_start[line + 1]):
            length = runs[run][1] - runs[run][0] + 1
            if length > best[1]:
                best = wp.vec2i(row, length)
    longest[k] = best


@wp.kernel
def _find_place(
    jumps: wp.array3d(dtype=wp.int16),
    boxes: wp.array(dtype=wp.vec4i),
    first_row: wp.array(dtype=int),
    run_start: wp.array(dtype=int),
    runs: wp.array(dtype=wp.vec2i),
    longest: wp.array(dtype=wp.vec2i),
    strides: wp.array(dtype=int),
    order: wp.array2d(dtype=int),
    turn_of_order: int,
    gap: wp.array2d(dtype=int),
    used: wp.array(dtype=int),
    best: wp.array2d(dtype=wp.int64),
):
    t, k = wp.tid()
    bitmap = order[t, turn_of_order]
    height = jumps.shape[1]
    width = jumps.shape[2]
    turn = k % _TURNS
    y = k // _TURNS
    size = _size(boxes[bitmap], turn)
    if y > used[t] + 1 or y + size[1] > height or size[0] > width:
        return
    if wp.int64(y + size[1]) * wp.int64(width) * _TURNS_WIDE > best[t, bitmap]:
        return
    widest = longest[bitmap * _TURNS + turn]
    if gap[t, y + widest[0]] < widest[1]:
        return
    base = first_row[bitmap * _TURNS + turn]
    x = wp.int32(0)
    row = wp.int32(widest[0])
    stride = strides[size[1]]
    clear = wp.int32(0)  # rows one after the other without a hit
    while clear < size[1] and x + size[0] <= width:
        hit = wp.bool(False)
        for run in range(run_start[base + row], run_start[base + row + 1]):
            first = runs[run][0]
            jump = int(jumps[t, y + row, x + first])
            if jump >= 0 and jump <= x + runs[run][1]:
                jump = int(jumps[t, y + row, jump])
            if jump < 0:
                x = -jump - first
                hit = True
                if x + size[0] > width:
                    break
        if hit:
            clear = 0
        else:
            clear += 1
            row += stride
            if row >= size[1]:
                row -= size[1]
    if x + size[0] <= width:
        key = (wp.int64(y + size[1]) * wp.int64(width) + wp.int64(x)) * _TURNS_WIDE + wp.int64(turn)
        wp.atomic_min(best, t, bitmap, key)


@wp.kernel
def _fill_place(
    jumps: wp.array3d(dtype=wp.int16),
    boxes: wp.array(dtype=wp.vec4i),
    first_row: wp.array(dtype=int),
    run_start: wp.array(dtype=int),
    runs: wp.array(dtype=wp.vec2i),
    order: wp.array2d(dtype=int),
    turn_of_order: int,
    gap: wp.array2d(dtype=int),
    used: wp.array(dtype=int),
    best: wp.array2d(dtype=wp.int64),
):
    t, row = wp.tid()
    bitmap = order[t, turn_of_order]
    width = jumps.shape[2]
    key = best[t, bitmap]
    if key == wp.int64(_NOWHERE):
        return
    turn = int(key % _TURNS_WIDE)
    x = int((key // _TURNS_WIDE) % wp.int64(width))
    top = int(key // _TURNS_WIDE // wp.int64(width))
    size = _size(boxes[bitmap], turn)
    if row >= size[1]:
        return
    wp.atomic_max(used, t, top)
    y = top - size[1] + row
    line = first_row[bitmap * _TURNS + turn] + row
    for back in range(run_start[line + 1] - run_start[line]):
        run = runs[run_start[line + 1] - 1 - back]
        end = x + run[1] + 1
        if end < width:
            if int(jumps[t, y, end]) < 0:
                end = -int(jumps[t, y, end])
        for col in range(x + run[0], x + run[1] + 1):
            jumps[t, y, col] = wp.int16(-end)
        col = x + run[0] - 1
        while col >= 0:  # what is free up to the next filled stretch
            if int(jumps[t, y, col]) < 0:
                break
            jumps[t, y, col] = wp.int16(x + run[0])
            col -= 1
    widest = wp.int32(0)
    col = wp.int32(0)
    while col < width:
        jump = int(jumps[t, y, col])
        if jump < 0:
            col = -jump
        else:
            widest = wp.max(widest, jump - col)
            col = jump
    gap[t, y] = widest


@dataclass(frozen=True)
class Bitmaps:
    """Bitmaps as runs, in each of their turns.

    Attributes:
        boxes: int32 [B, 4], column, row, width, height in the canvas that they were cut from.
        first_row: int32 [4 B + 1], first row of every turned bitmap; run_start: int32 [rows + 1]; runs: int32 [R, 2].
        longest: int32 [4 B, 2], row and length of the longest run.
        side: the longest of all.
    """

    boxes: Tensor
    first_row: Tensor
    run_start: Tensor
    runs: Tensor
    longest: Tensor
    side: int


def cut_bitmaps(canvas: Tensor, boxes: Tensor) -> Bitmaps:
    """Bitmaps cut out of `canvas`.

    Args:
        canvas: uint8 [H, W], nonzero cells are part of a bitmap.
        boxes: int [B, 4], column, row, width, height of each bitmap in the canvas.
    """
    wp.init()
    device = canvas.device
    count = boxes.shape[0]
    boxes = boxes.int().contiguous()
    tall = boxes[:, [3, 2, 3, 2]].reshape(-1).long()
    owner = torch.arange(count * _TURNS, device=device, dtype=torch.int32).repeat_interleave(tall)
    first_row = torch.cat([tall.new_zeros(1), torch.cumsum(tall, 0)]).int()
    counts = torch.zeros_like(owner)
    longest = torch.zeros(count * _TURNS, 2, dtype=torch.int32, device=device)
    lines = (owner % _TURNS < 2).nonzero()[:, 0].int()
    cut = [wp.from_torch(canvas.contiguous()), wp.from_torch(canvas.T.contiguous()), wp.from_torch(boxes, dtype=wp.vec4i)]
    cut += [wp.from_torch(part) for part in (lines, owner, first_row)]
    with wp.ScopedDevice(wp.device_from_torch(device)), wp.ScopedStream(_stream(device)):
        counts_wp = wp.from_torch(counts)
        wp.launch(_cut_runs, len(lines), [*cut, counts_wp, False, counts_wp, wp.from_torch(longest, dtype=wp.vec2i)])
        run_start = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0, dtype=torch.int32)])
        runs = torch.zeros(int(run_start[-1]) + 1, 2, dtype=torch.int32, device=device)
        start_wp, runs_wp = wp.from_torch(run_start), wp.from_torch(runs, dtype=wp.vec2i)
        wp.launch(_cut_runs, len(lines), [*cut, start_wp, True, counts_wp, runs_wp])
        wp.launch(_find_longest, count * _TURNS, [cut[-1], start_wp, runs_wp, wp.from_torch(longest, dtype=wp.vec2i)])
    return Bitmaps(boxes, first_row, run_start, runs, longest, int(boxes[:, 2:].max()))


def place_bitmaps(bitmaps: Bitmaps, orders: Tensor, width: int, height: int) -> list[Placement]:
    """Packs bitmaps into strips, one for each of several orders: all at once on a GPU, else on as many threads as cores.

    Args:
        bitmaps: to be placed.
        orders: int [T, B], their numbers in the orders in which they are placed.
        width, height: of the strips, below 2^15; bitmaps that find no place leave `fits` false.

    Returns:
        The placements, in the order of `bitmaps` and on their device.
    """
    if bitmaps.boxes.is_cuda:
        return _place(bitmaps, orders, width, height)
    with ThreadPoolExecutor(_WORKERS) as pool:  # Warp's CPU kernels use one core each
        return [done[0] for done in pool.map(lambda order: _place(bitmaps, order[None], width, height), orders)]


def _place(bitmaps: Bitmaps, orders: Tensor, width: int, height: int) -> list[Placement]:
    tries, device = len(orders), bitmaps.boxes.device
    best = torch.full(orders.shape, _NOWHERE, dtype=torch.int64, device=device)
    used = torch.zeros(tries, dtype=torch.int32, device=device)
    jumps = torch.full((tries, height, width + _APART), width, dtype=torch.int16, device=device)[:, :, :width]
    gap = torch.full((tries, height), width, dtype=torch.int32, device=device)
    boxes, runs, longest = (
        wp.from_torch(part, dtype=kind)
        for part, kind in ((bitmaps.boxes, wp.vec4i), (bitmaps.runs, wp.vec2i), (bitmaps.longest, wp.vec2i))
    )
    shared = [wp.from_torch(jumps), boxes, wp.from_torch(bitmaps.first_row), wp.from_torch(bitmaps.run_start), runs]
    order_wp, last = wp.from_torch(orders.int().to(device)), [wp.from_torch(part) for part in (gap, used, best)]
    steps = torch.tensor([_stride(rows) for rows in range(bitmaps.side + 1)], dtype=torch.int32)
    strides = wp.from_torch(steps.to(device))
    on = wp.device_from_torch(device)
    with wp.ScopedStream(_stream(device)):
        finding, filling = [*shared, longest, strides, order_wp, 0, *last], [*shared, order_wp, 0, *last]
        find = wp.launch(_find_place, (tries, (height + 1) * _TURNS), finding, device=on, record_cmd=True)
        fill = wp.launch(_fill_place, (tries, bitmaps.side), filling, device=on, record_cmd=True)
        for place in range(orders.shape[1]):
            find.set_param_at_index(_FIND_PLACE, place)
            find.launch()
            fill.set_param_at_index(_FILL_PLACE, place)
            fill.launch()
    key = torch.where(best != _NOWHERE, best, 0)
    turn = key % _TURNS
    x, top = key // _TURNS % width, key // _TURNS // width
    y = top - torch.where(turn % 2 == 1, bitmaps.boxes[:, 2].long(), bitmaps.boxes[:, 3].long())
    heights, fits = used.tolist(), (best != _NOWHERE).all(1).tolist()
    position = torch.stack([x, y], 2)
    return [Placement(position[t], turn[t], heights[t], fits[t]) for t in range(tries)]


def _stream(device: torch.device) -> wp.Stream | None:
    return wp.stream_from_torch(device) if device.type == "cuda" else None


def _stride(rows: int) -> int:
    """Coprime to the number of rows and close to their golden section: steps of it come to all rows, soon to far ones."""
    step = max(round(rows * 0.382), 1)
    while math.gcd(step, rows) > 1:
        step += 1
    return step
