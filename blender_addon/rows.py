# SPDX-License-Identifier: GPL-3.0-or-later
"""The session's jobs as rows that a Blender list can show; kept on the window manager, which undo and files leave alone."""

from __future__ import annotations

import bpy
from bpy.props import CollectionProperty, IntProperty, PointerProperty

from .session import session
from .task import Task


class GenesisRow(bpy.types.PropertyGroup):
    """One row; its name is the job's key."""


class GenesisRows(bpy.types.PropertyGroup):
    """All rows."""

    jobs: CollectionProperty(type=GenesisRow)
    active: IntProperty(name="Job", description="Selected job")


def listed() -> list[Task]:
    """The jobs that the list shows: what has arrived is no longer there."""
    return [task for task in session.tasks.values() if not task.delivered]


def sync() -> None:
    """Brings the rows up to date; writes only where something has changed, and keeps the selection on its job."""
    rows = bpy.context.window_manager.genesis_rows
    wanted = [task.key for task in listed()]
    if [row.name for row in rows.jobs] == wanted:
        return
    selected = rows.jobs[rows.active].name if rows.active < len(rows.jobs) else ""
    selected = session.resolve(selected)
    rows.jobs.clear()
    for key in wanted:
        rows.jobs.add().name = key
    rows.active = wanted.index(selected) if selected in wanted else min(rows.active, max(0, len(wanted) - 1))


def register() -> None:
    """Adds `WindowManager.genesis_rows`, and listens to the session."""
    bpy.utils.register_class(GenesisRow)
    bpy.utils.register_class(GenesisRows)
    bpy.types.WindowManager.genesis_rows = PointerProperty(type=GenesisRows)
    session.on_change.append(sync)


def unregister() -> None:
    """Takes them away."""
    session.on_change.remove(sync)
    del bpy.types.WindowManager.genesis_rows
    bpy.utils.unregister_class(GenesisRows)
    bpy.utils.unregister_class(GenesisRow)
