# SPDX-License-Identifier: GPL-3.0-or-later
"""The server and its model."""

from __future__ import annotations

import bpy

from ..preferences import MINI, preferences
from ..session import session
from . import draw
from .main import SidebarPanel


class GENESIS_PT_server(SidebarPanel, bpy.types.Panel):
    """The server and its model."""

    bl_label = "Server"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        """Its state, also while the panel is folded."""
        self.layout.label(text=session.state)

    def draw(self, _context: bpy.types.Context) -> None:
        """Start, stop, log, model."""
        layout, chosen = self.layout, preferences()
        row = layout.row(align=True)
        if session.connected:
            row.operator("genesis.stop_server", icon="SNAP_FACE")
        else:
            starting = row.row(align=True)
            starting.enabled = session.link.launch is None
            starting.operator("genesis.start_server", icon="PLAY")
        row.operator("genesis.open_log", text="", icon="TEXT")
        row.operator("genesis.open_preferences", text="", icon="PREFERENCES")
        column = draw.split_column(layout)
        column.prop(chosen, "model", placeholder=MINI)
        column.prop(chosen, "keep_running")


CLASSES = (GENESIS_PT_server,)
