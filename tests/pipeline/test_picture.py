# SPDX-License-Identifier: Apache-2.0
"""Every picture a user may drop is read right or refused with its path and a remedy."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genesis_server.pipeline.picture import load_picture
from genesis_server.protocol.errors import ErrorCode, GenesisError


def gradient(channels: int = 3) -> np.ndarray:
    values = np.linspace(0, 255, 20 * 30 * channels).reshape(20, 30, channels)
    return values.astype(np.uint8).squeeze()


def header_only_png(path: Path, width: int, height: int) -> None:
    """A PNG of the given size that holds no pixels: reading them would fail, and reading the header must not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)


def refused(path: Path) -> GenesisError:
    with pytest.raises(GenesisError) as caught:
        load_picture(path)
    assert caught.value.code == ErrorCode.BAD_IMAGE
    assert str(path) in caught.value.message and caught.value.remedy
    return caught.value


def test_missing_folder_and_empty_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.png").message
    assert "folder" in refused(tmp_path).message
    (tmp_path / "empty.png").touch()
    assert "empty" in refused(tmp_path / "empty.png").message


def test_text_renamed_to_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture\n" * 20)
    assert "is not a picture" in refused(tmp_path / "text.png").message


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_truncated_png_is_refused(tmp_path: Path, kept: float) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8)).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    refused(cut)


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (9000, 9000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    header_only_png(tmp_path / "huge.png", width, height)
    assert "megapixels" in refused(tmp_path / "huge.png").message


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    ramp = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    read = load_picture(tmp_path / "deep.png")
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read)[..., 0] - ramp / 257).max() <= 0.5  # rounding to 8 bits


def test_palette_with_transparency_and_grey_with_alpha_keep_their_alpha(tmp_path: Path) -> None:
    rgba = Image.fromarray(np.dstack([gradient(3), np.where(gradient(1) > 99, 255, 0).astype(np.uint8)]))
    rgba.quantize(colors=64).save(tmp_path / "palette.png")
    rgba.convert("LA").save(tmp_path / "grey.png")
    for name in ("palette.png", "grey.png"):
        read = load_picture(tmp_path / name)
        assert read.mode == "RGBA"
        assert np.array_equal(np.asarray(read)[..., 3] > 127, np.asarray(rgba)[..., 3] > 127)


def test_palette_without_transparency_is_rgb(tmp_path: Path) -> None:
    Image.fromarray(gradient(3)).quantize(colors=16).save(tmp_path / "palette.gif")
    assert load_picture(tmp_path / "palette.gif").mode == "RGB"


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.fromarray(gradient(3)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    read = load_picture(tmp_path / "print.jpg")
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read, dtype=int) - gradient(3)).max() < 12  # JPEG loss


def test_orientation_tag_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    Image.fromarray(gradient(3)).save(tmp_path / "phone.jpg", exif=exif)
    assert load_picture(tmp_path / "phone.jpg").size == (20, 30)


def test_the_first_frame_of_an_animation_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_picture(tmp_path / "moving.gif").getpixel((5, 5)) == (255, 0, 0)
