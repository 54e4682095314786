# SPDX-License-Identifier: Apache-2.0
"""Named starting points for the settings: how much time to spend. The model's own sampler strengths stay untouched."""

from __future__ import annotations

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings

DEFAULT_PRESET = "standard"

# steps of the three samplers, faces, texture size; 6 steps cost nothing visible on genesis-mini (docs/spec/mini.md 4)
PRESETS: dict[str, dict[str, object]] = {
    "draft": {
        "structure.steps": 6,
        "shape.steps": 6,
        "texture.steps": 6,
        "bake.faces": 20_000,
        "bake.texture_size": 512,
    },
    "standard": {},
    "high": {
        "structure.steps": 25,
        "shape.steps": 25,
        "texture.steps": 25,
        "bake.faces": 200_000,
        "bake.texture_size": 2048,
    },
}


def preset(name: str) -> GenerateSettings:
    """The settings of a preset.

    Raises:
        GenesisError: BAD_PARAMETER for an unknown name.
    """
    if name not in PRESETS:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"There is no preset {name!r}.", f"Use one of {', '.join(PRESETS)}.")
    return GenerateSettings().with_values(PRESETS[name])
