# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether now is a good moment to change the scene, and the undo step that makes of a change."""

from __future__ import annotations

import bpy


def may_import() -> bool:
    """Whether the user is not in the middle of something: another mode than Object Mode, or moving an object."""
    for window in bpy.context.window_manager.windows:
        active = window.view_layer.objects.active
        if active is not None and active.mode != "OBJECT":
            return False
        if any(operator.bl_idname.startswith("TRANSFORM_OT_") for operator in window.modal_operators):
            return False
    return True


def push_undo(title: str) -> None:
    """The import as a step of its own; without a window there is no undo to push to."""
    window = next(iter(bpy.context.window_manager.windows), None)
    if window is not None and not bpy.app.background:
        with bpy.context.temp_override(window=window):
            bpy.ops.ed.undo_push(message=f"Genesis: {title}")
