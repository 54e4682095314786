# SPDX-License-Identifier: Apache-2.0
"""What a user can choose for one asset: seed, the three samplers, mesh and texture. One table for both sides of the wire.

Each field carries its range and what it does to the result, so that the server validates, the command line documents and
the panel draws from the same source. A sampler field of None means "the model's own default" (its `pipeline.json`), because
genesis-mini and the 4B model want different strengths (docs/spec/pipeline.md 2.2, docs/spec/mini.md 4).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError

SAMPLED_STAGES = ("structure", "shape", "texture")
MAX_SEED = 2**31 - 1
SWITCH_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}
BACKGROUNDS = ("auto", "remove", "keep")
MAX_VIEWS = 16  # more pictures of one object than this is a mistaken folder, not views


def _number(default: Any, low: float, high: float, help_text: str, **extra: Any) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "help": help_text, **extra})


def _choice(default: str, choices: tuple[str, ...], help_text: str) -> Any:
    return field(default=default, metadata={"kind": str, "choices": choices, "help": help_text})


def _switch(default: bool, help_text: str) -> Any:
    return field(default=default, metadata={"kind": bool, "help": help_text})


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of one sampling stage (docs/spec/pipeline.md 7); None keeps the model's default."""

    steps: int | None = _number(None, 1, 100, "Sampling steps: more is slower and a little cleaner", kind=int)
    guidance_strength: float | None = _number(
        None, 0.0, 20.0, "How closely the picture is followed: higher sticks to it, too high exaggerates", kind=float
    )
    guidance_rescale: float | None = _number(
        None, 0.0, 1.0, "Tames the contrast that strong guidance adds: 0 leaves it, 1 removes it", kind=float
    )
    rescale_t: float | None = _number(
        None, 1.0, 10.0, "Spends more of the steps on the coarse form (higher) or on detail (lower)", kind=float
    )
    guidance_interval: tuple[float, float] | None = field(
        default=None,
        metadata={"low": 0.0, "high": 1.0, "kind": tuple, "help": "Part of the sampling, noise 1 to result 0, that is guided"},
    )

    def overrides(self) -> dict[str, Any]:
        """The fields that were set, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class BakeSettings:
    """Mesh and texture of the result; changing them re-runs only mesh and bake."""

    faces: int = _number(50_000, 100, 2_000_000, "Triangles of the result at most", kind=int)
    texture_size: int = _number(1024, 64, 8192, "Width and height of the textures in pixels, a multiple of 4", kind=int)
    normal_map: bool = _switch(True, "Keep the detail that fewer faces lose, in a normal map")
    remesh: bool = _switch(False, "Rebuild the surface as a closed skin: no holes, no edges of three faces")
    solid: bool = _switch(False, "Close the surface so that it bounds a volume, as for 3D printing")
    lods: int = _number(
        1, 1, 3, "Levels of detail in the file, all with the same textures: 2 adds 25 % of the faces, 3 adds 5 %", kind=int
    )
    texture_format: str = _choice(
        "png", ("png", "webp", "jpeg"), "Textures in the file: png opens everywhere, webp is smaller, jpeg loses some detail"
    )
    alpha: str = _choice(
        "auto",
        ("auto", "opaque", "mask", "blend"),
        "Transparency: auto decides from the data, opaque ignores it, mask cuts out, blend mixes",
    )


@dataclass(frozen=True)
class GenerateSettings:
    """Everything that, with the pictures and the model, decides an asset.

    Attributes:
        seed: noise of all three stages.
        texture_seed: noise of the texture stage alone; None follows `seed`. A new one re-runs texture onward only.
        background: of pictures that have no choice of their own: "auto" keeps a picture's own alpha and otherwise removes the
            background, "remove" removes it in any case, "keep" takes the picture as it is.
    """

    seed: int = _number(0, 0, MAX_SEED, "The same seed gives the same object again", kind=int)
    texture_seed: int | None = _number(None, 0, MAX_SEED, "Another texture on the same shape", kind=int)
    background: str = _choice(
        "auto",
        BACKGROUNDS,
        "auto keeps a picture's transparency or removes the background; remove always removes; keep does nothing",
    )
    multi_view: str = _choice(
        "stochastic",
        ("stochastic", "multidiffusion"),
        "Several views: stochastic takes them in turn (fast), multidiffusion averages them (slow); mini sees all at once",
    )
    resolution: str | None = field(
        default=None,
        metadata={"kind": str, "help": "Pipeline type of the model, such as 512 or 1024_cascade; empty for its default"},
    )
    texture_precision: str = _choice(
        "auto",
        ("auto", "float32"),
        "Precision of the texture stage on a GPU: float32 gives slightly truer colours, slower and with twice the memory",
    )
    speed: str = _choice(
        "published",
        ("published", "fast", "fastest"),
        "fast takes late steps two at a time, a third less work; fastest also uses 8-bit products, on GPUs that have them",
    )
    structure: SamplerSettings = SamplerSettings()
    shape: SamplerSettings = SamplerSettings()
    texture: SamplerSettings = SamplerSettings()
    bake: BakeSettings = BakeSettings()

    def to_json(self) -> dict[str, Any]:
        """As nested plain values; fields left at None are dropped."""
        return _drop_none(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GenerateSettings:
        """Validated settings from nested plain values.

        Raises:
            GenesisError: BAD_PARAMETER for an unknown name, a wrong type or a value out of range.
        """
        return _parse(cls, values, "")

    def with_values(self, changes: Mapping[str, Any]) -> GenerateSettings:
        """A copy with dotted names replaced, such as {"shape.guidance_strength": 5, "bake.faces": 20000}; validated."""
        values = self.to_json()
        for name, value in changes.items():
            *groups, last = name.split(".")
            target = values
            for group in groups:
                target = target.setdefault(group, {})
                if not isinstance(target, dict):
                    raise _unknown(name)
            target[last] = value
        return GenerateSettings.from_json(values)


def parameter_names(cls: type = GenerateSettings, prefix: str = "") -> dict[str, dataclasses.Field]:
    """Every settable parameter by its dotted name, in order; the field's metadata has low, high, choices, help, kind."""
    names: dict[str, dataclasses.Field] = {}
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(item.default):
            names.update(parameter_names(type(item.default), f"{prefix}{item.name}."))
        else:
            names[prefix + item.name] = item
    return names


