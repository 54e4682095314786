# SPDX-License-Identifier: GPL-3.0-or-later
"""New textures on a mesh that is there."""

import json
import time

import bpy

from genesis_server.protocol.connection import home_folder

from ..lazy import glb_export, messages
from ..properties import GenesisScene, main_mesh, memory_of
from ..session import session
from .base import GenesisOperator
from .generate import asset_name, listed_pictures, make_request, remember

FOLDER = "meshes"


class GENESIS_OT_texture_mesh(GenesisOperator):
    """Make textures for the selected mesh from the pictures: on its own UVs, or on new ones where it has none"""

    bl_idname = "genesis.texture_mesh"
    bl_label = "Texture Selected Mesh"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Needs a mesh that is not being worked on, in Object Mode."""
        item = context.active_object
        if item is None or item.type != "MESH" or item.mode != "OBJECT":
            cls.poll_message_set("Select a mesh in Object Mode")
            return False
        memory = memory_of(item)
        if memory is not None and memory.job:
            cls.poll_message_set("This object is being worked on")
            return False
        return True

    def work(self, context: bpy.types.Context) -> None:
        """Writes the mesh for the server and sends the job; the mesh stays as it is until the textures come."""
        scene: GenesisScene = context.scene.genesis
        pictures = listed_pictures(scene)
        settings = scene.settings.to_settings()
        item = context.active_object
        mesh = main_mesh(item.data)
        path = home_folder() / FOLDER / f"{asset_name(item.name)} {time.strftime('%Y%m%d-%H%M%S')}.glb"
        glb_export.write_mesh(path, mesh)
        made = make_request(scene, pictures, asset_name(item.name), settings)
        request = messages.TextureMesh(
            str(path), made.pictures, made.asset, made.model, made.preset, made.changes, made.backgrounds
        )
        memory = mesh.genesis
        memory.job = session.submit(request, item.name)
        memory.textured, memory.imported, memory.asset = True, False, ""
        remember(memory, scene, pictures, settings, "")
        memory.pictures = json.dumps(pictures)


CLASSES = (GENESIS_OT_texture_mesh,)
