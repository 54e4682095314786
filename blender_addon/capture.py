# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that are not files yet: an image of Blender's, the clipboard's, a render, the viewport. Each becomes a file.

The files are kept beside the server's things, since a .blend may go on using them in its list of pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

import bpy
import numpy as np

from genesis_server.protocol.connection import home_folder
from genesis_server.protocol.errors import ErrorCode, GenesisError

from . import x11_clipboard
from .png import write_png

FOLDER = "pictures"
LONGEST = 1024  # pixels of a captured viewport; no model looks at more


def from_image(image: bpy.types.Image) -> Path:
    """The file of an image; its own one, where it has one that shows what Blender shows.

    Raises:
        GenesisError: BAD_IMAGE for one without pixels, NO_PERMISSION.
    """
    own = Path(bpy.path.abspath(image.filepath)) if image.filepath else None
    if image.source == "FILE" and own is not None and own.is_file() and not image.is_dirty and not image.packed_file:
        return own
    if image.type == "RENDER_RESULT":
        raise _no_picture(f"{image.name} is no image of its own.", "Add the render result instead.")
    width, height = image.size
    if not width or not height:
        raise _no_picture(f"The image {image.name} has no pixels.", "Choose another one, or find its file.")
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    path = _new_file(image.name)
    _save(path, _rgba(values.reshape(height, width, image.channels), image.is_float))
    return path


def from_render(context: bpy.types.Context) -> Path:
    """The last render as a file, with its transparency.

    Raises:
        GenesisError: BAD_IMAGE where nothing has been rendered.
    """
    image = bpy.data.images.get("Render Result")
    settings = context.scene.render.image_settings
    kept = settings.file_format, settings.color_mode, settings.color_depth
    path = _new_file("Render")
    try:
        settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
        if image is None:
            raise RuntimeError
        image.save_render(str(path), scene=context.scene)
    except RuntimeError:
        raise _no_picture("Nothing has been rendered yet.", "Render the scene first (F12).") from None
    finally:
        settings.file_format, settings.color_mode, settings.color_depth = kept
    return path


def from_viewport(context: bpy.types.Context) -> Path:
    """What a 3D viewport shows, without overlays and background.

    Raises:
        GenesisError: BAD_IMAGE where there is no viewport to look at, as in `blender -b`.
    """
    area = context.area if context.area is not None and context.area.type == "VIEW_3D" else None
    if area is None and context.screen is not None:
        area = next((area for area in context.screen.areas if area.type == "VIEW_3D"), None)
    if area is None or bpy.app.background:
        raise _no_picture("There is no 3D viewport to look at.", "Use it in a window, or render instead.")
    region = next(region for region in area.regions if region.type == "WINDOW")
    scale = LONGEST / max(region.width, region.height)
    width, height = round(region.width * scale), round(region.height * scale)
    path = _new_file("Viewport")
    _save(path, _draw(context, area.spaces.active, region, width, height).reshape(height, width, 4))
    return path


def from_clipboard(context: bpy.types.Context) -> list[Path]:
    """The picture in the clipboard as a file, or the files whose paths or addresses are in it as text.

    Raises:
        GenesisError: BAD_IMAGE where there is neither.
    """
    words = context.window_manager.clipboard
    paths = [local_path(line) for line in words.splitlines() if line.strip()]
    if paths and all(path is not None and path.is_file() for path in paths):
        return paths
    before = set(bpy.data.images)
    try:
        _paste_image(context)
    except RuntimeError:
        # with words in it, it may be our own, and we cannot answer ourselves
        png = x11_clipboard.picture() if not words else None
        if png is None:
            raise _no_picture(
                "There is no picture in the clipboard.", "Copy a picture, or picture files, and paste again."
            ) from None
        path = _new_file("Clipboard")
        _write(path, lambda: path.write_bytes(png))
        return [path]
    (image,) = set(bpy.data.images) - before
    try:
        return [from_image(image)]
    finally:
        bpy.data.images.remove(image)


def _paste_image(context: bpy.types.Context) -> None:
    """Blender's own paste, which wants an image editor: the area is one for a moment."""
    area = context.area
    if area is None:
        raise RuntimeError
    kept = area.ui_type
    area.ui_type = "IMAGE_EDITOR"
    try:
        with context.temp_override(area=area, region=area.regions[-1]):
            bpy.ops.image.clipboard_paste()
    finally:
        area.ui_type = kept


def _draw(
    context: bpy.types.Context, space: bpy.types.SpaceView3D, region: bpy.types.Region, width: int, height: int
) -> np.ndarray:
    """RGBA of the viewport, uint8 [height * width * 4], bottom row first."""
    import gpu  # only where there is a window: `blender -b` refuses to draw

    view = space.region_3d
    overlays, space.overlay.show_overlays = space.overlay.show_overlays, False
    offscreen = gpu.types.GPUOffScreen(width, height)
    try:
        offscreen.draw_view3d(
            context.scene,
            context.view_layer,
            space,
            region,
            view.view_matrix,
            view.window_matrix,
            do_color_management=True,
            draw_background=False,
        )
        with offscreen.bind():
            framebuffer = gpu.state.active_framebuffer_get()
            buffer = framebuffer.read_color(0, 0, width, height, 4, 0, "UBYTE")
        buffer.dimensions = width * height * 4
        return np.array(buffer, np.uint8)
    finally:
        offscreen.free()
        space.overlay.show_overlays = overlays


def _rgba(values: np.ndarray, linear: bool) -> np.ndarray:
    """uint8 [height, width, 4] of Blender's pixels with 1 to 4 channels; those of float images are linear light."""
    colour, alpha = values, np.ones((*values.shape[:2], 1), np.float32)
    if values.shape[2] == 4:
        colour, alpha = values[..., :3], values[..., 3:]
    elif values.shape[2] < 3:
        colour = values[..., :1].repeat(3, axis=2)
    colour = colour.clip(0.0, 1.0)
    if linear:
        colour = np.where(colour <= 0.0031308, 12.92 * colour, 1.055 * colour ** (1 / 2.4) - 0.055)
    return (np.concatenate((colour, alpha.clip(0.0, 1.0)), axis=2) * 255.0 + 0.5).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 [height, width, 4], whose first row is at the bottom, as Blender has it."""
    _write(path, lambda: write_png(path, pixels[::-1]))


def _write(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise GenesisError(ErrorCode.DISK_FULL, f"{path} cannot be written: {error}.", "Free some space.") from error


def local_path(text: str) -> Path | None:
    """The path of a line of text: as it is, in quotes, or as a file address."""
    text = text.strip().strip("\"'")
    if text.startswith("file:"):
        path = unquote(urlparse(text).path)
        return Path(path[1:] if path[2:3] == ":" else path)  # /C:/pictures is C:/pictures
    path = Path(text)
    return path if len(text) < 4096 and path.is_absolute() else None


def _new_file(name: str) -> Path:
    folder = home_folder() / FOLDER
    plain = bpy.path.clean_name(name) or "picture"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GenesisError(ErrorCode.NO_PERMISSION, f"{folder} cannot be made: {error}.", "Free the folder.") from error
    return folder / f"{plain} {time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 1000:03d}.png"


def _no_picture(message: str, remedy: str) -> GenesisError:
    return GenesisError(ErrorCode.BAD_IMAGE, message, remedy)
