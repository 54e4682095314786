# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes RGBA pixels as a PNG; Blender's own saving drops the alpha of a painted image or applies the view transform."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA, _DEPTH = 6, 8
_LEVEL = 4  # of compression; the file lives next to the one who reads it


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes a picture.

    Args:
        path: of the file.
        pixels: uint8 [height, width, 4], first row at the top, sRGB encoded, alpha not multiplied in.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = pixels.reshape(height, 4 * width)
    header = struct.pack(">IIBBBBB", width, height, _DEPTH, _RGBA, 0, 0, 0)
    data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)) + _chunk(b"IEND", b"")
    path.write_bytes(_SIGNATURE + data)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
