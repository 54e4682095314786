# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel at the top of the Genesis tab: the next new object, or the selected one, and the queue below."""

from __future__ import annotations

from typing import Any

import bpy

from .. import forecast_words, model_facts, page, presets, rows, thumbnails
from ..asset_mark import THUMBNAIL
from ..lazy import warm_up
from ..preferences import MINI, preferences
from ..properties import GenesisMemory, GenesisScene, main_mesh, memory_of, variants_of
from ..questions import questions
from ..session import session
from . import card, draw

BIG = 1.5  # height of the one button that matters
MANY = 3  # errors shown at once
VARIANT_COLUMNS, VARIANT_SCALE = 3, 3.5  # of thumbnails beside each other, and their size in rows of text


class SidebarPanel:
    """Where all panels of Genesis are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Genesis"


class GENESIS_UL_pictures(bpy.types.UIList):
    """One line for each picture."""

    def draw_item(self, _context: Any, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str) -> None:
        """Its thumbnail and file name; a sign where the file is gone."""
        icon = thumbnails.icon(item.absolute())
        if icon:
            layout.label(text=item.name, icon_value=icon)
        else:
            layout.alert = True
            layout.label(text=item.name, icon="ERROR")


class GENESIS_UL_jobs(bpy.types.UIList):
    """One line for each job."""

    def draw_item(self, _context: Any, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str) -> None:
        """Its title and progress, with a cross to cancel it."""
        task = session.tasks.get(item.name)
        if task is None:
            return
        row = layout.row(align=True)
        if task.error is not None:
            row.label(text=task.title, icon="ERROR")
            row.operator("genesis.retry", text="", icon="FILE_REFRESH", emboss=False).job = task.key
            row.operator("genesis.discard", text="", icon="X", emboss=False).job = task.key
            return
        words = task.words(session.connected, session.link.launch is not None)
        if task.queued:
            row.label(text=f"{task.title}: {words}", icon="TIME")
        else:
            row.progress(factor=task.fraction, type="BAR", text=f"{task.title}: {words}")
        cancel = row.row(align=True)
        cancel.enabled = not task.cancelled
        cancel.operator("genesis.cancel", text="", icon="X", emboss=False).job = task.key


class GENESIS_MT_add_picture(bpy.types.Menu):
    """Where else pictures can come from"""

    bl_label = "Add Picture From"

    def draw(self, _context: bpy.types.Context) -> None:
        """Blender's own sources."""
        layout = self.layout
        layout.operator("genesis.paste_picture", icon="PASTEDOWN")
        layout.separator()
        layout.operator("genesis.add_image", icon="IMAGE_DATA")
        layout.operator("genesis.add_render", icon="RENDER_STILL")
        layout.operator("genesis.add_viewport", icon="VIEW3D")


class GENESIS_MT_presets(bpy.types.Menu):
    """How much time to spend; choosing one sets the sampling, mesh and texture settings"""

    bl_label = "Preset"

    def draw(self, _context: bpy.types.Context) -> None:
        """Those of Genesis, then the user's own."""
        layout = self.layout
        own = presets.user_names()
        for name in presets.names():
            if own and name == own[0]:
                layout.separator()
            layout.operator("genesis.use_preset", text=presets.title(name)).name = name


class GENESIS_PT_main(SidebarPanel, bpy.types.Panel):
    """Pictures in, an object out."""

    bl_label = "Genesis"

    def draw(self, context: bpy.types.Context) -> None:
        """The page, errors, and the queue."""
        warm_up()  # who looks at the tab is about to use it
        layout, memory = self.layout, page.shown_asset(context)
        card.draw_card(layout, context)
        if memory is not None or page.has_asset(context):
            layout.row().prop(context.window_manager.genesis, "page", expand=True)
        if memory is not None:
            _draw_asset(layout, context, memory)
        else:
            _draw_new(layout, context, context.scene.genesis)
        if session.error is not None:
            draw.error_box(layout, context, session.error, "genesis.dismiss_error")
        _draw_queue(layout, context)


def _draw_new(layout: bpy.types.UILayout, context: bpy.types.Context, scene: GenesisScene) -> None:
    _draw_pictures(layout, context, scene)
    column = draw.split_column(layout)
    _draw_preset(column, scene)
    row = column.row(align=True)
    row.prop(scene.settings, "seed")
    row.operator("genesis.random_seed", text="", icon="FILE_REFRESH")
    row.prop(scene, "lock_seed", text="", icon="LOCKED" if scene.lock_seed else "UNLOCKED")
    column.prop(scene, "variants")
    if scene.variants > 1:
        column.row().prop(scene, "layout", expand=True)
    row = layout.row()
    row.scale_y = BIG
    row.enabled = len(scene.pictures) > 0
    text = "Generate" if scene.variants == 1 else f"Generate {scene.variants} Variants"
    row.operator("genesis.generate", text=text, icon="SHADERFX")
    if limits := model_facts.limits(preferences().model or MINI):
        words = layout.column()
        words.active = False
        draw.paragraph(words, context, limits, "INFO", draw.UNBOXED)
    item = context.active_object
    if item is not None and item.type == "MESH" and scene.pictures and memory_of(item) is None:
        layout.operator("genesis.texture_mesh", text=f"Texture {item.name}", icon="TEXTURE")


