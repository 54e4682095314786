# SPDX-License-Identifier: GPL-3.0-or-later
"""Variants of one picture: keep one and let the others go."""

import contextlib

import bpy
from bpy.props import IntProperty

from genesis_server.protocol.errors import ErrorCode, GenesisError

from .. import discarded, waiting
from ..properties import main_mesh, memory_of, variants_of
from ..session import session
from .base import GenesisOperator


class GENESIS_OT_keep_variant(GenesisOperator):
    """Keep the variant that is shown or selected, and remove the others with their folders; undo brings them back"""

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
                session.cancel(task.key, unwanted=True)
            folder = mesh.genesis.folder() if mesh.genesis.asset else None
            _remove(mesh)
            if folder is not None:
                discarded.put_aside(folder)
        kept.genesis.group = ""


def _remove(mesh: bpy.types.Mesh) -> None:
    levels = [entry.mesh for entry in mesh.genesis.levels if entry.mesh is not None and entry.mesh != mesh]
    for unused in [*levels, mesh]:
        bpy.data.meshes.remove(unused)


class GENESIS_OT_show_variant(GenesisOperator):
    """Show this variant; where each is an object of its own, select it"""

    bl_idname = "genesis.show_variant"
    bl_label = "Show Variant"
    bl_options = {"UNDO", "INTERNAL"}

    index: IntProperty(description="Which one, from 0", options={"SKIP_SAVE"})

    def work(self, context: bpy.types.Context) -> None:
        """Exchanges the mesh, or the selection."""
        item = context.active_object
        if item is not None and item.genesis.variants:
            item.genesis.variant = self.index
            return
        meshes = variants_of(item)
        if not 0 <= self.index < len(meshes):
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"There is no variant {self.index}.", "Select one of several variants.")
        chosen = waiting.objects_of(meshes[self.index])
        for other in context.selected_objects:
            other.select_set(False)
        if chosen:
            with contextlib.suppress(RuntimeError):  # its collection is excluded from this view layer
                chosen[0].select_set(True)
                context.view_layer.objects.active = chosen[0]


CLASSES = (GENESIS_OT_keep_variant, GENESIS_OT_show_variant)
