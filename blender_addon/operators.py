# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel's buttons do; all of it can be called from scripts and in `blender -b`, with the same names.

Operators return at once: results arrive through `session.pump`. Errors are reported and shown in the panel.
No postponed annotations here: Blender reads the annotations themselves.
"""

import json
import random
from pathlib import Path
from typing import Any

import bpy
from bpy.props import CollectionProperty, IntProperty, StringProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import Rebake, Regenerate, Submit
from genesis_server.protocol.parameters import MAX_SEED
from genesis_server.protocol.presets import preset

from . import importer
from .preferences import MINI, preferences
from .properties import changes_from
from .session import session

PICTURE_FILTER = "*.png;*.jpg;*.jpeg;*.webp;*.bmp;*.tif;*.tiff"


def _asset_name(path: str) -> str:
    """A plain name from a picture's file name: what the server accepts for a folder, and Blender for an object."""
    kept = "".join(sign if sign.isalnum() or sign in "_ .()-" else "_" for sign in Path(path).stem)
    return kept.strip(" .()-")[:60] or "Genesis"


class _Operator(bpy.types.Operator):
    """An operator whose GenesisErrors are reported in words."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Runs `work`; an error ends it without an undo step."""
        try:
            self.work(context)
        except GenesisError as error:
            session.error = error
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def work(self, context: bpy.types.Context) -> None:
        """What the operator does."""
        raise NotImplementedError


