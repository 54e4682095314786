# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own events that concern jobs: a file is loaded or saved, something is undone or redone."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import page
from .session import session


@persistent
def _objects_changed(*_: Any) -> None:
    session.adopt()


@persistent
def _file_loaded(*_: Any) -> None:
    page.listen()
    session.adopt()


@persistent
def _before_save(*_: Any) -> None:
    session.write_names()


_HANDLERS = (
    (bpy.app.handlers.load_post, _file_loaded),
    (bpy.app.handlers.undo_post, _objects_changed),
    (bpy.app.handlers.redo_post, _objects_changed),
    (bpy.app.handlers.save_pre, _before_save),
)


def register() -> None:
    """Begins to listen."""
    for handlers, function in _HANDLERS:
        handlers.append(function)
    session.begin()


def unregister() -> None:
    """Stops listening, and ends the session."""
    for handlers, function in _HANDLERS:
        handlers.remove(function)
    session.close()
