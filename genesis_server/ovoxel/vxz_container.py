# SPDX-License-Identifier: Apache-2.0
"""The bytes of a .vxz file: header, chunks, streams (docs/spec/geometry.md 6.1).

A file holds cells and named uint8 attributes; what the names mean is `vxz.py`'s business. Chunks of a power of two cells,
each an octree of its cells and their attribute bytes in Morton order, filtered, split into streams, compressed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from genesis_server.ovoxel.compression import DEFAULT_LEVEL, compress, decompress
from genesis_server.ovoxel.octree import (
    decode_octree,
    encode_octree,
    filter_neighbor,
    filter_parent,
    unfilter_neighbor,
    unfilter_parent,
)
from genesis_server.ovoxel.serialize import morton_decode, morton_encode

MAGIC = b"VXZ\0"
RESERVED_NAMES = {"ptr", "idx", "svo"}
CHUNK_SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
INTERLEAVES = ("none", "as_is", "all")
_FILTERS = {
    "none": (lambda codes, values, depth: values, lambda codes, values, depth: values),
    "parent": (filter_parent, unfilter_parent),
    "neighbor": (filter_neighbor, unfilter_neighbor),
}
_CHANNELS_MAX = 4096  # of all attributes together; real files have about ten


def encode_container(
    coords: np.ndarray,
    attributes: Mapping[str, np.ndarray],
    *,
    chunk_size: int = 256,
    filtering: str = "none",
    compression: str = "lzma",
    level: int = 0,
    interleave: str = "as_is",
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """A whole file.

    Args:
        coords: integer [N, 3], unique, non-negative.
        attributes: uint8 [N, channels] by name, in the order of the file.
        chunk_size: one of `CHUNK_SIZES`.
        filtering: "none", "parent" or "neighbor".
        compression: "none", "deflate", "lzma" or "zstd".
        level: 0 for the compression's default.
        interleave: "none" (a stream per channel), "as_is" (per attribute) or "all" (one).
        extra: further header keys; readers ignore what they do not know.

    Raises:
        ValueError: duplicate or negative cells, unknown settings, reserved names.
    """
    if chunk_size not in CHUNK_SIZES or filtering not in _FILTERS or interleave not in INTERLEAVES:
        raise ValueError(f"no such layout: chunk {chunk_size}, filter {filtering!r}, interleave {interleave!r}")
    names = [(name, values.shape[1]) for name, values in attributes.items()]
    if RESERVED_NAMES & set(attributes) or (interleave == "all" and "attr" in attributes):
        raise ValueError(f"reserved attribute name among {sorted(attributes)}")
    level = level or DEFAULT_LEVEL[compression]
    coords = np.asarray(coords, np.int64)
    if len(coords) and coords.min() < 0:
        raise ValueError(f"negative cell {coords.min(0).tolist()}")
    values = np.concatenate([np.zeros((len(coords), 0), np.uint8), *attributes.values()], 1)
    body, chunks = bytearray(), []
    for index, rows, codes in _chunks(coords, chunk_size):
        depth = chunk_size.bit_length() - 1
        filtered = _FILTERS[filtering][0](codes, values[rows], depth)
        streams = {"svo": encode_octree(codes, depth), **_split(filtered, names, interleave)}
        entry: dict[str, Any] = {"idx": index}
        start = len(body)
        for name, stream in streams.items():
            packed = compress(stream, compression, level)
            entry[name] = [len(body) - start, len(packed)]
            body += packed
        chunks.append({**entry, "ptr": [start, len(body) - start]})
    raw_size = 12 * len(coords) + values.size
    header = {
        "num_voxel": len(coords),
        "chunk_size": chunk_size,
        "filter": filtering,
        "compression": compression,
        "compression_level": level,
        "raw_size": raw_size,
        "compressed_size": len(body),
        "compress_ratio": raw_size / len(body) if body else 0,
        "attr_interleave": interleave,
        "attr": names,
        "chunks": chunks,
        **(extra or {}),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    return MAGIC + struct.pack(">I", 8 + len(text)) + text + bytes(body)


def decode_header(data: bytes) -> dict[str, Any]:
    """The header, with the fields every reader needs checked.

    Raises:
        ValueError: not a .vxz file, another version, or a damaged header.
    """
    if len(data) < 8 or data[:3] != MAGIC[:3]:
        raise ValueError("it does not begin as a .vxz file")
    if data[3] != 0:
        raise ValueError(f"it is of version {data[3]}; version 0 is known")
    start = struct.unpack(">I", data[4:8])[0]
    if start > len(data) or start < 8:
        raise ValueError("its header is cut off")
    try:
        header = json.loads(data[8:start])
        header["chunks"] = list(header["chunks"])
        header["attr"] = [(str(name), int(channels)) for name, channels in header["attr"]]
        settings = (header["chunk_size"], header["filter"], header["attr_interleave"])
        header["num_voxel"], header["compression_level"] = int(header["num_voxel"]), int(header["compression_level"])
        if not all(isinstance(chunk, dict) for chunk in header["chunks"]):
            raise TypeError("a chunk is no object")
        known = settings[0] in CHUNK_SIZES and settings[1] in _FILTERS and settings[2] in INTERLEAVES
        known = known and header["compression"] in DEFAULT_LEVEL
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its header is damaged ({type(error).__name__}: {error})") from error
    if not known:
        raise ValueError(f"its layout is unknown: chunk, filter, interleave = {settings}, {header['compression']!r}")
    channels = [count for _, count in header["attr"]]
    if min(channels, default=1) < 1 or sum(channels) > _CHANNELS_MAX or header["num_voxel"] < 0:
        raise ValueError(f"its header is damaged (attributes {header['attr']}, {header['num_voxel']} voxels)")
    header["start"] = start
    return header


def decode_container(data: bytes) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Cells int32 [N, 3], attributes uint8 [N, channels] by name, and the header, in file order.

    Raises:
        ValueError: anything that is not a whole .vxz file.
    """
    header = decode_header(data)
    names, total = header["attr"], sum(count for _, count in header["attr"])
    coords, values = [np.zeros((0, 3), np.int32)], [np.zeros((0, total), np.uint8)]
    left, seen = header["num_voxel"], set()
    for chunk in header["chunks"]:
        codes, rows = _decode_chunk(data, header, chunk, left)
        left -= len(codes)
        depth = header["chunk_size"].bit_length() - 1
        index = _chunk_index(chunk, header["chunk_size"])
        if tuple(index) in seen:
            raise ValueError(f"two of its chunks lie at {index.tolist()}")
        seen.add(tuple(index))
        coords.append(morton_decode(torch.from_numpy(codes), depth).numpy() + (index * header["chunk_size"]).astype(np.int32))
        values.append(rows)
    if left:
        raise ValueError(f"{left} of {header['num_voxel']} voxels are missing")
    table = np.concatenate(values)
    edges = np.cumsum([0] + [count for _, count in names])
    parts = {name: table[:, low:high] for (name, _), low, high in zip(names, edges, edges[1:], strict=False)}
    return np.concatenate(coords), parts, header


