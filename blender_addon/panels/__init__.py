# SPDX-License-Identifier: GPL-3.0-or-later
"""The "Genesis" tab of the 3D viewport's sidebar. Drawing reads and computes nothing; errors stand where the user looks."""

from __future__ import annotations

import bpy

from . import main, server, settings

_CLASSES = (*main.CLASSES, *settings.CLASSES, *server.CLASSES)


def register() -> None:
    """Adds the panels."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Takes them away."""
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
