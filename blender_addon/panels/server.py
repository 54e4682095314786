# SPDX-License-Identifier: GPL-3.0-or-later
"""The server, what it runs on, and its model."""

from __future__ import annotations

import bpy

from ..preferences import MINI, preferences
from ..questions import questions
from ..session import session
from . import draw
from .main import SidebarPanel

_WORKER = {"starting": "Loading", "idle": "Ready", "busy": "Busy", "stopped": "Stopped"}
_MODEL_STATES = {"packaged": "Comes with Genesis", "folder": "Folder", "ready": "Downloaded"}


class GENESIS_PT_server(SidebarPanel, bpy.types.Panel):
    """The server, what it runs on, and its model."""

    bl_label = "Server"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        """Its state, also while the panel is folded."""
        self.layout.label(text=session.state)

    def draw(self, _context: bpy.types.Context) -> None:
        """Start, stop, log, GPU, memory, model."""
        layout, chosen = self.layout, preferences()
        row = layout.row(align=True)
        if session.connected:
            row.operator("genesis.stop_server", icon="SNAP_FACE")
        else:
            starting = row.row(align=True)
            starting.enabled = session.link.launch is None
            starting.operator("genesis.start_server", icon="PLAY")
        row.operator("genesis.open_log", text="", icon="TEXT")
        row.operator("genesis.copy_log", text="", icon="COPYDOWN")
        row.operator("genesis.open_preferences", text="", icon="PREFERENCES")
        if questions.server is not None:
            draw.facts(layout, _facts())
        column = draw.split_column(layout)
        column.prop(chosen, "model", placeholder=MINI)
        column.prop(chosen, "keep_running")
        column.prop(chosen, "idle_unload")


def _facts() -> list[tuple[str, str]]:
    server, model = questions.server, questions.model()
    free, total = server.memory_free / 1e9, server.memory_total / 1e9
    return [
        ("State", _WORKER.get(server.worker, server.worker) + (", another machine" if server.remote else "")),
        ("GPU" if server.accelerated else "Processor", server.device),
        ("Memory", f"{free:.1f} of {total:.1f} GB free" if total else ""),
        ("In Memory", server.model.replace("\\", "/").rpartition("/")[2] if server.loaded else "No model"),
        ("Weights", _MODEL_STATES.get(model.state, model.state.title()) if model is not None else ""),
    ]


CLASSES = (GENESIS_PT_server,)
