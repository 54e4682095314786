# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel edits and what an object remembers, made from the protocol's table of parameters.

Names, ranges and descriptions come from `genesis_server.protocol.parameters`, so that panel, command line and server can
not disagree. A parameter whose default is None ("the model's own") gets a companion `use_<name>`: off means the default.
No postponed annotations here: Blender reads the annotations themselves.
"""

import dataclasses
import json
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import SAMPLED_STAGES, BakeSettings, GenerateSettings, SamplerSettings
from genesis_server.protocol.presets import DEFAULT_PRESET, PRESETS, preset

PRESET_NOTES = {
    "draft": "Few steps, a light mesh and small textures: to see what comes out",
    "standard": "The model's own settings",
    "high": "More steps, a dense mesh and large textures",
}
# where a slider stands when the model's default is given up for it; those of the published model (docs/spec/pipeline.md 2.2)
_STARTS = {
    "steps": 12,
    "guidance_strength": 7.5,
    "guidance_rescale": 0.5,
    "rescale_t": 3.0,
    "guidance_interval": (0.6, 1.0),
    "texture_seed": 0,
}
_LABELS = {
    "faces": "Faces",
    "texture_size": "Texture Size",
    "guidance_strength": "Guidance",
    "guidance_rescale": "Guidance Rescale",
    "rescale_t": "Coarse to Fine",
    "guidance_interval": "Guided Part",
    "multi_view": "Several Views",
}
_COMPANION = "use_"


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").title())


def _property_of(item: dataclasses.Field) -> Any:
    """The Blender property of one parameter; None where the parameter is a group."""
    rules = item.metadata
    common = {"name": _label(item.name), "description": rules["help"]}
    start = item.default if item.default is not None else _STARTS.get(item.name)
    kind = rules["kind"]
    if "choices" in rules:
        return EnumProperty(items=[(name, name.title(), "") for name in rules["choices"]], default=start, **common)
    if kind is bool:
        return BoolProperty(default=start, **common)
    if kind is str:
        return StringProperty(default=start or "", **common)
    if kind is tuple:
        return FloatVectorProperty(size=2, default=start, min=rules["low"], max=rules["high"], precision=2, **common)
    if kind is float:
        return FloatProperty(default=start, min=rules["low"], max=rules["high"], precision=2, **common)
    step = 128 if item.name == "texture_size" else 1
    return IntProperty(default=start, min=rules["low"], max=rules["high"], step=step, **common)


def _annotations(cls: type) -> dict[str, Any]:
    """Blender properties for every plain field of a settings class."""
    made: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(item.default):
            continue
        if optional(item):
            made[_COMPANION + item.name] = BoolProperty(
                name=f"Set {_label(item.name)}", description="Use this value instead of the model's own default", default=False
            )
        made[item.name] = _property_of(item)
    return made


def optional(item: dataclasses.Field) -> bool:
    """Whether the parameter has a default of the model's own, and so a switch beside it; text is empty instead."""
    return item.default is None and item.metadata["kind"] is not str


class _Settings:
    """Reads and writes one settings class; mixed into the property groups."""

    settings: type

    def values(self) -> dict[str, Any]:
        """The settings by name, nested; None for the model's default."""
        result: dict[str, Any] = {}
        for item in dataclasses.fields(self.settings):
            value = getattr(self, item.name)
            if dataclasses.is_dataclass(item.default):
                result[item.name] = value.values()
            elif optional(item) and not getattr(self, _COMPANION + item.name):
                result[item.name] = None
            elif item.metadata["kind"] is tuple:
                # single precision back to the two decimals that the panel shows
                result[item.name] = [round(part, 4) for part in value]
            elif item.metadata["kind"] is float:
                result[item.name] = round(value, 4)
            else:
                result[item.name] = value if value != "" else None
        return result

    def assign(self, settings: Any) -> None:
        """Shows the given settings."""
        for item in dataclasses.fields(self.settings):
            value = getattr(settings, item.name)
            if dataclasses.is_dataclass(item.default):
                getattr(self, item.name).assign(value)
                continue
            if optional(item):
                setattr(self, _COMPANION + item.name, value is not None)
            if value is not None:
                setattr(self, item.name, value)
            elif not optional(item):
                setattr(self, item.name, "")


class GenesisSampler(_Settings, bpy.types.PropertyGroup):
    """Sampler settings of one stage."""

    settings = SamplerSettings
    __annotations__ = _annotations(SamplerSettings)


class GenesisBake(_Settings, bpy.types.PropertyGroup):
    """Mesh and texture settings."""

    settings = BakeSettings
    __annotations__ = _annotations(BakeSettings)


