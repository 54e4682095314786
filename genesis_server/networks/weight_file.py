# SPDX-License-Identifier: Apache-2.0
"""A safetensors file straight to a GPU, or into the host memory that it fetches from, read by several threads.

From a memory map the GPU's driver copies page by page through a buffer of its own, at 5 GB/s; a model of 16.5 GB waits three
seconds for it. Reading needs no page table, and pinned memory is fetched while the next part is being read.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PART = 64 << 20  # bytes of one of the two pinned buffers
READERS = min(8, os.cpu_count() or 4)  # threads; each copies some 3 to 5 GB/s out of the page cache
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_to_device(path: Path, device: torch.device, part: int = PART) -> dict[str, Tensor] | None:
    """All tensors of a file on a device, each in memory of its own; None where the file has values of other kinds.

    Raises:
        OSError: for a file that ends too early.
    """
    header, begin = _header(path)
    if header is None:
        return None
    tensors = {name: torch.empty(shape, dtype=dtype, device=device) for name, (dtype, shape, _, _) in header.items()}
    spans = sorted((start, stop, name) for name, (_, _, start, stop) in header.items())
    end, cuda = max((stop for _, stop, _ in spans), default=0), device.type == "cuda"
    buffers = [_pinned_empty([min(part, end)], torch.uint8) for _ in range(2)]
    fetched = [torch.cuda.Event() if cuda else None for _ in buffers]
    first = 0  # of the spans, the first that is not through
    with ThreadPoolExecutor(READERS) as pool:
        for number, start in enumerate(range(0, end, part)):
            stop, slot = min(start + part, end), number % 2
            if cuda:
                fetched[slot].synchronize()
            _read(pool, path, begin + start, buffers[slot][: stop - start])
            while first < len(spans) and spans[first][0] < stop:
                low, high, name = spans[first]
                here, there = max(low, start), min(high, stop)
                if there > here:
                    target = _bytes(tensors[name])[here - low : there - low]
                    target.copy_(buffers[slot][here - start : there - start], non_blocking=True)
                if high > stop:
                    break
                first += 1
            if cuda:
                fetched[slot].record()
    if cuda:
        torch.cuda.current_stream(device).synchronize()  # the buffers go back to whoever needs pinned memory next
    return tensors


def read_to_host(path: Path) -> dict[str, Tensor] | None:
    """All tensors of a file in host memory that a GPU fetches from; None where the file has values of other kinds.

    Raises:
        OSError: for a file that ends too early.
    """
    header, begin = _header(path)
    if header is None:
        return None
    tensors = {name: _pinned_empty(shape, dtype) for name, (dtype, shape, _, _) in header.items()}

    def fill(name: str) -> None:
        _read_share(path, begin + header[name][2], memoryview(_bytes(tensors[name]).numpy()))

    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(fill, tensors):
            pass
    return tensors


def _header(path: Path) -> tuple[dict[str, tuple[torch.dtype, list[int], int, int]] | None, int]:
    """Type, shape, first and last byte of every tensor, None for other types; and where in the file the bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    if any(entry["dtype"] not in _DTYPES for entry in entries.values()):
        return None, 0
    found = {name: (_DTYPES[item["dtype"]], item["shape"], *item["data_offsets"]) for name, item in entries.items()}
    return found, 8 + length


def _pinned_empty(shape: list[int], dtype: torch.dtype) -> Tensor:
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=torch.cuda.is_available())
    except RuntimeError:  # the system allows no more locked memory
        return torch.empty(shape, dtype=dtype)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _read(pool: ThreadPoolExecutor, path: Path, offset: int, target: Tensor) -> None:
    """Fill `target` from a place in a file, a share by each thread."""
    view = memoryview(target.numpy())
    share = -(-len(view) // READERS)
    for _ in pool.map(lambda at: _read_share(path, offset + at, view[at : at + share]), range(0, len(view), share)):
        pass


def _read_share(path: Path, offset: int, view: memoryview) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while view:
            count = file.readinto(view)
            if not count:
                raise OSError(f"{path} ends too early")
            view = view[count:]
