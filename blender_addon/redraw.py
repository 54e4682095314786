# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Blender to draw again what shows Genesis: the sidebars of the 3D viewports and the status bar."""

from __future__ import annotations

import bpy

EVERY = 0.1  # seconds; progress is readable, and a redraw of the sidebar costs a millisecond or two
_last = 0.0


def panels(now: float) -> bool:
    """Tags the sidebars and the status bar, at most every EVERY seconds of the monotonic clock; whether it did."""
    global _last
    if 0.0 <= now - _last < EVERY:
        return False
    _last = now
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
        # The status bar is no area of the screen; setting no text of our own redraws it, but would wipe that of a tool.
        # It needs the window in the context: a timer has none after a file was loaded, and Blender 4.3 crashes without.
        if not window.modal_operators:
            with bpy.context.temp_override(window=window):
                window.workspace.status_text_set(None)
    return True
