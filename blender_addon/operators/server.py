# SPDX-License-Identifier: GPL-3.0-or-later
"""The server, its model, its log, and errors."""

from pathlib import Path

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from ..lazy import messages
from ..preferences import ADDON, MINI, preferences
from ..session import session
from ..setup import setup
from .base import GenesisOperator

LOG_TEXT = "Genesis Log"
LOG_LINES, LOG_BYTES = 2000, 1 << 20  # of its end; the file grows for ever


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
    """Show the end of the server's log in a window of its own"""

    bl_idname = "genesis.open_log"
    bl_label = "Open Log"

    def work(self, context: bpy.types.Context) -> None:
        """Puts the log into a text, and shows it where there are windows."""
        text = bpy.data.texts.get(LOG_TEXT) or bpy.data.texts.new(LOG_TEXT)
        text.from_string(log_end())
        if bpy.app.background or not context.window_manager.windows:
            return
        bpy.ops.wm.window_new()
        area = context.window_manager.windows[-1].screen.areas[0]
        area.type = "TEXT_EDITOR"
        area.spaces.active.text = text
        text.current_line_index = max(0, len(text.lines) - 1)


class GENESIS_OT_copy_log(GenesisOperator):
    """Copy the end of the server's log, to send it to someone"""

    bl_idname = "genesis.copy_log"
    bl_label = "Copy Log"

    def work(self, context: bpy.types.Context) -> None:
        """Into the clipboard."""
        context.window_manager.clipboard = log_end()
        self.report({"INFO"}, "The log is in the clipboard")


def log_end() -> str:
    """The last lines of the server's log, or of the installation's.

    Raises:
        GenesisError: NOT_CONNECTED where there is none, NO_PERMISSION.
    """
    if session.connected and session.link.client.server.remote:
        return session.link.client.request(messages.Log(lines=LOG_LINES)).text
    path = session.link.log_file() or setup.log_file()
    if not path or not Path(path).is_file():
        raise GenesisError(ErrorCode.NOT_CONNECTED, "There is no log yet.", "Start the server.", Remedy.START_SERVER)
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, Path(path).stat().st_size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise GenesisError(ErrorCode.NO_PERMISSION, f"{path} cannot be read: {error}.", "Give yourself access.") from error
    return "\n".join(lines[-LOG_LINES:]) + "\n"


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
    bl_options = {"INTERNAL"}

    def work(self, _context: bpy.types.Context) -> None:
        """Shows them."""
        if bpy.app.background:
            words = "There is no window to show the preferences in.", "Set them in bpy.context.preferences.addons."
            raise GenesisError(ErrorCode.BAD_PARAMETER, *words)
        bpy.ops.preferences.addon_show(module=ADDON)


CLASSES = (
    GENESIS_OT_use_mini,
    GENESIS_OT_start_server,
    GENESIS_OT_stop_server,
    GENESIS_OT_open_log,
    GENESIS_OT_copy_log,
    GENESIS_OT_dismiss_error,
    GENESIS_OT_open_preferences,
)
