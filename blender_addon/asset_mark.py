# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects in the asset browser: marked, tagged, signed, and with the picture that the server rendered of them."""

from __future__ import annotations

from pathlib import Path

import bpy

from .preferences import preferences
from .properties import memory_of

THUMBNAIL = "thumbnail.png"
TAG = "Genesis"


def mark(item: bpy.types.Object) -> None:
    """Marks an object made by Genesis as an asset; once more brings its preview up to date."""
    memory = memory_of(item)
    item.asset_mark()
    data = item.asset_data
    data.author = preferences().author
    pictures = ", ".join(Path(path).name for path, _ in memory.picture_list())
    data.description = f"Made by Genesis from {pictures}" if pictures else "Made by Genesis"
    for tag in (TAG, Path(memory.model.replace("\\", "/")).name):
        if tag and tag not in data.tags:
            data.tags.new(tag)
    thumbnail = memory.folder() / THUMBNAIL
    if thumbnail.is_file():
        _set_preview(item, thumbnail)


def _set_preview(item: bpy.types.ID, path: Path) -> None:
    """A picture file as the preview; read through a passing image, since Blender decodes it then."""
    import numpy as np  # not needed to draw the panel

    image = bpy.data.images.load(str(path))
    width, height = image.size
    if width and height:
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        preview = item.preview_ensure()
        preview.image_size = (width, height)
        preview.image_pixels_float.foreach_set(pixels)
    bpy.data.images.remove(image)
