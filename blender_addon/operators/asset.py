# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with an object that Genesis has made: make it anew from where its settings changed, take its settings."""

import random
from pathlib import Path

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import MAX_SEED, parameter_names

from .. import page
from ..lazy import asset_mark, messages
from ..properties import GenesisMemory, memory_of
from ..session import session
from ..settings import flattened
from .base import AssetOperator, GenesisOperator

BAKE = "bake."


def resubmit(memory: GenesisMemory, title: str) -> None:
    """Makes an asset anew with the settings that its panel shows; the server re-runs what lies below the first change.

    All settings are sent, not only the changes: a copy of the object may have changed the folder meanwhile.

    Raises:
        GenesisError: BAD_PARAMETER, BAD_ASSET, NOT_CONNECTED.
    """
    wanted = memory.settings.to_settings()
    values = flattened(wanted)
    folder = memory.asset if memory.copy else str(Path(bpy.path.abspath(memory.asset)))
    if not memory.copy and not Path(folder).is_dir():
        raise GenesisError(
            ErrorCode.BAD_ASSET,
            f"The asset's folder {folder} does not exist.",
            "Correct it under Asset Folder in the panel; the object itself is untouched.",
        )
    if all(name.startswith(BAKE) for name in memory.changed()):
        request = messages.Rebake(folder, {name: value for name, value in values.items() if name.startswith(BAKE)})
    else:
        request = messages.Regenerate(folder, values)
    memory.job = session.submit(request, title)
    memory.store(wanted)


class GENESIS_OT_regenerate(AssetOperator):
    """Make this object anew with the settings above; stages that they do not touch are kept"""

    bl_idname = "genesis.regenerate"
    bl_label = "Regenerate"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Sends the changed settings."""
        resubmit(self.memory(context), context.active_object.name)


class GENESIS_OT_rebake(AssetOperator):
    """Make mesh and textures again with the mesh and texture settings, without generating again"""

    bl_idname = "genesis.rebake"
    bl_label = "Re-bake"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Sends the bake settings alone; other changes stay in the panel as they are."""
        memory = self.memory(context)
        wanted = memory.settings.to_settings()
        bake = {f"{BAKE}{name}": value for name, value in memory.settings.bake.values().items()}
        memory.settings.assign(memory.made_with().with_values(bake))
        try:
            resubmit(memory, context.active_object.name)
        finally:
            memory.settings.assign(wanted)


class GENESIS_OT_regenerate_texture(AssetOperator):
    """Make another texture on the same shape"""

    bl_idname = "genesis.regenerate_texture"
    bl_label = "New Texture"
    bl_options = {"UNDO"}

    seed: IntProperty(
        name="Seed",
        description="Seed of the texture; -1 takes a random one",
        default=-1,
        min=-1,
        max=MAX_SEED,
        options={"SKIP_SAVE"},
    )

    def work(self, context: bpy.types.Context) -> None:
        """Sends the texture seed."""
        memory = self.memory(context)
        memory.settings.texture_seed = self.seed if self.seed >= 0 else random.randint(0, MAX_SEED)
        resubmit(memory, context.active_object.name)


class GENESIS_OT_use_settings(AssetOperator):
    """Take pictures and settings of this object for the next new one"""

    bl_idname = "genesis.use_settings"
    bl_label = "Use for New"
    bl_options = {"UNDO"}

    def work(self, context: bpy.types.Context) -> None:
        """Copies preset, settings and pictures, and shows them."""
        memory, scene = self.memory(context), context.scene.genesis
        scene.preset = memory.preset
        scene.settings.assign(memory.made_with())
        scene.pictures.clear()
        for path, background in memory.picture_list():
            picture = scene.pictures.add()
            picture.path, picture.name, picture.background = path, Path(path).name, background
        scene.active_picture = 0
        page.stay_on_new(context)


class GENESIS_OT_revert_settings(AssetOperator):
    """Show the settings again that this object was made with"""

    bl_idname = "genesis.revert_settings"
    bl_label = "Revert Changes"
    bl_options = {"UNDO", "INTERNAL"}

    def work(self, context: bpy.types.Context) -> None:
        """Forgets the changes."""
        memory = self.memory(context)
        memory.settings.assign(memory.made_with())


class GENESIS_OT_reset_value(GenesisOperator):
    """Back to the default"""

    bl_idname = "genesis.reset_value"
    bl_label = "Reset"
    bl_options = {"UNDO", "INTERNAL"}

    name: StringProperty(description="Dotted name of the setting", options={"SKIP_SAVE"})

    def work(self, context: bpy.types.Context) -> None:
        """Resets one value of what the panel shows: the selected asset, or the next new one."""
        memory = page.shown_asset(context)
        group = memory.settings if memory is not None else context.scene.genesis.settings
        if self.name not in parameter_names():
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"There is no setting {self.name!r}.", "Name one, such as shape.steps.")
        *groups, last = self.name.split(".")
        for part in groups:
            group = getattr(group, part)
        group.reset(last)


class GENESIS_OT_mark_assets(GenesisOperator):
    """Show objects made by Genesis in the asset browser, with preview, tags and author"""

    bl_idname = "genesis.mark_assets"
    bl_label = "Mark as Asset"
    bl_options = {"UNDO"}

    every: BoolProperty(name="All", description="All objects of this file that Genesis has made", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Needs a result."""
        return any(_is_result(item) for item in bpy.data.objects)

    def work(self, _context: bpy.types.Context) -> None:
        """Marks the selected ones, or all."""
        items = [item for item in bpy.data.objects if _is_result(item) and (self.every or item.select_get())]
        for item in items:
            asset_mark.mark(item)
        self.report({"INFO"}, f"{len(items)} objects marked as assets")


def _is_result(item: bpy.types.Object) -> bool:
    memory = memory_of(item)
    return memory is not None and memory.imported


CLASSES = (
    GENESIS_OT_regenerate,
    GENESIS_OT_rebake,
    GENESIS_OT_regenerate_texture,
    GENESIS_OT_use_settings,
    GENESIS_OT_revert_settings,
    GENESIS_OT_reset_value,
    GENESIS_OT_mark_assets,
)
