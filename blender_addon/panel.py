# SPDX-License-Identifier: GPL-3.0-or-later
"""The "Genesis" tab of the 3D viewport's sidebar: pictures, settings, jobs, the active object's result, the server.

Drawing reads the session and computes nothing. Errors stand where the user looks, in words, with their remedy as a button.
"""

from __future__ import annotations

import dataclasses
import textwrap
import time
from typing import Any

import bpy
import bpy.utils.previews

from genesis_server.protocol.errors import GenesisError, Remedy
from genesis_server.protocol.messages import JobState
from genesis_server.protocol.parameters import SAMPLED_STAGES, SamplerSettings

from .preferences import MINI, preferences
from .session import Task, session

_STAGE_WORDS = {
    "cutout": "Cutting out",
    "structure": "Structure",
    "shape": "Shape",
    "texture": "Texture",
    "voxels": "Voxels",
    "mesh": "Mesh",
    "bake": "Baking",
}
_REMEDIES = {
    Remedy.USE_MINI: ("genesis.use_mini", "MESH_ICOSPHERE"),
    Remedy.OPEN_LOG: ("genesis.open_log", "TEXT"),
    Remedy.START_SERVER: ("genesis.start_server", "PLAY"),
}
_CHARACTER_WIDTH = 7.0  # pixels of an average letter at the interface's normal size
_previews: bpy.utils.previews.ImagePreviewCollection | None = None


class GENESIS_UL_pictures(bpy.types.UIList):
    """One line for each picture."""

    def draw_item(self, _context: Any, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str) -> None:
        """Its thumbnail and file name."""
        layout.label(text=item.name, icon_value=_thumbnail(item.absolute()))


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Genesis"


class GENESIS_PT_main(_Panel, bpy.types.Panel):
    """Pictures in, an object out."""

    bl_label = "Genesis"

    def draw(self, context: bpy.types.Context) -> None:
        """Pictures, preset, seed, Generate, and what is going on."""
        layout, scene = self.layout, context.scene.genesis
        _draw_pictures(layout, scene)
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(scene, "preset")
        row = column.row(align=True)
        row.prop(scene.settings, "seed")
        row.prop(scene, "randomize_seed", text="", icon="FILE_REFRESH")
        row = layout.row()
        row.scale_y = 1.5
        row.enabled = len(scene.pictures) > 0
        row.operator("genesis.generate", icon="SHADERFX")
        if session.error is not None:
            _draw_error(layout, context, session.error, "genesis.dismiss_error")
        for task in session.tasks.values():
            if not task.delivered:
                _draw_task(layout, context, task)


class GENESIS_PT_sampling(_Panel, bpy.types.Panel):
    """Settings of the three sampling stages."""

    bl_label = "Sampling"
    bl_parent_id = "GENESIS_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """What concerns all stages."""
        layout, settings = self.layout, context.scene.genesis.settings
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(settings, "resolution")
        _draw_optional(layout, settings, "texture_seed", "Texture Seed")
        if len(context.scene.genesis.pictures) > 1:
            layout.prop(settings, "multi_view")


def _stage_panel(stage: str) -> type:
    """A folded panel with the sampler settings of one stage."""

    def draw(self: Any, context: bpy.types.Context) -> None:
        layout, sampler = self.layout, getattr(context.scene.genesis.settings, stage)
        layout.use_property_split, layout.use_property_decorate = True, False
        for item in dataclasses.fields(SamplerSettings):
            _draw_optional(layout, sampler, item.name, sampler.bl_rna.properties[item.name].name)

    members = {
        "bl_label": stage.title(),
        "bl_parent_id": "GENESIS_PT_sampling",
        "bl_options": {"DEFAULT_CLOSED"},
        "draw": draw,
        "__doc__": f"Sampler settings of the {stage} stage.",
    }
    return type(f"GENESIS_PT_{stage}", (_Panel, bpy.types.Panel), members)


class GENESIS_PT_output(_Panel, bpy.types.Panel):
    """Mesh and textures of the next result, and how its pictures are read."""

    bl_label = "Mesh and Texture"
    bl_parent_id = "GENESIS_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Bake settings and background."""
        layout, settings = self.layout, context.scene.genesis.settings
        layout.use_property_split, layout.use_property_decorate = True, False
        _draw_bake(layout, settings.bake)
        layout.prop(settings, "background")