def _chunks(coords: np.ndarray, size: int):
    """(index, rows, local Morton codes) of every chunk in lexicographic order, rows in Morton order."""
    if len(coords) == 0:
        return
    depth = size.bit_length() - 1
    codes = morton_encode(torch.from_numpy(coords % size), depth).numpy()
    index, owner = np.unique(coords // size, axis=0, return_inverse=True)
    order = np.lexsort((codes, owner.reshape(-1)))
    if (np.diff(codes[order]) == 0)[np.diff(owner.reshape(-1)[order]) == 0].any():
        raise ValueError("a cell occurs twice")
    ends = np.cumsum(np.bincount(owner.reshape(-1)))
    for number, rows in enumerate(np.split(order, ends[:-1])):
        yield index[number].tolist(), rows, codes[rows]


def _split(values: np.ndarray, names: list[tuple[str, int]], interleave: str) -> dict[str, bytes]:
    if interleave == "all":
        return {"attr": values.tobytes()}
    edges = np.cumsum([0] + [count for _, count in names])
    if interleave == "as_is":
        return {name: values[:, low : low + count].tobytes() for (name, count), low in zip(names, edges, strict=False)}
    return {
        f"{name}_{k}": values[:, low + k].tobytes()
        for (name, count), low in zip(names, edges, strict=False)
        for k in range(count)
    }


def _join(streams: dict[str, bytes], names: list[tuple[str, int]], interleave: str, count: int) -> np.ndarray:
    def matrix(stream: str, channels: int) -> np.ndarray:
        if len(streams[stream]) != count * channels:
            raise ValueError(f"stream {stream!r} holds {len(streams[stream])} bytes for {count} voxels")
        return np.frombuffer(streams[stream], np.uint8).reshape(count, channels)

    if interleave == "all":
        return matrix("attr", sum(channels for _, channels in names))
    if interleave == "as_is":
        parts = [matrix(name, channels) for name, channels in names]
    else:
        parts = [matrix(f"{name}_{k}", 1) for name, channels in names for k in range(channels)]
    return np.concatenate([np.zeros((count, 0), np.uint8), *parts], 1)


def _chunk_index(chunk: Mapping[str, Any], size: int) -> np.ndarray:
    index = chunk.get("idx")
    whole = isinstance(index, list) and len(index) == 3 and all(isinstance(i, int) for i in index)
    if not whole or min(index) < 0 or (max(index) + 1) * size > 2**31:
        raise ValueError(f"a chunk lies at {index}")
    return np.array(index, np.int64)


def _decode_chunk(data: bytes, header: dict[str, Any], chunk: Mapping[str, Any], left: int) -> tuple[np.ndarray, np.ndarray]:
    depth = header["chunk_size"].bit_length() - 1
    compression, level, names = header["compression"], header["compression_level"], header["attr"]

    def unpack(name: str, size_max: int) -> bytes:
        try:
            (start, size), (offset, length) = (map(int, chunk[key]) for key in ("ptr", name))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"stream {name!r} is not described") from error
        first = header["start"] + start + offset
        if min(start, size, offset, length) < 0 or offset + length > size or first + length > len(data):
            raise ValueError(f"stream {name!r} is cut off")
        return decompress(data[first : first + length], compression, level, size_max)

    codes = decode_octree(unpack("svo", left * depth + 1), depth)
    if len(codes) > left:
        raise ValueError("it has more voxels than it says")
    wanted = _split(np.zeros((0, sum(count for _, count in names)), np.uint8), names, header["attr_interleave"])
    channels = max((count for _, count in names), default=0)
    size_max = len(codes) * (sum(count for _, count in names) if header["attr_interleave"] == "all" else channels)
    streams = {name: unpack(name, size_max) for name in wanted}
    rows = _join(streams, names, header["attr_interleave"], len(codes))
    return codes, _FILTERS[header["filter"]][1](codes, rows, depth) if len(codes) else rows