def parse_value(name: str, text: str) -> Any:
    """The value of parameter `name` from what a user typed; `0.2,0.9` for an interval, empty for the default.

    Raises:
        GenesisError: BAD_PARAMETER for an unknown name or an unreadable value. Ranges are checked by `from_json`.
    """
    item = parameter_names().get(name)
    if item is None:
        raise _unknown(name)
    if text == "" and item.default is None:
        return None
    kind = item.metadata["kind"]
    if kind is bool:
        return _switch_value(name, text)
    try:
        return [float(part) for part in text.split(",")] if kind is tuple else kind(text)
    except ValueError:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {text!r}.", f"Give {_kind_name(kind)}.") from None


def _switch_value(name: str, text: str) -> bool:
    if text.lower() not in SWITCH_WORDS:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {text!r}.", f"Use one of {', '.join(SWITCH_WORDS)}.")
    return SWITCH_WORDS[text.lower()]


def _parse(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{prefix.rstrip('.') or 'settings'} is {values!r}.", "Give a group of settings."
        )
    known = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        if name not in known:
            raise _unknown(prefix + str(name))
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        item = known[name]
        if dataclasses.is_dataclass(item.default):
            parsed[name] = _parse(type(item.default), value, f"{prefix}{name}.")
        elif value is None and item.default is None:
            parsed[name] = None
        else:
            parsed[name] = _check(prefix + name, value, item.metadata)
    return cls(**parsed)


def _check(name: str, value: Any, rules: Mapping[str, Any]) -> Any:
    kind = rules["kind"]
    if kind is bool:
        if not isinstance(value, bool):
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {value!r}.", "Use true or false.")
        return value
    if kind is str:
        choices = rules.get("choices")
        if not isinstance(value, str) or (choices and value not in choices):
            allowed = f"one of {', '.join(choices)}" if choices else "text"
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {value!r}.", f"Use {allowed}.")
        return value
    if kind is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {value!r}.", "Give two numbers, low and high.")
        low, high = (_check_number(name, part, float, rules) for part in value)
        if low > high:
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {low}, {high}.", "Give the lower end first.")
        return (low, high)
    number = _check_number(name, value, kind, rules)
    if name == "bake.texture_size" and number % 4:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {number}.", "Use a multiple of 4, such as 1024.")
    return number


def _check_number(name: str, value: Any, kind: type, rules: Mapping[str, Any]) -> Any:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and not whole):
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {value!r}.", f"Give {_kind_name(kind)}.")
    low, high = rules["low"], rules["high"]
    if not math.isfinite(value) or not low <= value <= high:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name} is {value}.", f"Use a value from {low} to {high}.")
    return kind(value)


def _kind_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", tuple: "two numbers such as 0.6,1.0"}.get(kind, "text")


def _unknown(name: str) -> GenesisError:
    return GenesisError(ErrorCode.BAD_PARAMETER, f"There is no parameter {name!r}.", f"Known: {', '.join(parameter_names())}.")


def _drop_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _drop_none(value) if isinstance(value, dict) else value for key, value in values.items() if value is not None}
