# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first run needs: the server's environment, the weights, and the permission to use the network."""

import bpy
from bpy.props import BoolProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from ..lazy import messages
from ..preferences import MINI, preferences
from ..session import session
from ..setup import setup
from .base import GenesisOperator


class GENESIS_OT_install_server(GenesisOperator):
    """Install the server into the extension's user folder; what an earlier attempt finished is kept"""

    bl_idname = "genesis.install_server"
    bl_label = "Install Server"

    def work(self, _context: bpy.types.Context) -> None:
        """Begins, and returns."""
        setup.begin()


class GENESIS_OT_cancel_install(GenesisOperator):
    """Stop the installation; it can go on later from where it is"""

    bl_idname = "genesis.cancel_install"
    bl_label = "Stop Installing"
    bl_options = {"INTERNAL"}

    def work(self, _context: bpy.types.Context) -> None:
        """Stops the program that runs."""
        setup.cancel()


class GENESIS_OT_download_weights(GenesisOperator):
    """Download the weights of the chosen model; goes on where an earlier download stopped, and checks every file"""

    bl_idname = "genesis.download_weights"
    bl_label = "Download Weights"

    def work(self, _context: bpy.types.Context) -> None:
        """Sends the job, which shows its progress in the queue."""
        if not bpy.app.online_access:
            raise GenesisError(
                ErrorCode.OFFLINE,
                "Blender may not use the network.",
                "Allow Online Access in Preferences > System > Network.",
                Remedy.ALLOW_ONLINE,
            )
        model = preferences().model or MINI
        session.submit(messages.Download(model), f"Weights of {model.rpartition('/')[2]}")


class GENESIS_OT_allow_online(GenesisOperator):
    """Let Blender and its extensions use the internet, as in Preferences > System > Network"""

    bl_idname = "genesis.allow_online"
    bl_label = "Allow Online Access"
    bl_options = {"INTERNAL"}

    save: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks first: it is Blender's setting, not ours."""
        return context.window_manager.invoke_confirm(self, event)

    def work(self, context: bpy.types.Context) -> None:
        """Sets Blender's preference."""
        if bpy.app.online_access_override:
            raise GenesisError(
                ErrorCode.OFFLINE, "Blender was started with --offline-mode.", "Start it without, and try again."
            )
        context.preferences.system.use_online_access = True
        setup.error = None


CLASSES = (
    GENESIS_OT_install_server,
    GENESIS_OT_cancel_install,
    GENESIS_OT_download_weights,
    GENESIS_OT_allow_online,
)
