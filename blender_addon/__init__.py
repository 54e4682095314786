# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender extension: a client of the Genesis server with a panel in the 3D viewport's sidebar.

Everything that computes is in the server's process; this room has the panel, the session with the server, and the import
of results. It needs bpy, the standard library, and the two wheels that the extension brings: pyzmq and the protocol.
"""

from __future__ import annotations

from . import (
    handlers,
    operators,
    page,
    panels,
    preferences,
    properties,
    questions,
    rows,
    setup,
    statusbar,
    thumbnails,
)

_MODULES = (properties, preferences, page, rows, questions, setup, thumbnails, operators, panels, statusbar, handlers)


def register() -> None:
    """Adds everything to Blender."""
    for module in _MODULES:
        module.register()


def unregister() -> None:
    """Takes everything back, the connection and the timer included; jobs on the server go on."""
    for module in reversed(_MODULES):
        module.unregister()
