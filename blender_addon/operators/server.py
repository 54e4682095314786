# SPDX-License-Identifier: GPL-3.0-or-later
"""The server, its model, its log, and errors."""

from pathlib import Path

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError

from ..preferences import ADDON, MINI, preferences
from ..session import session
from .base import GenesisOperator


class GENESIS_OT_use_mini(GenesisOperator):
    """Choose the small model that comes with Genesis for what is generated from now on"""

    bl_idname = "genesis.use_mini"
    bl_label = "Use genesis-mini"

    def work(self, _context: bpy.types.Context) -> None:
        """Changes the preference."""
        preferences().model = MINI
        session.error = None
        self.report({"INFO"}, "genesis-mini is chosen; press Generate")


class GENESIS_OT_start_server(GenesisOperator):
    """Start the Genesis server on this computer"""

    bl_idname = "genesis.start_server"
    bl_label = "Start Server"

    def work(self, _context: bpy.types.Context) -> None:
        """Starts it and returns."""
        session.start()


class GENESIS_OT_stop_server(GenesisOperator):
    """Stop the server; a job that is running goes on when it is started again"""

    bl_idname = "genesis.stop_server"
    bl_label = "Stop Server"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Needs a connection."""
        return session.connected

    def work(self, _context: bpy.types.Context) -> None:
        """Asks it to end."""
        session.stop()


class GENESIS_OT_open_log(GenesisOperator):
    """Open the server's log in a text editor"""

    bl_idname = "genesis.open_log"
    bl_label = "Open Log"

    def work(self, context: bpy.types.Context) -> None:
        """Loads the log as a text, in a window of its own where there are windows."""
        path = session.log_file()
        if not path or not Path(path).is_file():
            raise GenesisError(ErrorCode.NOT_CONNECTED, "There is no log yet.", "Start the server.")
        name = Path(path).name
        if name in bpy.data.texts:
            bpy.data.texts.remove(bpy.data.texts[name])
        text = bpy.data.texts.load(path)
        if bpy.app.background or not context.window_manager.windows:
            return
        bpy.ops.wm.window_new()
        area = context.window_manager.windows[-1].screen.areas[0]
        area.type = "TEXT_EDITOR"
        area.spaces.active.text = text
        text.current_line_index = max(0, len(text.lines) - 1)


class GENESIS_OT_dismiss_error(GenesisOperator):
    """Hide this message"""

    bl_idname = "genesis.dismiss_error"
    bl_label = "Dismiss"
    bl_options = {"INTERNAL"}

    def work(self, _context: bpy.types.Context) -> None:
        """Forgets it."""
        session.error = None


class GENESIS_OT_open_preferences(GenesisOperator):
    """Open the preferences of the extension"""

    bl_idname = "genesis.open_preferences"
    bl_label = "Open Preferences"

    def work(self, _context: bpy.types.Context) -> None:
        """Shows them."""
        bpy.ops.preferences.addon_show(module=ADDON)


CLASSES = (
    GENESIS_OT_use_mini,
    GENESIS_OT_start_server,
    GENESIS_OT_stop_server,
    GENESIS_OT_open_log,
    GENESIS_OT_dismiss_error,
    GENESIS_OT_open_preferences,
)
