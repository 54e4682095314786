# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's preferences: where the server's Python is, which model it uses, and when it starts and ends.

No postponed annotations here: Blender reads the annotations themselves.
"""

import os
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty

from genesis_server.protocol.connection import default_connection_file
from genesis_server.protocol.errors import ErrorCode, GenesisError

PYTHON_VARIABLE = "GENESIS_PYTHON"
ADDON = __package__
MINI = "mini"
_INTERPRETERS = ("bin/python", "Scripts/python.exe")


class GenesisPreferences(bpy.types.AddonPreferences):
    """Preferences > Add-ons > Genesis."""

    bl_idname = __package__

    python: StringProperty(
        name="Server Python",
        description=f"Python in which Genesis is installed, or its environment's folder; empty to look for it "
        f"({PYTHON_VARIABLE}, then a .venv beside the extension's source)",
        subtype="FILE_PATH",
    )
    connection_file: StringProperty(
        name="Connection File",
        description="File through which the server is found; empty for the usual place",
        subtype="FILE_PATH",
    )
    model: StringProperty(
        name="Model",
        description="mini (comes with Genesis), a folder with a pipeline.json, or a repository such as microsoft/TRELLIS.2-4B",
        default=MINI,
    )
    auto_start: BoolProperty(
        name="Start Server When Needed", description="Generate starts the server if it is not running", default=True
    )
    keep_running: BoolProperty(
        name="Keep Server Running",
        description="The server stays when Blender quits, so that running jobs go on",
        default=False,
    )

    author: StringProperty(name="Author", description="Written on objects that are marked as assets")

    def draw(self, _context: bpy.types.Context) -> None:
        """Blender's own two-column look."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "python")
        layout.prop(self, "connection_file")
        layout.prop(self, "model")
        column = layout.column(heading="Server")
        column.prop(self, "auto_start")
        column.prop(self, "keep_running")
        layout.prop(self, "author")


def preferences() -> GenesisPreferences:
    """Those of this Blender."""
    return bpy.context.preferences.addons[__package__].preferences


def connection_file() -> Path:
    """The chosen connection file, or the usual one."""
    chosen = preferences().connection_file
    return Path(bpy.path.abspath(chosen)) if chosen else default_connection_file()


def server_python() -> Path:
    """The interpreter to start the server with.

    Raises:
        GenesisError: NOT_CONNECTED where none is known, or the chosen one does not exist.
    """
    chosen = preferences().python
    if chosen:
        return _interpreter(Path(bpy.path.abspath(chosen)), "the preferences name")
    if os.environ.get(PYTHON_VARIABLE):
        return _interpreter(Path(os.environ[PYTHON_VARIABLE]), f"{PYTHON_VARIABLE} names")
    beside = Path(__file__).resolve().parent.parent / ".venv"
    if beside.is_dir():
        return _interpreter(beside, "the source folder has")
    raise GenesisError(
        ErrorCode.NOT_CONNECTED,
        "Blender does not know in which Python Genesis is installed.",
        "Choose the Server Python in the preferences of the extension.",
    )


def _interpreter(path: Path, who: str) -> Path:
    """The interpreter that a path to one, or to its environment, means; links stay as they are, they tell environments."""
    for candidate in (path, *(path / name for name in _INTERPRETERS)):
        if candidate.is_file():
            return candidate
    raise GenesisError(
        ErrorCode.NOT_CONNECTED,
        f"There is no Python at {path}, which {who}.",
        "Choose the Python in which Genesis is installed, or the folder of its environment.",
    )


def register() -> None:
    """Adds the preferences."""
    bpy.utils.register_class(GenesisPreferences)


def unregister() -> None:
    """Takes them away."""
    bpy.utils.unregister_class(GenesisPreferences)
