# SPDX-License-Identifier: GPL-3.0-or-later
"""The folded panels with all settings: of the selected asset where the tab shows one, of the next new object otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

import bpy

from genesis_server.protocol.parameters import SAMPLED_STAGES, BakeSettings, SamplerSettings

from .. import page
from ..settings import GenesisSettings
from . import draw
from .main import SidebarPanel


def shown(context: bpy.types.Context) -> GenesisSettings:
    """The settings that the panels edit."""
    memory = page.shown_asset(context)
    return memory.settings if memory is not None else context.scene.genesis.settings


def _column(panel: Any, context: bpy.types.Context) -> bpy.types.UILayout:
    """Two columns; greyed while the shown asset is being worked on."""
    column = draw.split_column(panel.layout)
    memory = page.shown_asset(context)
    column.enabled = memory is None or not memory.job
    return column


class GENESIS_PT_sampling(SidebarPanel, bpy.types.Panel):
    """Settings of the three sampling stages."""

    bl_label = "Sampling"
    bl_parent_id = "GENESIS_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """What concerns all stages."""
        column, settings = _column(self, context), shown(context)
        draw.value(column, settings, "resolution")
        if page.shown_asset(context) is None:
            draw.value(column, settings, "texture_seed")
        for name in ("multi_view", "speed", "texture_precision"):
            draw.value(column, settings, name)


def _stage_panel(stage: str) -> type:
    """A folded panel with the sampler settings of one stage."""

    def draw_stage(self: Any, context: bpy.types.Context) -> None:
        column, sampler = _column(self, context), getattr(shown(context), stage)
        for item in dataclasses.fields(SamplerSettings):
            draw.value(column, sampler, item.name, f"{stage}.")

    members = {
        "bl_label": stage.title(),
        "bl_parent_id": "GENESIS_PT_sampling",
        "bl_options": {"DEFAULT_CLOSED"},
        "draw": draw_stage,
        "__doc__": f"Sampler settings of the {stage} stage.",
    }
    return type(f"GENESIS_PT_{stage}", (SidebarPanel, bpy.types.Panel), members)


class GENESIS_PT_bake(SidebarPanel, bpy.types.Panel):
    """Mesh and textures."""

    bl_label = "Mesh and Texture"
    bl_parent_id = "GENESIS_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """The bake settings."""
        column, bake = _column(self, context), shown(context).bake
        for item in dataclasses.fields(BakeSettings):
            draw.value(column, bake, item.name, "bake.")


class GENESIS_PT_object(SidebarPanel, bpy.types.Panel):
    """How results come into the scene."""

    bl_label = "Object"
    bl_parent_id = "GENESIS_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Of the next new object, or of the selected one."""
        memory, scene = page.shown_asset(context), context.scene.genesis
        column = draw.split_column(self.layout)
        if memory is None:
            column.prop(scene, "size")
            column.prop(scene, "collection")
            column.prop(scene, "textures")
            column.prop(scene, "mark_asset")
            return
        column.prop(memory, "asset", text="Asset Folder")
        column = self.layout.column(align=True)
        column.operator("genesis.use_settings", icon="COPYDOWN")
        column.operator("genesis.mark_assets", icon="ASSET_MANAGER")
        column.operator("genesis.mark_assets", text="Mark All as Assets").every = True


CLASSES = (
    GENESIS_PT_sampling,
    *(_stage_panel(stage) for stage in SAMPLED_STAGES),
    GENESIS_PT_bake,
    GENESIS_PT_object,
)
