# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel's buttons do, and scripts as well (docs/scripting.md)."""

from __future__ import annotations

import bpy

from . import asset, generate, jobs, pictures, presets, server, setup, texture, variants

_CLASSES = (
    *pictures.CLASSES,
    *generate.CLASSES,
    *asset.CLASSES,
    *variants.CLASSES,
    *texture.CLASSES,
    *jobs.CLASSES,
    *presets.CLASSES,
    *server.CLASSES,
    *setup.CLASSES,
)


def register() -> None:
    """Adds the operators."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Takes them away."""
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