class GENESIS_OT_add_pictures(_Operator):
    """Add picture files to the list; several are views of one object"""

    bl_idname = "genesis.add_pictures"
    bl_label = "Add Pictures"
    bl_options = {"UNDO"}

    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(default=PICTURE_FILTER, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Opens the file browser."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends the chosen files."""
        names = [item.name for item in self.files if item.name]
        paths = [str(Path(self.directory) / name) for name in names] or ([self.filepath] if self.filepath else [])
        if not paths:
            raise GenesisError(ErrorCode.BAD_IMAGE, "No picture was chosen.", "Choose one or several picture files.")
        settings = context.scene.genesis
        for path in paths:
            picture = settings.pictures.add()
            picture.path, picture.name = path, Path(path).name
        settings.active_picture = len(settings.pictures) - 1


class GENESIS_OT_remove_picture(_Operator):
    """Remove the selected picture from the list; the file stays"""

    bl_idname = "genesis.remove_picture"
    bl_label = "Remove Picture"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs a picture."""
        return len(context.scene.genesis.pictures) > 0

    def work(self, context: bpy.types.Context) -> None:
        """Removes it and selects its neighbour."""
        settings = context.scene.genesis
        settings.pictures.remove(settings.active_picture)
        settings.active_picture = max(0, min(settings.active_picture, len(settings.pictures) - 1))


class GENESIS_OT_generate(_Operator):
    """Make a textured mesh from the pictures; it appears at the 3D cursor"""

    bl_idname = "genesis.generate"
    bl_label = "Generate"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Sends the job and leaves a placeholder."""
        scene = context.scene.genesis
        paths = [picture.absolute() for picture in scene.pictures]
        if not paths:
            raise GenesisError(ErrorCode.BAD_IMAGE, "There is no picture in the list.", "Add one with the + button.")
        for path in paths:
            if not Path(path).is_file():
                raise GenesisError(ErrorCode.BAD_IMAGE, f"The picture {path} does not exist.", "Remove it or put it back.")
        if scene.randomize_seed:
            scene.settings.seed = random.randint(0, MAX_SEED)
        settings, model, name = scene.settings.to_settings(), preferences().model or MINI, _asset_name(paths[0])
        changes = changes_from(preset(scene.preset), settings)
        key = session.submit(Submit(tuple(paths), name, model, scene.preset, changes), name)
        memory = importer.add_placeholder(context, name).genesis
        memory.job, memory.model, memory.preset, memory.pictures = key, model, scene.preset, json.dumps(paths)
        memory.store(settings)


class _AssetOperator(_Operator):
    """Works on the active object, which Genesis has made."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs a result that is not being worked on."""
        item = context.active_object
        if item is None or not item.genesis.imported:
            cls.poll_message_set("Select an object made by Genesis")
            return False
        if item.genesis.job:
            cls.poll_message_set("This object is being worked on")
            return False
        return True

    def work(self, context: bpy.types.Context) -> None:
        """Sends the job and notes on the object what it will be."""
        item = context.active_object
        memory = item.genesis
        changes = self.changes(memory)
        settings = memory.settings().with_values(changes)
        folder = str(Path(bpy.path.abspath(memory.asset)))
        memory.job = session.submit(self.request(folder, changes), item.name)
        memory.store(settings)

    def changes(self, memory: Any) -> dict[str, Any]:
        """The settings to change, by dotted name."""
        raise NotImplementedError

    request: Any


class GENESIS_OT_rebake(_AssetOperator):
    """Make mesh and textures again with these settings, without generating again"""

    bl_idname = "genesis.rebake"
    bl_label = "Re-bake"
    bl_options = {"UNDO"}
    request = Rebake

    def changes(self, memory: Any) -> dict[str, Any]:
        """All of the bake settings, as the Result panel shows them."""
        return {f"bake.{name}": value for name, value in memory.bake.values().items()}


class GENESIS_OT_regenerate_texture(_AssetOperator):
    """Make another texture on the same shape"""

    bl_idname = "genesis.regenerate_texture"
    bl_label = "New Texture"
    bl_options = {"UNDO"}
    request = Regenerate

    seed: IntProperty(
        name="Seed",
        description="Seed of the texture; -1 takes a random one",
        default=-1,
        min=-1,
        max=MAX_SEED,
        options={"SKIP_SAVE"},
    )

    def changes(self, memory: Any) -> dict[str, Any]:
        """The texture seed."""
        return {"texture_seed": self.seed if self.seed >= 0 else random.randint(0, MAX_SEED)}


class GENESIS_OT_use_settings(_Operator):
    """Show the settings of this object above, to generate another one like it"""

    bl_idname = "genesis.use_settings"
    bl_label = "Use Settings"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs an object made by Genesis."""
        return context.active_object is not None and context.active_object.genesis.imported

    def work(self, context: bpy.types.Context) -> None:
        """Copies preset, settings and pictures."""
        memory, scene = context.active_object.genesis, context.scene.genesis
        scene.preset = memory.preset
        scene.settings.assign(memory.settings())
        scene.pictures.clear()
        for path in memory.picture_paths():
            picture = scene.pictures.add()
            picture.path, picture.name = path, Path(path).name
        scene.active_picture = 0


class _JobOperator(_Operator):
    """Works on one job, by the key that its object carries; by default that of the active object, or the only one."""

    bl_options = {"INTERNAL"}

    job: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def key(self, context: bpy.types.Context) -> str:
        """The job's key.

        Raises:
            GenesisError: JOB_UNKNOWN.
        """
        item = context.active_object
        key = session.resolve(self.job or (item.genesis.job if item is not None else ""))
        open_keys = [task.key for task in session.tasks.values() if not task.delivered]
        if not key and len(open_keys) == 1:
            key = open_keys[0]
        if key not in session.tasks:
            raise GenesisError(ErrorCode.JOB_UNKNOWN, "There is no such job.", "Select the object that waits for it.")
        return key


class GENESIS_OT_cancel(_JobOperator):
    """Stop this job; finished stages are kept in its folder"""

    bl_idname = "genesis.cancel"
    bl_label = "Cancel"

    def work(self, context: bpy.types.Context) -> None:
        """Asks the server; the placeholder goes when the job has ended."""
        session.cancel(self.key(context))


class GENESIS_OT_retry(_JobOperator):
    """Run this job again from its first unfinished stage"""

    bl_idname = "genesis.retry"
    bl_label = "Try Again"

    def work(self, context: bpy.types.Context) -> None:
        """Queues it again."""
        session.retry(self.key(context))


class GENESIS_OT_discard(_JobOperator):
    """Forget this job and remove its placeholder"""

    bl_idname = "genesis.discard"
    bl_label = "Discard"
    bl_options = {"INTERNAL", "UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Forgets it."""
        session.discard(self.key(context))


class GENESIS_OT_import_result(_JobOperator):
    """Import the finished result of this placeholder, which undo has brought back"""

    bl_idname = "genesis.import_result"
    bl_label = "Import Result"

    def work(self, context: bpy.types.Context) -> None:
        """Lets the next step import it."""
        session.deliver_again(self.key(context))


class GENESIS_OT_use_mini(_Operator):
    """Choose the small model that comes with Genesis for what is generated from now on"""

    bl_idname = "genesis.use_mini"
    bl_label = "Use genesis-mini"

    def work(self, _context: bpy.types.Context) -> None:
        """Changes the preference."""
        preferences().model = MINI
        session.error = None
        self.report({"INFO"}, "genesis-mini is chosen; press Generate")


class GENESIS_OT_start_server(_Operator):
    """Start the Genesis server on this computer"""

    bl_idname = "genesis.start_server"
    bl_label = "Start Server"

    def work(self, _context: bpy.types.Context) -> None:
        """Starts it and returns."""
        session.start()


class GENESIS_OT_stop_server(_Operator):
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


class GENESIS_OT_open_log(_Operator):
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


class GENESIS_OT_dismiss_error(_Operator):
    """Hide this message"""

    bl_idname = "genesis.dismiss_error"
    bl_label = "Dismiss"
    bl_options = {"INTERNAL"}

    def work(self, _context: bpy.types.Context) -> None:
        """Forgets it."""
        session.error = None


class GENESIS_OT_open_preferences(_Operator):
    """Open the preferences of the extension"""

    bl_idname = "genesis.open_preferences"
    bl_label = "Open Preferences"

    def work(self, _context: bpy.types.Context) -> None:
        """Shows them."""
        bpy.ops.preferences.addon_show(module=__package__)


_CLASSES = (
    GENESIS_OT_add_pictures,
    GENESIS_OT_remove_picture,
    GENESIS_OT_generate,
    GENESIS_OT_rebake,
    GENESIS_OT_regenerate_texture,
    GENESIS_OT_use_settings,
    GENESIS_OT_cancel,
    GENESIS_OT_retry,
    GENESIS_OT_discard,
    GENESIS_OT_import_result,
    GENESIS_OT_use_mini,
    GENESIS_OT_start_server,
    GENESIS_OT_stop_server,
    GENESIS_OT_open_log,
    GENESIS_OT_dismiss_error,
    GENESIS_OT_open_preferences,
)


def register() -> None:
    """Adds the operators."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Takes them away."""
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