class GenesisSettings(_Settings, bpy.types.PropertyGroup):
    """All settings of one asset, as the panel shows them."""

    settings = GenerateSettings
    __annotations__ = {
        **_annotations(GenerateSettings),
        **{stage: PointerProperty(type=GenesisSampler, name=stage.title()) for stage in SAMPLED_STAGES},
        "bake": PointerProperty(type=GenesisBake, name="Mesh and Texture"),
    }

    def to_settings(self) -> GenerateSettings:
        """Validated settings.

        Raises:
            GenesisError: BAD_PARAMETER, such as a texture size that is not a multiple of 4.
        """
        return GenerateSettings.from_json(self.values())


class GenesisPicture(bpy.types.PropertyGroup):
    """One picture of the list."""

    path: StringProperty(name="Path", description="Picture file", subtype="FILE_PATH")

    def absolute(self) -> str:
        """The path without Blender's `//`."""
        return bpy.path.abspath(self.path)


def _choose_preset(scene_settings: "GenesisScene", _context: bpy.types.Context) -> None:
    """Shows a preset's values; seed, picture and resolution settings stay as they are."""
    settings, chosen = scene_settings.settings, preset(scene_settings.preset)
    for stage in SAMPLED_STAGES:
        getattr(settings, stage).assign(getattr(chosen, stage))
    alpha = settings.bake.alpha
    settings.bake.assign(dataclasses.replace(chosen.bake, alpha=alpha))


class GenesisScene(bpy.types.PropertyGroup):
    """What the next Generate of this scene will use."""

    pictures: CollectionProperty(type=GenesisPicture)
    active_picture: IntProperty(name="Picture", description="Selected picture")
    preset: EnumProperty(
        name="Preset",
        description="How much time to spend; choosing one sets the sampling steps, the faces and the texture size below",
        items=[(name, name.title(), PRESET_NOTES.get(name, "")) for name in PRESETS],
        default=DEFAULT_PRESET,
        update=_choose_preset,
    )
    randomize_seed: BoolProperty(
        name="New Seed Each Time", description="Generate takes a new random seed and shows it in the field", default=False
    )
    settings: PointerProperty(type=GenesisSettings)


class GenesisAsset(bpy.types.PropertyGroup):
    """How an object was made; saved with it."""

    asset: StringProperty(name="Asset", description="Folder with everything this object was made from", subtype="DIR_PATH")
    job: StringProperty(description="The running or failed job of this object")
    imported: BoolProperty(description="Whether the object is a result, not the placeholder of one")
    pictures: StringProperty(description="Its picture files, a JSON list")
    preset: StringProperty(name="Preset", description="Preset that it was begun from")
    model: StringProperty(name="Model", description="Model that made it")
    stored: StringProperty(description="Its settings as JSON")
    bake: PointerProperty(type=GenesisBake)

    def settings(self) -> GenerateSettings:
        """The settings that the object was made with; defaults where a newer release stored what this one does not know."""
        try:
            return GenerateSettings.from_json(json.loads(self.stored or "{}"))
        except (ValueError, GenesisError):
            return GenerateSettings()

    def store(self, settings: GenerateSettings) -> None:
        """Keeps the settings and shows their mesh and texture part for the next re-bake."""
        self.stored = json.dumps(settings.to_json(), sort_keys=True)
        self.bake.assign(settings.bake)

    def picture_paths(self) -> list[str]:
        """The files that it was made from."""
        return list(json.loads(self.pictures or "[]"))


def changes_from(base: GenerateSettings, wanted: GenerateSettings, prefix: str = "") -> dict[str, Any]:
    """What turns `base` into `wanted`, by dotted name, as the messages carry it."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(base):
        old, new = getattr(base, item.name), getattr(wanted, item.name)
        if dataclasses.is_dataclass(old):
            changes.update(changes_from(old, new, f"{prefix}{item.name}."))
        elif old != new:
            changes[prefix + item.name] = list(new) if isinstance(new, tuple) else new
    return changes


_CLASSES = (GenesisSampler, GenesisBake, GenesisSettings, GenesisPicture, GenesisScene, GenesisAsset)


def register() -> None:
    """Adds `Scene.genesis` and `Object.genesis`."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.genesis = PointerProperty(type=GenesisScene)
    bpy.types.Object.genesis = PointerProperty(type=GenesisAsset)


def unregister() -> None:
    """Takes them away."""
    del bpy.types.Object.genesis
    del bpy.types.Scene.genesis
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
