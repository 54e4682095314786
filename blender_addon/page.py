# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of its two faces the panel shows: the next new object, or the selected one that Genesis has made.

Selecting such an object turns the panel to it; pressing New, or adding a picture, turns it back until another one is
selected. This is a matter of the window, not of the file: it is neither saved nor undone.
"""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import EnumProperty, PointerProperty

from .properties import GenesisMemory, memory_of

NEW, ASSET = "NEW", "ASSET"
_ITEMS = (
    (NEW, "New", "The next object to generate"),
    (ASSET, "Selected", "The selected object: how it was made, and to make it anew"),
)
_new_beside = ""  # name of the active object beside which the user wants to see the next new one
_owner = object()  # of the message bus subscription


def shown_asset(context: bpy.types.Context) -> GenesisMemory | None:
    """The memory of the object that the panel shows; None where it shows the next new one."""
    return shown_of(context.active_object)


def shown_of(item: bpy.types.Object | None) -> GenesisMemory | None:
    """The same for the active object of any window."""
    return memory_of(item) if item is not None and item.name != _new_beside else None


def has_asset(context: bpy.types.Context) -> bool:
    """Whether there is another page to turn to."""
    return memory_of(context.active_object) is not None


def stay_on_new(context: bpy.types.Context) -> None:
    """Shows the next new object although one that Genesis has made is active."""
    global _new_beside
    _new_beside = context.active_object.name if context.active_object is not None else ""


def _get_page(_: Any) -> int:
    return int(shown_asset(bpy.context) is not None)


def _set_page(_: Any, number: int) -> None:
    global _new_beside
    if number:
        _new_beside = ""
    else:
        stay_on_new(bpy.context)


class GenesisWindow(bpy.types.PropertyGroup):
    """What is on show."""

    page: EnumProperty(name="Show", items=_ITEMS, get=_get_page, set=_set_page)


def _active_changed() -> None:
    """Another object than the one beside which New was chosen: its page is its own again."""
    global _new_beside
    item = bpy.context.view_layer.objects.active if bpy.context.view_layer else None
    if item is not None and item.name != _new_beside:
        _new_beside = ""


def listen() -> None:
    """Hears of a change of the active object; again after each load of a file."""
    bpy.msgbus.clear_by_owner(_owner)
    bpy.msgbus.subscribe_rna(key=(bpy.types.LayerObjects, "active"), owner=_owner, args=(), notify=_active_changed)


def register() -> None:
    """Adds `WindowManager.genesis`."""
    bpy.utils.register_class(GenesisWindow)
    bpy.types.WindowManager.genesis = PointerProperty(type=GenesisWindow)
    listen()


def unregister() -> None:
    """Takes it away."""
    bpy.msgbus.clear_by_owner(_owner)
    del bpy.types.WindowManager.genesis
    bpy.utils.unregister_class(GenesisWindow)
