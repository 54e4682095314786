# SPDX-License-Identifier: Apache-2.0
"""Textures survive being files, in every format as well as it can."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from genesis_server.bake import images
from genesis_server.bake.images import decode_image, encode_image, encode_png


def waves(height: int, width: int, channels: int) -> np.ndarray:
    rows, cols = np.indices((height, width))
    return np.stack([127 + 90 * np.sin(rows / (9 + c) + cols / (13 + c)) for c in range(channels)], 2).astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 3), (700, 13, 4), (37, 300, 3), (64, 64, 1)])
def test_png_is_lossless_and_read_by_others(monkeypatch: pytest.MonkeyPatch, height: int, width: int, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    whole = encode_png(picture)
    monkeypatch.setattr(images, "_STRIP_BYTES", 4 * width * channels)  # many strips of four rows
    for data in (whole, encode_png(picture)):
        other = np.asarray(Image.open(io.BytesIO(data))).reshape(height, width, channels)
        assert np.array_equal(other, picture)
        if channels > 1:
            assert np.array_equal(decode_image(data)[..., :channels], picture)


def test_sixteen_bits_stay_in_a_png_and_become_eight_elsewhere() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (37, 64, 3)).astype(np.uint16)
    data, kind = encode_image(deep, "png", False)
    assert kind == "png" and np.array_equal(decode_image(data, deep=True)[..., :3], deep)
    nearest = np.round(deep / 257).astype(np.uint8)
    assert np.array_equal(decode_image(data)[..., :3], nearest)
    assert np.array_equal(decode_image(encode_image(deep, "webp", False)[0], deep=True)[..., :3], nearest)


def test_formats_keep_what_they_promise() -> None:
    colour, data = waves(128, 128, 4), waves(128, 128, 3)
    assert encode_image(colour, "jpeg", True)[1] == "png"  # JPEG has no transparency
    for kind, largest in (("png", 0), ("webp", 0), ("jpeg", 8)):
        content, took = encode_image(data, kind, False)
        assert took == kind
        assert np.abs(decode_image(content)[..., :3].astype(int) - data).max() <= largest
    lossy = decode_image(encode_image(data, "webp", True)[0])[..., :3]
    assert np.abs(lossy.astype(int) - data).mean() < 3


def test_an_alpha_of_255_everywhere_is_left_out() -> None:
    opaque = np.dstack([waves(16, 16, 3), np.full((16, 16), 255, np.uint8)])
    assert Image.open(io.BytesIO(encode_image(opaque, "png", True)[0])).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="decoded"):
        decode_image(data)
