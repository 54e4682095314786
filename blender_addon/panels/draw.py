# SPDX-License-Identifier: GPL-3.0-or-later
"""What several panels draw alike: values with their reset arrow, facts, errors with their remedy as a button."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import blf
import bpy

from genesis_server.protocol.errors import GenesisError, Remedy

from ..settings import label_of, model_default, optional
from ..task import Task

REMEDIES = {
    Remedy.USE_MINI: ("genesis.use_mini", "MESH_ICOSPHERE"),
    Remedy.OPEN_LOG: ("genesis.open_log", "TEXT"),
    Remedy.START_SERVER: ("genesis.start_server", "PLAY"),
    Remedy.DOWNLOAD_WEIGHTS: ("genesis.download_weights", "IMPORT"),
    Remedy.INSTALL_SERVER: ("genesis.install_server", "IMPORT"),
    Remedy.ALLOW_ONLINE: ("genesis.allow_online", "INTERNET"),
}
_MARGIN, _MARGIN_CLOSE = 68, 92  # pixels beside words in a box, and beside those with a cross to close them
UNBOXED = 46  # beside words in no box


def split_column(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """Blender's own two columns, names left and values right."""
    column = layout.column()
    column.use_property_split, column.use_property_decorate = True, False
    return column


def value(layout: bpy.types.UILayout, group: Any, name: str, prefix: str = "", arrow: bool = True) -> None:
    """One setting; greyed while the model's own default holds, with an arrow back to the default where it differs.

    Args:
        group: property group of a settings class.
        name: the parameter.
        prefix: dotted name of the group within the settings, with its dot.
        arrow: whether there is a way back to the default.
    """
    item: dataclasses.Field = group.settings.__dataclass_fields__[name]
    differs = group.differs(name)
    row = layout.row(align=True)
    field = row.row(align=True)
    field.active = differs or not optional(item)
    if optional(item) or item.default is not None:
        field.prop(group, name, text=label_of(name))
    else:  # text that is empty for the model's own
        field.prop(group, name, text=label_of(name), placeholder=str(model_default(group, name) or ""))
    if differs and arrow:
        row.operator("genesis.reset_value", text="", icon="LOOP_BACK", emboss=False).name = prefix + name
    else:
        row.label(text="", icon="BLANK1")


def facts(layout: bpy.types.UILayout, rows: Iterable[tuple[str, str]]) -> None:
    """Names and what they are, as read-only as they look."""
    column = layout.column(align=True)
    for name, words in rows:
        row = column.split(factor=0.4, align=True)
        left = row.row()
        left.alignment = "RIGHT"
        left.active = False
        left.label(text=name)
        row.label(text=words)


def paragraph(
    layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "NONE", margin: int = _MARGIN
) -> None:
    """Words over as many lines as the sidebar needs."""
    margin += 0 if icon == "NONE" else 20
    scale = context.preferences.system.ui_scale
    size = context.preferences.ui_styles[0].widget.points * scale
    column = layout.column(align=True)
    for index, line in enumerate(wrapped(text, int(context.region.width - margin * scale), size)):
        column.label(text=line, icon=icon if index == 0 or icon == "NONE" else "BLANK1")


@lru_cache(64)
def wrapped(text: str, width: int, size: float) -> tuple[str, ...]:
    """Words as lines that are at most so many pixels wide, in the interface's font at a size in pixels."""
    blf.size(0, size)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and blf.dimensions(0, longer)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)


def error_box(
    layout: bpy.types.UILayout, context: bpy.types.Context, error: GenesisError, dismiss: str, task: Task | None = None
) -> None:
    """An error in words, a cross to hide it, and the ways on as buttons."""
    box = layout.box()
    row = box.row()
    words = row.column(align=True)
    paragraph(words, context, f"{task.title}: {error.message}" if task is not None else error.message, "ERROR", _MARGIN_CLOSE)
    if error.remedy:
        paragraph(words, context, error.remedy, "BLANK1", _MARGIN_CLOSE)
    close = row.operator(dismiss, text="", icon="X", emboss=False)
    if task is not None:
        close.job = task.key
    buttons = box.row(align=True)
    if error.action in REMEDIES:
        operator, icon = REMEDIES[error.action]
        buttons.operator(operator, icon=icon)
    if "Python" in error.remedy or "preferences" in error.remedy:
        buttons.operator("genesis.open_preferences", icon="PREFERENCES")
    if task is not None:
        buttons.operator("genesis.retry", icon="FILE_REFRESH").job = task.key
