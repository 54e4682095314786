# SPDX-License-Identifier: Apache-2.0
"""A picture file as a Pillow image, upright, RGB or RGBA, 8 bit; every unusable file is refused here with its reason.

Alpha counts wherever a file can carry it (RGBA, LA, palette transparency, colour keys): the published pipeline throws away
all but RGBA (docs/spec/pipeline.md 4, 16 #2), which surprises whoever cut out a grey or palette picture.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from genesis_server.protocol.errors import ErrorCode, GenesisError

# 64 megapixels, 8192 x 8192: any camera's picture, yet at most 256 MB decoded. The pipeline itself keeps 1024 pixels a side.
MAX_PIXELS = 64 * 1024 * 1024
FORMATS = "PNG, JPEG, WebP, TIFF or BMP"


def load_picture(path: str | Path) -> Image.Image:
    """Read one picture; the first frame of an animation, its orientation tag applied, CMYK and 16-bit converted.

    Returns:
        RGBA where the file carries alpha, else RGB.

    Raises:
        GenesisError: BAD_IMAGE naming the path; NO_PERMISSION where it may not be read.
    """
    path = Path(path)
    _check_file(path)
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _too_large(path, f"{picture.width} x {picture.height} pixels")
            picture.load()
            return _to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError as error:  # Pillow's own, higher cap speaks before ours can; it names the pixels first
        pixels = int(re.search(r"\d+", str(error))[0])
        raise _too_large(path, f"{pixels // 2**20} megapixels") from error
    except PermissionError as error:
        raise _refused(path, "may not be read", "Change its permissions.", ErrorCode.NO_PERMISSION) from error
    except Image.UnidentifiedImageError as error:
        raise _refused(path, "is not a picture, whatever its name says", f"Use a {FORMATS} file.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise _refused(path, f"is damaged or cut short ({error})", "Save or download the picture again.") from error


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise _refused(path, "does not exist", "Check the path.")
        if path.is_dir():
            raise _refused(path, "is a folder", "Name the picture file inside it.")
        if path.stat().st_size == 0:
            raise _refused(path, "is empty", "Save or download the picture again.")
    except PermissionError as error:
        raise _refused(path, "may not be read", "Change its permissions.", ErrorCode.NO_PERMISSION) from error
    except OSError as error:  # a name too long, a loop of links
        raise _refused(path, f"cannot be opened ({error.strerror})", "Check the path.") from error


def _too_large(path: Path, size: str) -> GenesisError:
    return _refused(path, f"has {size}; at most {MAX_PIXELS // 2**20} megapixels are read", "Scale it down first.")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = _to_8_bit(picture)
    has_alpha = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if picture.mode in ("La", "RGBa"):  # premultiplied: Pillow converts these to their plain twins only
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    return picture.convert("RGBA" if has_alpha else "RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled by the range of its type: 16-bit integers by 257, floats as 0..1."""
    values = np.asarray(picture, dtype=np.float64)
    scale = 255.0 if picture.mode == "F" else 1 / 257
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _refused(path: Path, reason: str, remedy: str, code: ErrorCode = ErrorCode.BAD_IMAGE) -> GenesisError:
    return GenesisError(code, f"{path} {reason}.", remedy)
