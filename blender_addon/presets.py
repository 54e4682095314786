# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: those that come with Genesis, and the user's own, one JSON file each in the extension's user folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.protocol.presets import PRESETS, preset

NOTES = {
    "draft": "Few steps, a light mesh and small textures: to see what comes out",
    "standard": "The model's own settings",
    "high": "More steps, a dense mesh and large textures",
}
_SUFFIX = ".json"
EFFORT = ("speed", "texture_precision")  # presets of earlier releases do not say them
_KEPT = ("structure", "shape", "texture", "bake", *EFFORT)  # what a preset says; the seed is not a matter of taste
_MAX_BYTES = 65536
_PLAIN_NAME = re.compile(r"\w[\w ()-]{0,59}")


def user_folder() -> Path:
    """Where the user's own presets are."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, path="presets"))
    except ValueError:  # run from its source, not installed as an extension
        return Path(bpy.utils.user_resource("CONFIG", path="genesis/presets"))


def user_names() -> list[str]:
    """The user's own presets, sorted."""
    return sorted(path.stem for path in user_folder().glob(f"*{_SUFFIX}") if path.stem not in PRESETS)


def names() -> list[str]:
    """All presets: those of Genesis first."""
    return [*PRESETS, *user_names()]


def title(name: str) -> str:
    """What the menu calls it."""
    return name.title() if name in PRESETS else name


def load(name: str) -> GenerateSettings:
    """The settings of a preset.

    Raises:
        GenesisError: BAD_PARAMETER for one that does not exist or holds what this release does not know.
    """
    if name in PRESETS:
        return preset(name)
    path = user_folder() / f"{name}{_SUFFIX}"
    if not path.is_file():
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"There is no preset {name!r}.", f"Use one of {', '.join(names())}.")
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_BYTES))
        kept = {name: value for name, value in values["settings"].items() if name in _KEPT}
        return GenerateSettings.from_json(kept)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"The preset {path} cannot be read: {error}.", "Save it again, or remove it."
        ) from error


def save(name: str, settings: GenerateSettings) -> Path:
    """Writes a preset of the user's own; one of the same name is replaced.

    Raises:
        GenesisError: BAD_PARAMETER for a name that cannot be a file's, NO_PERMISSION.
    """
    name = name.strip()
    if name.lower() in PRESETS:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"The preset {name!r} comes with Genesis.", "Choose another name.")
    if not _PLAIN_NAME.fullmatch(name):
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name!r} cannot name a preset.", "Use letters, digits and spaces.")
    kept = {name: value for name, value in settings.to_json().items() if name in _KEPT}
    path = user_folder() / f"{name}{_SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"version": 1, "settings": kept}, indent=1), "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise GenesisError(ErrorCode.NO_PERMISSION, f"{path} cannot be written: {error}.", "Free the folder.") from error
    return path


def remove(name: str) -> None:
    """Deletes a preset of the user's own."""
    (user_folder() / f"{name}{_SUFFIX}").unlink(missing_ok=True)
