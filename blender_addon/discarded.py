# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of assets that nobody wants any more: set aside, so that undo can bring them back, and deleted when it no longer can.

Undo reaches back to the load of the file, so they go when another one is loaded and when Blender ends. What a crash leaves
behind goes with the next one that is set aside a day later.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import bpy

ASIDE = ".discarded"  # at the end of the folder's name
ASSET_FILE = "asset.json"
STALE = 86400.0  # seconds
_aside: dict[Path, Path] = {}  # where a folder was, and where it is


def put_aside(folder: Path) -> None:
    """Sets an asset's folder aside, unless a mesh of this file still stands for it; whatever else a path names stays."""
    if not (folder / ASSET_FILE).is_file() or _wanted(folder):
        return
    _sweep(folder.parent)
    target = folder.with_name(f"{folder.name}-{time.monotonic_ns()}{ASIDE}")
    with contextlib.suppress(OSError):  # a file in it is open, or it may not be moved: then it stays
        os.replace(folder, target)
        _aside[folder] = target


def bring_back() -> None:
    """After undo and redo: what is in the scene again has its folder again."""
    for folder, target in list(_aside.items()):
        if _wanted(folder) and not folder.exists():
            with contextlib.suppress(OSError):
                os.replace(target, folder)
                del _aside[folder]


def clear() -> None:
    """Deletes what has been set aside."""
    for target in _aside.values():
        _delete(target)
    _aside.clear()


def _wanted(folder: Path) -> bool:
    return any(mesh.genesis.asset and mesh.genesis.folder() == folder for mesh in bpy.data.meshes)


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"*{ASIDE}"):
        if path not in _aside.values() and time.time() - path.stat().st_mtime > STALE:
            _delete(path)


def _delete(folder: Path) -> None:
    import shutil  # brings the compressors, which the start of Blender should not wait for

    shutil.rmtree(folder, ignore_errors=True)
