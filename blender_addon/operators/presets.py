# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own presets: choose, save, remove."""

import bpy
from bpy.props import StringProperty

from genesis_server.protocol.presets import DEFAULT_PRESET, PRESETS

from .. import page, presets
from .base import GenesisOperator


class GENESIS_OT_use_preset(GenesisOperator):
    """Take the settings of this preset"""

    bl_idname = "genesis.use_preset"
    bl_label = "Use Preset"
    bl_options = {"UNDO", "INTERNAL"}

    name: StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """What it does to the result."""
        return presets.NOTES.get(properties.name, "A preset of your own")

    def work(self, context: bpy.types.Context) -> None:
        """Shows its values."""
        presets.load(self.name)
        context.scene.genesis.preset = self.name


class GENESIS_OT_save_preset(GenesisOperator):
    """Keep these sampling, mesh and texture settings under a name, for all files"""

    bl_idname = "genesis.save_preset"
    bl_label = "Save Preset"

    name: StringProperty(name="Name", description="A preset of the same name is replaced", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the name."""
        current = context.scene.genesis.preset
        self.name = current if current not in PRESETS else "My Preset"
        return context.window_manager.invoke_props_dialog(self)

    def work(self, context: bpy.types.Context) -> None:
        """Writes the settings that the panel shows."""
        memory, scene = page.shown_asset(context), context.scene.genesis
        shown = memory.settings if memory is not None else scene.settings
        presets.save(self.name, shown.to_settings())
        if memory is None:
            scene.preset = self.name.strip()


class GENESIS_OT_remove_preset(GenesisOperator):
    """Delete this preset of your own"""

    bl_idname = "genesis.remove_preset"
    bl_label = "Remove Preset"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Those of Genesis stay."""
        return context.scene.genesis.preset not in PRESETS

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks first."""
        return context.window_manager.invoke_confirm(self, event)

    def work(self, context: bpy.types.Context) -> None:
        """Deletes its file, and shows the default one."""
        presets.remove(context.scene.genesis.preset)
        context.scene.genesis.preset = DEFAULT_PRESET


CLASSES = (GENESIS_OT_use_preset, GENESIS_OT_save_preset, GENESIS_OT_remove_preset)
