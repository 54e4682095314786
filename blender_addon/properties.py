# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender's data remembers for Genesis: the next generation on the scene, how an asset was made on its mesh.

The memory is the mesh's, not the object's: copies that share the mesh share it, and a result takes the place of its
placeholder by refilling one and the same mesh. No postponed annotations here: Blender reads the annotations themselves.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import SAMPLED_STAGES, GenerateSettings
from genesis_server.protocol.presets import DEFAULT_PRESET, PRESETS

from . import presets, settings
from .settings import GenesisSettings

BACKGROUNDS = (
    ("auto", "Auto", "Keep the picture's own transparency; where it has none, remove the background", "IMAGE_ALPHA", 0),
    ("remove", "Remove", "Remove the background, even where the picture has transparency", "SELECT_SUBTRACT", 1),
    ("keep", "Keep", "Take the picture as it is, background and all", "IMAGE_DATA", 2),
)


class GenesisPicture(bpy.types.PropertyGroup):
    """One picture of the list; its name is the file's."""

    path: StringProperty(name="Path", description="Picture file", subtype="FILE_PATH")
    background: EnumProperty(name="Background", description="What becomes of the picture's background", items=BACKGROUNDS)

    def absolute(self) -> str:
        """The path without Blender's `//`."""
        return bpy.path.abspath(self.path)


def _choose_preset(scene: "GenesisScene", _context: Any) -> None:
    """Shows a preset's values; seed, resolution and transparency stay as they are."""
    try:
        chosen = presets.load(scene.preset)
    except GenesisError as error:
        from .session import session  # which stands on this module

        session.error = error
        return
    for stage in SAMPLED_STAGES:
        getattr(scene.settings, stage).assign(getattr(chosen, stage))
    for name in presets.EFFORT:
        setattr(scene.settings, name, getattr(chosen, name))
    bake = scene.settings.bake
    kept = bake.alpha if scene.preset in PRESETS else chosen.bake.alpha
    bake.assign(dataclasses.replace(chosen.bake, alpha=kept))


class GenesisScene(bpy.types.PropertyGroup):
    """What the next Generate of this scene will use."""

    pictures: CollectionProperty(type=GenesisPicture)
    active_picture: IntProperty(name="Picture", description="Selected picture")
    preset: StringProperty(
        name="Preset",
        description="How much time to spend; choosing one sets the sampling, the mesh and the textures below",
        default=DEFAULT_PRESET,
        update=_choose_preset,
    )
    lock_seed: BoolProperty(
        name="Lock Seed", description="Generate uses this seed; unlocked, it takes a new random one each time", default=True
    )
    size: FloatProperty(
        name="Size",
        description="Length of the longest side of the new object",
        default=1.0,
        min=0.001,
        soft_max=10.0,
        unit="LENGTH",
    )
    variants: IntProperty(
        name="Variants", description="How many objects to make, each from a seed of its own", default=1, min=1, max=16
    )
    layout: EnumProperty(
        name="Layout",
        description="Where the variants go",
        items=[
            ("ROW", "In a Row", "Each is an object of its own, side by side"),
            ("STACK", "One Object", "One object that shows one of them at a time, to flip through"),
        ],
    )
    collection: PointerProperty(
        name="Collection", description="Where new objects go; empty for the active collection", type=bpy.types.Collection
    )
    textures: EnumProperty(
        name="Textures",
        description="Where the textures of new objects are kept",
        items=[
            ("PACKED", "Packed", "Inside the .blend file"),
            (
                "FILES",
                "Files",
                "In a textures folder beside the .blend file, or in the asset's folder where it is unsaved",
            ),
        ],
    )
    mark_asset: BoolProperty(
        name="Mark as Asset", description="New objects appear in the asset browser, with a preview", default=False
    )
    settings: PointerProperty(type=GenesisSettings)


class GenesisLevel(bpy.types.PropertyGroup):
    """A mesh that an object can show: one level of detail of an asset, or one variant."""

    mesh: PointerProperty(type=bpy.types.Mesh)