class GENESIS_PT_result(_Panel, bpy.types.Panel):
    """How the active object was made, and what can be done with it."""

    bl_label = "Result"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for objects made by Genesis."""
        item = context.active_object
        return item is not None and (item.genesis.imported or bool(item.genesis.job))

    def draw(self, context: bpy.types.Context) -> None:
        """Its settings, Re-bake and New Texture."""
        layout, item = self.layout, context.active_object
        memory = item.genesis
        _draw_facts(layout, item)
        if not memory.imported:
            task = session.task_of(item)
            if task is not None and task.delivered:
                layout.operator("genesis.import_result", icon="IMPORT").job = task.key
            return
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        _draw_bake(column, memory.bake)
        column = layout.column(align=True)
        column.operator("genesis.rebake", icon="RENDER_STILL")
        column.operator("genesis.regenerate_texture", icon="TEXTURE")
        column.operator("genesis.use_settings", icon="COPYDOWN")
        column = layout.column()
        column.use_property_decorate = False
        column.prop(memory, "asset", text="")


class GENESIS_PT_server(_Panel, bpy.types.Panel):
    """The server and its model."""

    bl_label = "Server"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        """Its state, also while the panel is folded."""
        self.layout.label(text=session.state)

    def draw(self, _context: bpy.types.Context) -> None:
        """Start, stop, log, model."""
        layout, chosen = self.layout, preferences()
        row = layout.row(align=True)
        if session.connected:
            row.operator("genesis.stop_server", icon="SNAP_FACE")
        else:
            starting = row.row(align=True)
            starting.enabled = session.launch is None
            starting.operator("genesis.start_server", icon="PLAY")
        row.operator("genesis.open_log", text="", icon="TEXT")
        row.operator("genesis.open_preferences", text="", icon="PREFERENCES")
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(chosen, "model", placeholder=MINI)
        column.prop(chosen, "keep_running")


def _draw_pictures(layout: Any, scene: Any) -> None:
    row = layout.row()
    row.template_list("GENESIS_UL_pictures", "", scene, "pictures", scene, "active_picture", rows=3)
    column = row.column(align=True)
    column.operator("genesis.add_pictures", text="", icon="ADD")
    column.operator("genesis.remove_picture", text="", icon="REMOVE")
    if 0 <= scene.active_picture < len(scene.pictures):
        icon = _thumbnail(scene.pictures[scene.active_picture].absolute())
        if icon:
            layout.template_icon(icon_value=icon, scale=5.0)


def _draw_optional(layout: Any, owner: Any, name: str, label: str) -> None:
    """A value with its switch: off means the model's default."""
    row = layout.row(heading=label, align=False)
    row.prop(owner, f"use_{name}", text="")
    value = row.row(align=True)
    value.active = getattr(owner, f"use_{name}")
    value.prop(owner, name, text="")


def _draw_bake(layout: Any, bake: Any) -> None:
    column = layout.column()
    column.prop(bake, "faces")
    column.prop(bake, "texture_size")
    column.prop(bake, "alpha")


def _draw_facts(layout: Any, item: bpy.types.Object) -> None:
    memory = item.genesis
    settings = memory.settings()
    facts = [
        ("Model", memory.model.replace("\\", "/").rpartition("/")[2]),
        ("Preset", memory.preset.title()),
        ("Seed", str(settings.seed)),
    ]
    if settings.texture_seed is not None:
        facts.append(("Texture Seed", str(settings.texture_seed)))
    if item.type == "MESH":
        facts.append(("Mesh", f"{len(item.data.polygons):,} faces"))
    for stage in SAMPLED_STAGES:
        overrides = getattr(settings, stage).overrides()
        if overrides:
            words = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in overrides.items())
            facts.append((stage.title(), words))
    split = layout.column(align=True)
    for name, value in facts:
        row = split.split(factor=0.4, align=True)
        left = row.row()
        left.alignment = "RIGHT"
        left.active = False
        left.label(text=name)
        row.label(text=value)


