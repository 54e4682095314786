# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own events that concern jobs: a file is loaded or saved, something is undone or redone."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.app.handlers import persistent

from genesis_server.protocol.errors import ErrorCode, GenesisError

from . import discarded, page, waiting
from .link import server_there
from .session import session
from .task import UNSENT


@persistent
def _objects_changed(*_: Any) -> None:
    discarded.bring_back()
    adopt()


@persistent
def _file_loaded(*_: Any) -> None:
    discarded.clear()
    page.listen()
    adopt()


@persistent
def _before_save(*_: Any) -> None:
    """Job ids in place of the keys that only this session understands."""
    for mesh in waiting.meshes():
        mesh.genesis.job = session.resolve(mesh.genesis.job)


def adopt() -> None:
    """Takes up the jobs that meshes of the present file wait for, and a server that runs."""
    if session.link.client is None and server_there():
        session.link.wanted = True
    for mesh in waiting.meshes():
        key, error = session.resolve(mesh.genesis.job), None
        if key.startswith(UNSENT):
            error = GenesisError(
                ErrorCode.JOB_UNKNOWN,
                f"{mesh.name} was saved before the server knew of it.",
                "Discard it and generate again.",
            )
        session.adopt(key, mesh.name, error)
    session.touch()


def _first_look() -> None:
    """Blender's timer, once, as soon as Blender lets extensions see its data."""
    adopt()


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
    bpy.app.timers.register(_first_look, first_interval=0.1)


def unregister() -> None:
    """Stops listening, and ends the session."""
    for handlers, function in _HANDLERS:
        handlers.remove(function)
    if bpy.app.timers.is_registered(_first_look):
        bpy.app.timers.unregister(_first_look)
    session.close()
    discarded.clear()
