# SPDX-License-Identifier: GPL-3.0-or-later
"""Variants of one picture: keep one and let the others go."""

import bpy

from .. import waiting
from ..properties import main_mesh, memory_of
from ..session import session
from .base import GenesisOperator


class GENESIS_OT_keep_variant(GenesisOperator):
    """Keep the variant that is shown or selected, and remove the others; their folders stay on the disk"""

    bl_idname = "genesis.keep_variant"
    bl_label = "Keep This One"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs one of several."""
        memory = memory_of(context.active_object)
        if memory is None or not memory.group:
            cls.poll_message_set("Select one of several variants")
            return False
        return True

    def work(self, context: bpy.types.Context) -> None:
        """Cancels what is still being made of the others, and removes them."""
        item = context.active_object
        kept = main_mesh(item.data)
        group = kept.genesis.group
        others = [mesh for mesh in bpy.data.meshes if mesh.genesis.group == group and mesh != kept]
        for mesh in others:
            task = session.task_of(mesh) if mesh.genesis.job else None
            for other in waiting.objects_of(mesh):
                waiting.drop_variant(other, mesh)
                if main_mesh(other.data) == mesh:
                    bpy.data.objects.remove(other)
            if task is not None and not task.delivered:
                session.cancel(task.key)
            _remove(mesh)
        kept.genesis.group = ""


def _remove(mesh: bpy.types.Mesh) -> None:
    levels = [entry.mesh for entry in mesh.genesis.levels if entry.mesh is not None and entry.mesh != mesh]
    for unused in [*levels, mesh]:
        bpy.data.meshes.remove(unused)


CLASSES = (GENESIS_OT_keep_variant,)