def _number(value: Any) -> str:
    return "–".join(f"{part:g}" for part in value) if isinstance(value, (list, tuple)) else f"{value:g}"


def _draw_task(layout: Any, context: bpy.types.Context, task: Task) -> None:
    """A job: its progress with a cross to cancel it, or its error with the ways on."""
    if task.error is not None:
        _draw_error(layout, context, task.error, "genesis.discard", task)
        return
    info = task.info
    row = layout.row(align=True)
    fraction = info.fraction if info is not None else 0.0
    row.progress(factor=fraction, type="BAR", text=f"{task.title}: {_progress_words(task)}")
    cancel = row.row(align=True)
    cancel.enabled = not task.cancelled
    cancel.operator("genesis.cancel", text="", icon="X").job = task.key


def _progress_words(task: Task) -> str:
    info = task.info
    if task.cancelled:
        return "cancelling"
    if info is None:
        return {"Starting": "starting the server"}.get(session.state, "sending")
    if not session.connected:
        return "waiting for the server"
    if info.state == JobState.QUEUED:
        return "waiting its turn"
    if info.state == JobState.FINISHED:
        return "waiting for Object Mode"
    words = _STAGE_WORDS.get(info.stage, "loading the model")
    steps = f" {info.step}/{info.steps}" if info.steps else ""
    seconds = max(0.0, time.time() - info.started) if info.started else 0.0
    return f"{words}{steps}, {seconds:.0f} s"


def _draw_error(layout: Any, context: bpy.types.Context, error: GenesisError, dismiss: str, task: Task | None = None) -> None:
    box = layout.box()
    row = box.row()
    column = row.column(align=True)
    width = max(20, int((context.region.width / context.preferences.system.ui_scale - 90) / _CHARACTER_WIDTH))
    words = f"{task.title}: {error.message}" if task is not None else error.message
    lines = textwrap.wrap(words, width)
    remedy = textwrap.wrap(error.remedy, width)
    for index, line in enumerate(lines):
        column.label(text=line, icon="ERROR" if index == 0 else "BLANK1")
    for line in remedy:
        column.label(text=line, icon="BLANK1")
    close = row.operator(dismiss, text="", icon="X", emboss=False)
    if task is not None:
        close.job = task.key
    buttons = box.row(align=True)
    if error.action in _REMEDIES:
        operator, icon = _REMEDIES[error.action]
        buttons.operator(operator, icon=icon)
    if "Python" in error.remedy or "preferences" in error.remedy:
        buttons.operator("genesis.open_preferences", icon="PREFERENCES")
    if task is not None:
        buttons.operator("genesis.retry", icon="FILE_REFRESH").job = task.key


def _thumbnail(path: str) -> int:
    """Icon of a picture file; Blender reads it in the background."""
    if path not in _previews:
        try:
            _previews.load(path, path, "IMAGE")
        except (KeyError, RuntimeError):
            return 0
    return _previews[path].icon_id


_CLASSES = (
    GENESIS_UL_pictures,
    GENESIS_PT_main,
    GENESIS_PT_sampling,
    *(_stage_panel(stage) for stage in SAMPLED_STAGES),
    GENESIS_PT_output,
    GENESIS_PT_result,
    GENESIS_PT_server,
)


def register() -> None:
    """Adds the panels."""
    global _previews
    _previews = bpy.utils.previews.new()
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Takes them away."""
    global _previews
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
    bpy.utils.previews.remove(_previews)
    _previews = None
