# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures in the panel: picture files, cut-outs and results. Blender reads them in the background."""

from __future__ import annotations

from pathlib import Path

import bpy
import bpy.utils.previews

_previews: bpy.utils.previews.ImagePreviewCollection | None = None


def icon(path: str | Path) -> int:
    """Icon number of a picture file as it is now; 0 where there is none."""
    try:
        key = f"{path}|{Path(path).stat().st_mtime_ns}"
    except (OSError, ValueError):
        return 0
    if key not in _previews:
        try:
            _previews.load(key, str(path), "IMAGE")
        except (KeyError, RuntimeError):
            return 0
    return _previews[key].icon_id


def register() -> None:
    """Makes room for them."""
    global _previews
    _previews = bpy.utils.previews.new()


def unregister() -> None:
    """Frees them."""
    global _previews
    bpy.utils.previews.remove(_previews)
    _previews = None
