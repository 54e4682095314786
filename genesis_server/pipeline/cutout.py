# SPDX-License-Identifier: Apache-2.0
"""From a picture to the square cutout that the image encoder sees on a plain ground (docs/spec/pipeline.md 4).

The steps and their roundings are those of the published pipeline; only its crashes are replaced by errors. A picture in
another mode than RGBA has no alpha here: `load_picture` turns every kind of transparency into RGBA before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from genesis_server.pipeline.background import BackgroundRemover
from genesis_server.protocol.errors import ErrorCode, GenesisError

LONGEST_SIDE = 1024
FOREGROUND_ALPHA = 204  # 0.8 of 255; strictly above is foreground


@dataclass(frozen=True)
class Cutout:
    """One picture ready for the encoder.

    Attributes:
        picture: RGBA, square, on a transparent ground.
        background: how the background went: "alpha" (the picture's own), "kept", or what removed it.
    """

    picture: Image.Image
    background: str


def check_alpha(picture: Image.Image, name: str) -> None:
    """Refuse a picture whose own alpha leaves no object, which is known before anything is made.

    Raises:
        GenesisError: NO_FOREGROUND, as `cut_out` would.
    """
    if _has_alpha(picture):
        _square_box(np.asarray(_downscale(picture.getchannel("A"))), "alpha", name)


def cut_out(picture: Image.Image, background: str, remover: BackgroundRemover, name: str = "The picture") -> Cutout:
    """Cut the object out of its picture.

    Args:
        picture: any mode; RGBA with at least one transparent pixel brings its own mask.
        background: "auto", "remove" or "keep" (`GenerateSettings.background`).
        remover: asked only where there is no alpha to use.
        name: of the picture, for errors.

    Raises:
        GenesisError: NO_FOREGROUND when nothing, or only a single pixel, is left.
    """
    has_alpha = _has_alpha(picture)
    picture = _downscale(picture)
    if has_alpha and background != "remove":
        how, masked = "alpha", picture
    elif background == "keep":
        how, masked = "kept", picture.convert("RGB").convert("RGBA")
    else:
        removal = remover.remove(_on_white(picture) if has_alpha else picture.convert("RGB"))
        how, masked = removal.method, removal.picture
    return Cutout(masked.crop(_square_box(np.asarray(masked.getchannel("A")), how, name)), how)


def _on_white(picture: Image.Image) -> Image.Image:
    """A picture whose own alpha is not to be trusted, as a viewer shows it."""
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema()[0] < 255


def _downscale(picture: Image.Image) -> Image.Image:
    scale = min(1, LONGEST_SIDE / max(picture.size))
    if scale == 1:
        return picture
    # truncation, at least one pixel for extreme strips; Pillow filters RGBA premultiplied
    size = tuple(max(1, int(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _square_box(alpha: np.ndarray, how: str, name: str) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(alpha > FOREGROUND_ALPHA)
    if not len(rows):
        raise _no_foreground(alpha, how, name)
    x0, x1, y0, y1 = int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())
    half = max(x1 - x0, y1 - y0) // 2
    if half == 0:
        raise GenesisError(
            ErrorCode.NO_FOREGROUND,
            f"{name} shows an object of only {x1 - x0 + 1} x {y1 - y0 + 1} pixels.",
            "Use a picture in which the object fills most of the frame.",
        )
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return round(cx - half), round(cy - half), round(cx + half), round(cy + half)  # half to even, as published


def _no_foreground(alpha: np.ndarray, how: str, name: str) -> GenesisError:
    if how == "alpha":
        strongest = int(alpha.max(initial=0))
        what = "fully transparent" if strongest == 0 else f"nowhere more opaque than {strongest} of 255"
        return GenesisError(ErrorCode.NO_FOREGROUND, f"{name} is {what}.", "Use a picture whose object is opaque.")
    return GenesisError(
        ErrorCode.NO_FOREGROUND,
        f"{name} shows no object once its background is removed, by {how}.",
        "Cut the object out yourself and give a PNG with transparency, or set background to keep.",
    )


def on_black(picture: Image.Image) -> Image.Image:
    """A cutout as the published encoder sees it: RGB, premultiplied. One without alpha is there already."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    values = np.asarray(picture).astype(np.float32) / 255
    return Image.fromarray((values[..., :3] * values[..., 3:] * 255).astype(np.uint8))
