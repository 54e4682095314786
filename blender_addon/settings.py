# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of an asset as Blender properties, made from the protocol's table of parameters.

Names, ranges and descriptions come from `genesis_server.protocol.parameters`, so that panel, command line and server can
not disagree. A parameter whose default is None ("the model's own") has two companions: `own_<name>` holds the user's value,
`use_<name>` says whether it counts: false until the value is touched, and false again after its reset arrow. The parameter
itself shows the one or the model's own. No postponed annotations here: Blender reads the annotations themselves.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import (
    SAMPLED_STAGES,
    BakeSettings,
    GenerateSettings,
    SamplerSettings,
    parameter_names,
)

from . import model_facts
from .preferences import MINI, preferences

# what a field shows while its model has not said its own; those of the published model (docs/spec/pipeline.md 2.2)
_STARTS = {
    "steps": 12,
    "guidance_strength": 7.5,
    "guidance_rescale": 0.5,
    "rescale_t": 3.0,
    "guidance_interval": (0.6, 1.0),
    "texture_seed": 0,
}
_LABELS = {
    "guidance_strength": "Guidance",
    "guidance_rescale": "Guidance Rescale",
    "rescale_t": "Coarse to Fine",
    "guidance_interval": "Guided Part",
    "multi_view": "Several Views",
    "lods": "LODs",
    "texture_format": "Format",
    "texture_precision": "Precision",
    "solid": "Solid",
}
_CHOICES = {"png": "PNG", "webp": "WebP", "jpeg": "JPEG"}
_COMPANION, _OWN = "use_", "own_"


def label_of(name: str) -> str:
    """What the panel calls a parameter."""
    return _LABELS.get(name, name.replace("_", " ").title())


def optional(item: dataclasses.Field) -> bool:
    """Whether the parameter has a default of the model's own; text is empty instead."""
    return item.default is None and item.metadata["kind"] is not str


def model_default(group: Any, name: str) -> Any:
    """The value that holds while none is set: the model's own; for the seed of the texture, that of everything else.

    Args:
        group: property group of a settings class, on a scene or on a mesh.
    """
    if name == "texture_seed":
        return group.seed
    owner = group.id_data
    model = owner.genesis.model if isinstance(owner, bpy.types.Mesh) else preferences().model
    stage = group.path_from_id().rpartition(".")[2]
    found = model_facts.default(model or MINI, f"{stage}.{name}" if stage in SAMPLED_STAGES else name)
    return _STARTS.get(name) if found is None else found


def _shown(name: str) -> dict[str, Callable]:
    """Blender's callbacks for a value that replaces the model's own default."""

    def get(group: Any) -> Any:
        return getattr(group, _OWN + name) if getattr(group, _COMPANION + name) else model_default(group, name)

    def put(group: Any, value: Any) -> None:
        setattr(group, _OWN + name, value)
        setattr(group, _COMPANION + name, True)

    return {"get": get, "set": put}


def _property_of(item: dataclasses.Field, shown: dict[str, Callable]) -> Any:
    """The Blender property of one parameter."""
    rules = item.metadata
    common = {"name": label_of(item.name), "description": rules["help"], **shown}
    start = item.default if item.default is not None else _STARTS.get(item.name)
    kind = rules["kind"]
    if "choices" in rules:
        items = [(name, _CHOICES.get(name, name.title()), "") for name in rules["choices"]]
        return EnumProperty(items=items, default=start, **common)
    if kind is str:
        return StringProperty(default=start or "", **common)
    if kind is bool:
        return BoolProperty(default=start, **common)
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
                name=f"Set {label_of(item.name)}", description="Use this value instead of the model's own default"
            )
            made[_OWN + item.name] = _property_of(item, {})
        made[item.name] = _property_of(item, _shown(item.name) if optional(item) else {})
    return made


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
            else:
                self._assign_one(item, value)

    def differs(self, name: str) -> bool:
        """Whether a value is another than the default, so that there is something to reset."""
        item = self.settings.__dataclass_fields__[name]
        if optional(item):
            return getattr(self, _COMPANION + name)
        return getattr(self, name) != (item.default if item.default is not None else "")

    def reset(self, name: str) -> None:
        """Takes a value back to its default."""
        item = self.settings.__dataclass_fields__[name]
        self.property_unset(_OWN + name if optional(item) else name)
        self._assign_one(item, item.default)

    def _assign_one(self, item: dataclasses.Field, value: Any) -> None:
        if value is not None:
            setattr(self, item.name, value)
        elif not optional(item):
            setattr(self, item.name, "")
        if optional(item):  # last, for setting a value switches it on
            setattr(self, _COMPANION + item.name, value is not None)


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


def flattened(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, as the messages carry it."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            values.update(flattened(value, f"{prefix}{item.name}."))
        else:
            values[prefix + item.name] = list(value) if isinstance(value, tuple) else value
    return values


def known_of(values: Mapping[str, Any]) -> GenerateSettings:
    """Settings from nested plain values; what this release does not know, or would refuse, is left at its default."""
    made = GenerateSettings()
    for name in parameter_names():
        value: Any = values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            with contextlib.suppress(GenesisError):
                made = made.with_values({name: value})
    return made


def changes_from(base: GenerateSettings, wanted: GenerateSettings) -> dict[str, Any]:
    """What turns `base` into `wanted`, by dotted name."""
    old = flattened(base)
    return {name: value for name, value in flattened(wanted).items() if value != old[name]}


CLASSES = (GenesisSampler, GenesisBake, GenesisSettings)
