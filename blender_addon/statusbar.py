# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs in Blender's status bar: what runs, how far it is, how many wait."""

from __future__ import annotations

from typing import Any

import bpy

from . import rows
from .session import session

_WIDTH = 10  # of the bar, in units of the interface


def _draw(header: Any, _context: bpy.types.Context) -> None:
    tasks = rows.listed()
    if not tasks:
        return
    row = header.layout.row(align=True)
    failed = [task for task in tasks if task.error is not None]
    moving = [task for task in tasks if task.error is None]
    running = next((task for task in moving if task.running), moving[0] if moving else None)
    if running is not None:
        words = running.words(session.connected, session.link.launch is not None)
        more = f" (+{len(moving) - 1})" if len(moving) > 1 else ""
        bar = row.row()
        bar.ui_units_x = _WIDTH
        bar.progress(factor=running.fraction, type="BAR", text=f"{running.title}: {words}{more}")
    if failed:
        row.label(text=f"{failed[0].title} failed" if len(failed) == 1 else f"{len(failed)} jobs failed", icon="ERROR")


def register() -> None:
    """Adds them."""
    bpy.types.STATUSBAR_HT_header.append(_draw)


def unregister() -> None:
    """Takes them away."""
    bpy.types.STATUSBAR_HT_header.remove(_draw)
