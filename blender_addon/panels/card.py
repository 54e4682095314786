# SPDX-License-Identifier: GPL-3.0-or-later
"""The card at the top of the tab while something is missing that Generate needs, with one button for each missing thing."""

from __future__ import annotations

import bpy

from ..lazy import messages
from ..preferences import MINI, preferences
from ..questions import questions
from ..rows import listed
from ..session import session
from ..setup import setup
from ..task import DOWNLOAD
from . import draw

ABSENT = ("absent", "incomplete")


def draw_card(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Nothing, where nothing is missing."""
    if setup.running:
        _draw_progress(layout.box(), context)
    elif setup.outdated:
        _draw_update(layout.box(), context)
    elif not session.connected and not setup.ready:
        _draw_install(layout.box(), context)
    elif session.connected:
        _draw_weights(layout, context)


def _draw_progress(box: bpy.types.UILayout, context: bpy.types.Context) -> None:
    box.label(text="Installing the Server", icon="IMPORT")
    status = setup.work.status() if setup.work is not None else None
    row = box.row(align=True)
    row.progress(
        factor=status.fraction if status is not None else 0.0,
        type="BAR",
        text=status.title if status is not None else "Looking at this computer",
    )
    if status is not None:
        row.operator("genesis.cancel_install", text="", icon="X")
        draw.paragraph(box, context, f"{setup.found.summary()}.")
        if status.line:
            draw.paragraph(box, context, status.line)


def _draw_install(box: bpy.types.UILayout, context: bpy.types.Context) -> None:
    box.label(text="Set Up Genesis", icon="TOOL_SETTINGS")
    error = setup.error
    if error is None:
        draw.paragraph(
            box,
            context,
            "The server that makes the meshes is a program of its own. It is installed once, with torch for your GPU.",
        )
    else:
        draw.paragraph(box, context, error.message, "ERROR")
        draw.paragraph(box, context, error.remedy)
    column = box.column(align=True)
    if error is not None and error.action in draw.REMEDIES:
        operator, icon = draw.REMEDIES[error.action]
        column.operator(operator, icon=icon)
    if not bpy.app.online_access:
        column.operator("genesis.allow_online", icon="INTERNET")
    column.operator("genesis.install_server", text="Install Server" if error is None else "Go On", icon="IMPORT")
    column.operator("genesis.open_preferences", text="Use an Existing Python", icon="PREFERENCES")


def _draw_update(box: bpy.types.UILayout, context: bpy.types.Context) -> None:
    box.label(text="Update the Server", icon="FILE_REFRESH")
    words = "The installed server belongs to another release of the extension. Only what has changed is installed again."
    draw.paragraph(box, context, words)
    if setup.error is not None:
        draw.paragraph(box, context, str(setup.error), "ERROR")
    if not bpy.app.online_access:
        box.operator("genesis.allow_online", icon="INTERNET")
    box.operator("genesis.install_server", text="Update Server", icon="IMPORT")


def _draw_weights(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    model = questions.model()
    if model is None or model.state not in ABSENT or any(_is_download(task) for task in listed()):
        return
    box = layout.box()
    box.label(text="Weights Are Missing", icon="IMPORT")
    draw.paragraph(box, context, weights_words(model, questions.free_bytes))
    for repository in model.gated:
        draw.paragraph(box, context, f"{repository} first asks you to accept its licence on its page.", "INFO")
        box.operator("wm.url_open", text="Open Its Page", icon="URL").url = f"https://huggingface.co/{repository}"
    if model.gated:
        draw.split_column(box).prop(preferences(), "token")
    column = box.column(align=True)
    if not bpy.app.online_access:
        column.operator("genesis.allow_online", icon="INTERNET")
    column.operator("genesis.download_weights", icon="IMPORT")
    if (preferences().model or MINI) != MINI:
        column.operator("genesis.use_mini", icon="MESH_ICOSPHERE")


def weights_words(model: messages.ModelInfo, free_bytes: int) -> str:
    """What a download will bring, before it is asked for."""
    size = f"{model.missing_bytes / 1e9:.1f} GB" if model.missing_bytes else "an unknown size"
    free = f", {free_bytes / 1e9:.0f} GB free" if free_bytes else ""
    return f"{model.id}: {size} to download{free}."


def _is_download(task: object) -> bool:
    return task.error is None and task.info is not None and task.info.kind == DOWNLOAD
