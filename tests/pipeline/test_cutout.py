# SPDX-License-Identifier: Apache-2.0
"""The object is cut out by its alpha or without it, with and without network weights, or the reason is said."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from genesis_server.pipeline.background import NetworkRemover, PlainRemover
from genesis_server.pipeline.cutout import Cutout, cut_out, on_black
from genesis_server.protocol.errors import ErrorCode, GenesisError


def ring(background: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """A red ring with a white highlight on a background, and its true mask."""
    mask = Image.new("L", background.size)
    ImageDraw.Draw(mask).ellipse((40, 30, 200, 190), fill=255)
    ImageDraw.Draw(mask).ellipse((90, 80, 150, 140), fill=0)
    picture = background.copy()
    picture.paste((190, 30, 40), mask=mask)
    ImageDraw.Draw(picture).ellipse((60, 100, 66, 106), fill=(255, 255, 255))
    return picture, np.asarray(mask) > 0


def cut(picture: Image.Image, background: str = "auto") -> Cutout:
    return cut_out(picture, background, PlainRemover())


def overlap(alpha: np.ndarray, truth: np.ndarray) -> float:
    found = alpha > 127
    return float((found & truth).sum() / (found | truth).sum())


def noisy(size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(0).normal(0, 14, (size[1], size[0], 3)) + [120, 140, 150]
    values = values + np.linspace(-40, 40, size[0])[None, :, None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))


def test_a_flat_background_is_keyed_out_with_its_hole_and_without_its_highlight() -> None:
    picture, truth = ring(Image.new("RGB", (240, 220), (255, 255, 255)))
    removal = PlainRemover().remove(picture)
    assert "flat-background key (no weights)" in removal.method
    assert overlap(np.asarray(removal.picture.getchannel("A")), truth) > 0.98
    assert np.array_equal(np.asarray(removal.picture)[..., :3], np.asarray(picture))


def test_a_busy_background_goes_through_grabcut_and_says_so() -> None:
    picture, truth = ring(noisy((240, 220)))
    removal = PlainRemover().remove(picture)
    assert "GrabCut (no weights)" in removal.method
    filled = truth.copy()
    filled[80:141, 90:151] = True  # GrabCut may or may not find the hole; the outline is what counts
    alpha = np.asarray(removal.picture.getchannel("A")).copy()
    alpha[80:141, 90:151] = 255
    assert overlap(alpha, filled) > 0.95
    again = PlainRemover().remove(picture)
    assert np.array_equal(np.asarray(again.picture), np.asarray(removal.picture))


def test_alpha_in_the_picture_always_wins() -> None:
    picture = Image.new("RGBA", (100, 100), (200, 100, 50, 255))
    picture.paste((0, 255, 0, 0), (0, 0, 100, 30))
    cutout = cut(picture)
    assert cutout.background == "alpha"
    assert cutout.picture.getpixel((50, 50)) == (200, 100, 50, 255)


def test_the_published_encoder_sees_the_object_fade_into_black() -> None:
    picture = Image.new("RGBA", (2, 1), (200, 100, 50, 102))
    assert on_black(picture).getpixel((0, 0)) == (80, 40, 20)
    assert on_black(picture.convert("RGB")).getpixel((0, 0)) == (200, 100, 50), "made by an older version"


def test_keep_takes_the_whole_picture() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    cutout = cut(picture, "keep")
    assert cutout.background == "kept" and cutout.picture.width == cutout.picture.height
    assert np.asarray(cutout.picture).astype(bool).any(axis=2)[25:35].mean() > 0.9


def test_the_picture_given_is_not_changed() -> None:
    picture, _ = ring(Image.new("RGB", (240, 220), (255, 255, 255)))
    before = picture.copy()
    cut(picture)
    assert np.array_equal(np.asarray(picture), np.asarray(before))


@pytest.mark.parametrize(
    ("alpha", "words"),
    [((0, 0), "fully transparent"), ((180, 0), "180 of 255"), ((255, 1), "1 x 1 pixels")],
)
def test_hardly_any_foreground_is_refused_with_the_reason(alpha: tuple[int, int], words: str) -> None:
    strength, size = alpha
    picture = Image.new("RGBA", (50, 50), (255, 255, 255, 0))
    picture.paste((9, 9, 9, strength), (20, 20, 20 + (size or 10), 20 + (size or 10)))
    with pytest.raises(GenesisError) as caught:
        cut(picture)
    assert caught.value.code == ErrorCode.NO_FOREGROUND
    assert words in caught.value.message and caught.value.remedy


def test_an_empty_picture_has_no_object() -> None:
    with pytest.raises(GenesisError) as caught:
        cut(Image.new("RGB", (64, 64), (240, 240, 240)))
    assert caught.value.code == ErrorCode.NO_FOREGROUND and "no weights" in caught.value.message


@pytest.mark.parametrize("size", [(3000, 2), (1, 400), (2, 2), (1, 1), (9, 9)])
def test_extreme_sizes_end_in_a_cutout_or_an_error_never_in_a_crash(size: tuple[int, int]) -> None:
    for picture in (Image.new("RGB", size, "red"), noisy(size), Image.new("RGBA", size, (9, 9, 9, 254))):
        try:
            assert min(cut(picture).picture.size) > 0
        except GenesisError as error:
            assert error.code == ErrorCode.NO_FOREGROUND


def test_a_network_remover_is_named_in_the_result() -> None:
    remover = NetworkRemover("BiRefNet", lambda x: torch.full((1, 1, 1024, 1024), 9.0), torch.device("cpu"))
    cutout = cut_out(noisy((60, 50)), "auto", remover)
    assert cutout.background == "BiRefNet"