def _draw_pictures(layout: bpy.types.UILayout, context: bpy.types.Context, scene: GenesisScene) -> None:
    row = layout.row()
    row.template_list("GENESIS_UL_pictures", "", scene, "pictures", scene, "active_picture", rows=3)
    column = row.column(align=True)
    column.operator("genesis.add_pictures", text="", icon="ADD")
    column.operator("genesis.remove_picture", text="", icon="REMOVE")
    column.separator()
    column.menu("GENESIS_MT_add_picture", text="", icon="DOWNARROW_HLT")
    if not 0 <= scene.active_picture < len(scene.pictures):
        return
    picture = scene.pictures[scene.active_picture]
    cutout = questions.cutout(picture.absolute(), picture.background)
    icon = thumbnails.icon(cutout.path if cutout is not None and cutout.path is not None else picture.absolute())
    if icon:
        layout.template_icon(icon_value=icon, scale=5.0)
    if cutout is not None and cutout.error is not None:
        draw.paragraph(layout, context, str(cutout.error), "ERROR")
    layout.row(align=True).prop(picture, "background", expand=True)


def _draw_preset(column: bpy.types.UILayout, scene: GenesisScene) -> None:
    split = column.split(factor=0.4, align=True)
    left = split.row()
    left.alignment = "RIGHT"
    left.label(text="Preset")
    row = split.row(align=True)
    row.menu("GENESIS_MT_presets", text=presets.title(scene.preset))
    row.operator("genesis.save_preset", text="", icon="ADD")
    row.operator("genesis.remove_preset", text="", icon="REMOVE")


def _draw_asset(layout: bpy.types.UILayout, context: bpy.types.Context, memory: GenesisMemory) -> None:
    item = context.active_object
    task = session.task_of(main_mesh(item.data)) if memory.job else None
    icon = thumbnails.icon(memory.folder() / THUMBNAIL) if memory.asset and not memory.group else 0
    if icon:  # variants show one each
        layout.template_icon(icon_value=icon, scale=5.0)
    _draw_shown(layout, item)
    draw.facts(layout, _facts(item, memory))
    if task is not None and task.delivered:
        layout.operator("genesis.import_result", icon="IMPORT").job = task.key
    column = draw.split_column(layout)
    column.enabled = not memory.job
    draw.value(column, memory.settings, "seed", arrow=False)  # no seed is more of a default than another
    draw.value(column, memory.settings, "texture_seed")
    if not memory.imported:
        return
    column = layout.column(align=True)
    row = column.row(align=True)
    row.scale_y = BIG
    row.operator("genesis.regenerate", icon="FILE_REFRESH")
    if not memory.job:
        row = column.row()
        row.alignment = "CENTER"
        row.label(text=forecast_words.words(memory, questions.forecast(memory)))
    row = layout.row(align=True)
    row.operator("genesis.rebake", icon="RENDER_STILL")
    row.operator("genesis.regenerate_texture", icon="TEXTURE")


def _draw_shown(layout: bpy.types.UILayout, item: bpy.types.Object) -> None:
    """Which variant and which level of detail the object shows."""
    if main_mesh(item.data).genesis.group:
        _draw_variants(layout, item)
    if len(main_mesh(item.data).genesis.levels) > 1:
        draw.split_column(layout).prop(item.genesis, "level")


def _draw_variants(layout: bpy.types.UILayout, item: bpy.types.Object) -> None:
    """A thumbnail for each variant with a button to show it, the shown one pressed."""
    grid = layout.grid_flow(row_major=True, columns=VARIANT_COLUMNS, even_columns=True, align=True)
    shown = main_mesh(item.data)
    for index, mesh in enumerate(variants_of(item)):
        cell = grid.column(align=True)
        icon = thumbnails.icon(mesh.genesis.folder() / THUMBNAIL) if mesh.genesis.imported else 0
        if icon:
            cell.template_icon(icon_value=icon, scale=VARIANT_SCALE)
        else:
            waits = cell.column()
            waits.scale_y = VARIANT_SCALE
            waits.alignment = "CENTER"
            waits.label(text="", icon="TIME")
        button = cell.operator("genesis.show_variant", text=str(index + 1), depress=mesh == shown)
        button.index = index
    layout.operator("genesis.keep_variant", icon="CHECKMARK")


def _facts(item: bpy.types.Object, memory: GenesisMemory) -> list[tuple[str, str]]:
    rows_ = [("Model", memory.model.replace("\\", "/").rpartition("/")[2]), ("Preset", presets.title(memory.preset))]
    if memory.imported:
        rows_.append(("Mesh", f"{len(item.data.polygons):,} faces"))
    return rows_


def _draw_queue(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    tasks = rows.listed()
    if not tasks:
        return
    shown = context.window_manager.genesis_rows
    row = layout.row()
    row.template_list("GENESIS_UL_jobs", "", shown, "jobs", shown, "active", rows=min(len(tasks), 6))
    selected = session.tasks.get(shown.jobs[shown.active].name) if shown.active < len(shown.jobs) else None
    if len(tasks) > 1 and selected is not None:
        column = row.column(align=True)
        column.enabled = selected.queued
        for by, icon in ((-1, "TRIA_UP"), (1, "TRIA_DOWN")):
            operator = column.operator("genesis.move_job", text="", icon=icon)
            operator.job, operator.by = selected.key, by
    for task in [task for task in tasks if task.error is not None][:MANY]:
        draw.error_box(layout, context, task.error, "genesis.discard", task)


CLASSES = (GENESIS_UL_pictures, GENESIS_UL_jobs, GENESIS_MT_add_picture, GENESIS_MT_presets, GENESIS_PT_main)