class GenesisMemory(bpy.types.PropertyGroup):
    """How a mesh was made; saved with it."""

    asset: StringProperty(name="Asset", description="Folder with everything this object was made from", subtype="DIR_PATH")
    copy: StringProperty(description="Where its files are here, if the asset's folder is on another machine")
    job: StringProperty(description="The running or failed job of this mesh")
    imported: BoolProperty(description="Whether the mesh is a result, not the placeholder of one")
    textured: BoolProperty(description="Whether the shape is the user's own, and only the textures are made")
    pictures: StringProperty(description="Its pictures, a JSON list of [path, background]")
    preset: StringProperty(name="Preset", description="Preset that it was begun from")
    model: StringProperty(name="Model", description="Model that made it")
    stored: StringProperty(description="The settings it was made with, as JSON")
    settings: PointerProperty(type=GenesisSettings)
    size: FloatProperty(description="Length of its longest side when it was first imported, in metres")
    scale: FloatProperty(description="Its size over that in the asset's folder; 0 before the first import")
    ground: FloatProperty(description="Lowest point of the model in the asset's folder")
    textures: StringProperty(description="PACKED or FILES")
    mark_asset: BoolProperty(description="Whether to mark its objects as assets when it comes")
    group: StringProperty(description="Set of variants that it belongs to")
    main: PointerProperty(description="The finest level, on the mesh of another level of detail", type=bpy.types.Mesh)
    levels: CollectionProperty(description="All levels of detail, this mesh first", type=GenesisLevel)

    def folder(self) -> Path:
        """Where its files are on this machine."""
        return Path(self.copy or bpy.path.abspath(self.asset))

    def made_with(self) -> GenerateSettings:
        """The settings that it was made with, as far as this release knows them: a newer one may have stored more."""
        try:
            return settings.known_of(json.loads(self.stored or "{}"))
        except (ValueError, TypeError, AttributeError):
            return GenerateSettings()

    def store(self, made: GenerateSettings) -> None:
        """Keeps the settings, and shows them for the next change."""
        self.stored = json.dumps(made.to_json(), sort_keys=True)
        self.settings.assign(made)

    def changed(self) -> dict[str, Any]:
        """What has been changed in the panel since it was made, by dotted name.

        Raises:
            GenesisError: BAD_PARAMETER.
        """
        return settings.changes_from(self.made_with(), self.settings.to_settings())

    def picture_list(self) -> list[tuple[str, str]]:
        """The files that it was made from, each with what was done to its background."""
        return [(path, background) for path, background in json.loads(self.pictures or "[]")]


def _shown_variant(item: "GenesisObject") -> int:
    shown = main_mesh(item.id_data.data)
    return next((index for index, entry in enumerate(item.variants) if entry.mesh == shown), 0)


def _show_variant(item: "GenesisObject", index: int) -> None:
    if item.variants:
        item.id_data.data = item.variants[min(index, len(item.variants) - 1)].mesh


def _shown_level(item: "GenesisObject") -> int:
    mesh = item.id_data.data
    main = main_mesh(mesh)
    levels = main.genesis.levels if main is not None else ()
    return next((index for index, entry in enumerate(levels) if entry.mesh == mesh), 0)


def _show_level(item: "GenesisObject", index: int) -> None:
    levels = main_mesh(item.id_data.data).genesis.levels
    if levels:
        item.id_data.data = levels[min(index, len(levels) - 1)].mesh


class GenesisObject(bpy.types.PropertyGroup):
    """Which of its meshes an object shows."""

    variants: CollectionProperty(description="Meshes of a set of variants to flip through", type=GenesisLevel)
    variant: IntProperty(
        name="Variant", description="Which of the variants the object shows", min=0, get=_shown_variant, set=_show_variant
    )
    level: IntProperty(
        name="Level of Detail",
        description="Which level of detail the object shows; 0 is the finest",
        min=0,
        max=7,
        get=_shown_level,
        set=_show_level,
    )


def main_mesh(mesh: Any) -> bpy.types.Mesh | None:
    """The mesh that has the memory: for a coarser level of detail, its finest; None for other data than a mesh."""
    if not isinstance(mesh, bpy.types.Mesh):
        return None
    return mesh.genesis.main or mesh


def variants_of(item: bpy.types.Object | None) -> list[bpy.types.Mesh]:
    """The set of variants that an object belongs to, in order: those that it shows one of, or those that stand in a row."""
    if item is None or main_mesh(item.data) is None:
        return []
    if item.genesis.variants:
        return [entry.mesh for entry in item.genesis.variants if entry.mesh is not None]
    group = main_mesh(item.data).genesis.group
    found = [mesh for mesh in bpy.data.meshes if mesh.genesis.group == group] if group else []
    return sorted(found, key=lambda mesh: (len(mesh.name), mesh.name))  # "cup 2" before "cup 10"


def memory_of(item: bpy.types.Object | None) -> GenesisMemory | None:
    """How an object was made; None for one that Genesis has not made and is not making."""
    mesh = main_mesh(item.data) if item is not None else None
    if mesh is None or not (mesh.genesis.imported or mesh.genesis.job):
        return None
    return mesh.genesis


_CLASSES = (*settings.CLASSES, GenesisPicture, GenesisScene, GenesisLevel, GenesisMemory, GenesisObject)


def register() -> None:
    """Adds `Scene.genesis`, `Mesh.genesis` and `Object.genesis`."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.genesis = PointerProperty(type=GenesisScene)
    bpy.types.Mesh.genesis = PointerProperty(type=GenesisMemory)
    bpy.types.Object.genesis = PointerProperty(type=GenesisObject)


def unregister() -> None:
    """Takes them away."""
    del bpy.types.Object.genesis
    del bpy.types.Mesh.genesis
    del bpy.types.Scene.genesis
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
