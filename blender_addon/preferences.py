# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's preferences: where the server's Python is, which model it uses, and when it starts and ends.

No postponed annotations here: Blender reads the annotations themselves.
"""

import os
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty

from genesis_server.protocol.connection import default_connection_file, home_folder
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from .backend.record import python_of

PYTHON_VARIABLE = "GENESIS_PYTHON"
ADDON = __package__
MINI = "mini"
_INTERPRETERS = ("bin/python", "Scripts/python.exe")


def _server_concerned(_preferences: Any, _context: bpy.types.Context) -> None:
    """The running server gets to know at the next step."""
    from .questions import questions  # which stands on this module

    questions.look_again()


class GenesisPreferences(bpy.types.AddonPreferences):
    """Preferences > Add-ons > Genesis."""

    bl_idname = __package__

    python: StringProperty(
        name="Server Python",
        description="Python in which Genesis is installed, or its environment's folder; empty for the one that the panel "
        f"installs ({PYTHON_VARIABLE} comes before it, a .venv beside the extension's source after it)",
        subtype="FILE_PATH",
    )
    base_python: StringProperty(
        name="Python to Install With",
        description="Python 3.11 to 3.13 that the server's environment is made from; empty to look for one",
        subtype="FILE_PATH",
    )
    device: EnumProperty(
        name="Install For",
        description="What the installed server computes on",
        items=[
            ("auto", "NVIDIA GPU or CPU", "The GPU where there is one of NVIDIA, else the CPU"),
            ("cpu", "CPU", "Smaller to download; enough for genesis-mini, too slow for the large model"),
        ],
    )
    connection_file: StringProperty(
        name="Connection File",
        description="File through which the server is found; empty for the server of this computer. For one on another "
        "machine: the key file that it was started with",
        subtype="FILE_PATH",
    )
    model: StringProperty(
        name="Model",
        description="mini (comes with Genesis), a folder with a pipeline.json, or a repository such as microsoft/TRELLIS.2-4B",
        default=MINI,
    )
    token: StringProperty(
        name="Hub Token",
        description="Access token of your Hugging Face account, for models whose licence has to be accepted there first",
        subtype="PASSWORD",
        update=_server_concerned,
    )
    auto_start: BoolProperty(
        name="Start Server When Needed", description="Generate starts the server if it is not running", default=True
    )
    keep_running: BoolProperty(
        name="Keep Server Running",
        description="The server stays when Blender quits, so that running jobs go on",
        default=False,
    )

    idle_unload: FloatProperty(
        name="Unload After",
        description="Minutes without a job after which the model leaves the GPU's memory; 0 keeps it there",
        default=15.0,
        min=0.0,
        soft_max=120.0,
        precision=0,
        update=_server_concerned,
    )
    author: StringProperty(name="Author", description="Written on objects that are marked as assets")

    def draw(self, _context: bpy.types.Context) -> None:
        """Blender's own two-column look."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "python")
        layout.prop(self, "base_python")
        layout.prop(self, "device")
        layout.prop(self, "model")
        layout.prop(self, "token")
        layout.prop(self, "connection_file")
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


def backend_folder() -> Path:
    """Where the panel installs the server's environment: the extension's user folder."""
    try:
        return Path(bpy.utils.extension_path_user(ADDON, path="backend"))
    except ValueError:  # run from its source, not installed as an extension
        return home_folder() / "backend"


def uses_backend() -> bool:
    """Whether the server runs from what the panel has installed."""
    named = preferences().python or os.environ.get(PYTHON_VARIABLE)
    return not named and python_of(backend_folder()) is not None


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
    installed = python_of(backend_folder())
    if installed is not None:
        return installed
    beside = Path(__file__).resolve().parent.parent / ".venv"
    if beside.is_dir():
        return _interpreter(beside, "the source folder has")
    raise GenesisError(
        ErrorCode.NOT_CONNECTED,
        "The Genesis server is not installed yet.",
        "Install it, or choose the Server Python in the preferences of the extension.",
        Remedy.INSTALL_SERVER,
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
