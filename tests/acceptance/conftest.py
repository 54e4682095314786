# SPDX-License-Identifier: Apache-2.0
"""Bad inputs as a user has them: files that are wrong in one way each."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.pipeline.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `good.png` and the bad ones of the table; `missing.png` is not there."""
    folder = tmp_path_factory.mktemp("pictures")
    good = Image.new("RGBA", (90, 80))
    ImageDraw.Draw(good).ellipse((20, 15, 70, 65), fill=(200, 60, 30, 255))
    good.save(folder / "good.png")
    whole = (folder / "good.png").read_bytes()
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is no picture\n" * 20)
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "huge.png").write_bytes(png_without_pixels(20_000, 20_000))
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(folder / "transparent.png")
    Image.new("RGBA", (64, 64), (9, 9, 9, 100)).save(folder / "faint.png")
    Image.new("RGB", (64, 64), "white").save(folder / "blank.png")
    dot = Image.new("RGBA", (64, 64))
    dot.putpixel((30, 30), (255, 0, 0, 255))
    dot.save(folder / "dot.png")
    return folder


def png_without_pixels(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing: whoever refuses it by its size has not read further."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT"]
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
