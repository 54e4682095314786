# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate: a job for each variant, and a placeholder in the scene for each."""

import json
import random
from pathlib import Path

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import MAX_SEED, GenerateSettings
from genesis_server.protocol.presets import DEFAULT_PRESET, PRESETS, preset

from .. import page, waiting
from ..lazy import messages, variants
from ..preferences import MINI, preferences
from ..properties import GenesisMemory, GenesisScene
from ..session import session
from ..settings import changes_from
from .base import GenesisOperator

ROW_GAP = 0.25  # of the size, between variants in a row


def asset_name(path: str) -> str:
    """A plain name from a picture's file name: what the server accepts for a folder, and Blender for an object."""
    kept = "".join(sign if sign.isalnum() or sign in "_ .()-" else "_" for sign in Path(path).stem)
    return kept.strip(" .()-")[:60] or "Genesis"


class GENESIS_OT_generate(GenesisOperator):
    """Make a textured mesh from the pictures; it appears at the 3D cursor"""

    bl_idname = "genesis.generate"
    bl_label = "Generate"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Objects are added, which Blender does in Object Mode."""
        if context.mode != "OBJECT":
            cls.poll_message_set("Only in Object Mode")
            return False
        return True

    def work(self, context: bpy.types.Context) -> None:
        """Sends the jobs and leaves placeholders."""
        scene: GenesisScene = context.scene.genesis
        pictures = listed_pictures(scene)
        if not scene.lock_seed:
            scene.settings.seed = random.randint(0, MAX_SEED)
        settings = scene.settings.to_settings()
        name = asset_name(pictures[0][0])
        request = make_request(scene, pictures, name, settings)
        seeds = variants.different_seeds(settings.seed, scene.variants)
        stack: bpy.types.Object | None = None
        for number, single in enumerate(variants.variants(request, seeds) if len(seeds) > 1 else [request]):
            title = f"{name} {number + 1}" if single.group else name  # the folder has the seed in its name, which is long
            mesh = waiting.add_mesh(title, scene.size)
            try:
                mesh.genesis.job = session.submit(single, title)
            except GenesisError:
                bpy.data.meshes.remove(mesh)
                raise
            remember(mesh.genesis, scene, pictures, settings.with_values({"seed": seeds[number]}), single.group)
            if stack is None:
                item = waiting.add_object(context, mesh, number * scene.size * (1.0 + ROW_GAP))
            if single.group and scene.layout == "STACK":
                stack = stack or item
                stack.genesis.variants.add().mesh = mesh
        if stack is not None:
            stack.name = name
        page.stay_on_new(context)


class GENESIS_OT_random_seed(GenesisOperator):
    """Another seed for the next object"""

    bl_idname = "genesis.random_seed"
    bl_label = "Random Seed"
    bl_options = {"UNDO", "INTERNAL"}

    def work(self, context: bpy.types.Context) -> None:
        """Throws the dice."""
        context.scene.genesis.settings.seed = random.randint(0, MAX_SEED)


def listed_pictures(scene: GenesisScene) -> list[tuple[str, str]]:
    """Path and background of each picture.

    Raises:
        GenesisError: BAD_IMAGE where there is none, or one is gone.
    """
    pictures = [(picture.absolute(), picture.background) for picture in scene.pictures]
    if not pictures:
        raise GenesisError(ErrorCode.BAD_IMAGE, "There is no picture in the list.", "Add one with the + button.")
    for path, _ in pictures:
        if not Path(path).is_file():
            raise GenesisError(ErrorCode.BAD_IMAGE, f"The picture {path} does not exist.", "Remove it or put it back.")
    return pictures


def make_request(
    scene: GenesisScene, pictures: list[tuple[str, str]], name: str, settings: GenerateSettings
) -> "messages.Submit":
    """The job of one new asset."""
    base = scene.preset if scene.preset in PRESETS else DEFAULT_PRESET
    return messages.Submit(
        pictures=tuple(path for path, _ in pictures),
        asset=name,
        model=preferences().model or MINI,
        preset=base,
        changes=changes_from(preset(base), settings),
        backgrounds=tuple(background for _, background in pictures),
        previews=True,
    )


def remember(
    memory: GenesisMemory, scene: GenesisScene, pictures: list[tuple[str, str]], settings: GenerateSettings, group: str
) -> None:
    """Notes on a mesh what its job will make of it."""
    memory.model, memory.preset, memory.pictures = preferences().model or MINI, scene.preset, json.dumps(pictures)
    memory.size, memory.textures, memory.mark_asset = scene.size, scene.textures, scene.mark_asset
    memory.group = group
    memory.store(settings)


CLASSES = (GENESIS_OT_generate, GENESIS_OT_random_seed)
