# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of pictures: from disk, by dropping, from the clipboard, from Blender itself."""

from pathlib import Path

import bpy
from bpy.props import CollectionProperty, IntProperty, StringProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError

from .. import page
from ..lazy import capture
from .base import GenesisOperator

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def add_picture(context: bpy.types.Context, path: Path) -> None:
    """Appends a picture, selects it, and turns the panel to the next new object."""
    scene = context.scene.genesis
    picture = scene.pictures.add()
    picture.path, picture.name = str(path), path.name
    scene.active_picture = len(scene.pictures) - 1
    page.stay_on_new(context)


class GENESIS_OT_add_pictures(GenesisOperator):
    """Add picture files to the list; several are views of one object"""

    bl_idname = "genesis.add_pictures"
    bl_label = "Add Pictures to Genesis"
    bl_options = {"UNDO"}

    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    filepath: StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Opens the file browser, but not for files that were dropped."""
        if self.files or self.filepath:
            return self.execute(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends the chosen files."""
        names = [item.name for item in self.files if item.name]
        paths = [Path(self.directory) / name for name in names] or ([Path(self.filepath)] if self.filepath else [])
        if not paths:
            raise GenesisError(ErrorCode.BAD_IMAGE, "No picture was chosen.", "Choose one or several picture files.")
        for path in paths:
            add_picture(context, path)


class GENESIS_FH_pictures(bpy.types.FileHandler):
    """Picture files dropped on a 3D viewport or its sidebar; Blender asks whether they are meant for this or as a reference."""

    bl_idname = "GENESIS_FH_pictures"
    bl_label = "Genesis: Mesh from Pictures"
    bl_import_operator = "genesis.add_pictures"
    bl_file_extensions = ";".join(SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Where the tab is."""
        return context.area is not None and context.area.type == "VIEW_3D"


class GENESIS_OT_remove_picture(GenesisOperator):
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
        scene = context.scene.genesis
        scene.pictures.remove(scene.active_picture)
        scene.active_picture = max(0, min(scene.active_picture, len(scene.pictures) - 1))


class GENESIS_OT_move_picture(GenesisOperator):
    """Move the selected picture; the first one gives the object its name"""

    bl_idname = "genesis.move_picture"
    bl_label = "Move Picture"
    bl_options = {"UNDO", "INTERNAL"}

    by: IntProperty(default=1, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs two."""
        return len(context.scene.genesis.pictures) > 1

    def work(self, context: bpy.types.Context) -> None:
        """Moves it, as far as the list goes."""
        scene = context.scene.genesis
        target = max(0, min(scene.active_picture + self.by, len(scene.pictures) - 1))
        scene.pictures.move(scene.active_picture, target)
        scene.active_picture = target


class GENESIS_OT_paste_picture(GenesisOperator):
    """Add the picture in the clipboard, or the picture files whose paths are in it"""

    bl_idname = "genesis.paste_picture"
    bl_label = "Paste from Clipboard"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends what is there."""
        for path in capture.from_clipboard(context):
            add_picture(context, path)


class GENESIS_OT_add_image(GenesisOperator):
    """Add an image of this file"""

    bl_idname = "genesis.add_image"
    bl_label = "Image in Blender"
    bl_options = {"UNDO"}
    bl_property = "image"

    def _images(self, _context: bpy.types.Context) -> list[tuple[str, str, str]]:
        names = [image.name for image in bpy.data.images if image.type not in ("RENDER_RESULT", "COMPOSITING")]
        GENESIS_OT_add_image.kept = [(name, name, "") for name in names]  # Blender needs the texts to stay
        return GENESIS_OT_add_image.kept

    image: bpy.props.EnumProperty(name="Image", items=_images, options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """A search through all images."""
        context.window_manager.invoke_search_popup(self)
        return {"FINISHED"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends it, as a file where it is none."""
        image = bpy.data.images.get(self.image)
        if image is None:
            raise GenesisError(ErrorCode.BAD_IMAGE, "No image of this file was named.", "Choose one, by its name in a script.")
        add_picture(context, capture.from_image(image))


class GENESIS_OT_add_render(GenesisOperator):
    """Add the last render"""

    bl_idname = "genesis.add_render"
    bl_label = "Render Result"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends it as a file."""
        add_picture(context, capture.from_render(context))


class GENESIS_OT_add_viewport(GenesisOperator):
    """Add what the 3D viewport shows, without its overlays"""

    bl_idname = "genesis.add_viewport"
    bl_label = "Viewport"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Appends it as a file."""
        add_picture(context, capture.from_viewport(context))


CLASSES = (
    GENESIS_OT_add_pictures,
    GENESIS_FH_pictures,
    GENESIS_OT_remove_picture,
    GENESIS_OT_move_picture,
    GENESIS_OT_paste_picture,
    GENESIS_OT_add_image,
    GENESIS_OT_add_render,
    GENESIS_OT_add_viewport,
)
