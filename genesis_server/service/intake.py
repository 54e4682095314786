# SPDX-License-Identifier: Apache-2.0
"""Looks at a job before it is queued, so that bad input is refused at once and not after a wait.

Only what needs no torch and no decoding: paths, names and ranges. What is inside a picture the worker finds out first thing.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import Rebake, Regenerate, Submit
from genesis_server.protocol.parameters import MAX_VIEWS, GenerateSettings
from genesis_server.protocol.presets import preset

ASSET_SUFFIX = ".genesis"
_PLAIN_NAME = re.compile(r"\w[\w .()-]{0,99}")


def checked(request: Submit | Rebake | Regenerate, assets: Path) -> Submit | Rebake | Regenerate:
    """The request with its asset as an absolute path, if a worker can begin it.

    Args:
        assets: folder of assets that were given a name instead of a path.

    Raises:
        GenesisError: BAD_IMAGE, BAD_PARAMETER, BAD_ASSET, NEWER_SCHEMA or NO_PERMISSION.
    """
    if isinstance(request, Submit):
        preset(request.preset).with_values(request.changes)
        _check_pictures(request.pictures)
        return dataclasses.replace(request, asset=str(_new_asset(request.asset, assets)))
    check_changes(request.changes, bake_only=isinstance(request, Rebake))
    _check_asset(Path(request.asset))
    return request


def check_changes(changes: Mapping[str, Any], bake_only: bool) -> None:
    """Refuses unknown and impossible settings, and for a re-bake those of the stages above it.

    Raises:
        GenesisError: BAD_PARAMETER.
    """
    GenerateSettings().with_values(changes)
    for name in changes if bake_only else ():
        if not name.startswith("bake."):
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"A re-bake cannot change {name}.",
                "Change settings that begin with bake., or generate again from the asset.",
            )


def _check_pictures(pictures: tuple[str, ...]) -> None:
    if not 1 <= len(pictures) <= MAX_VIEWS:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{len(pictures)} pictures were given.", f"Give 1 to {MAX_VIEWS} views of one object."
        )
    for name in pictures:
        path = Path(name)
        if not path.is_absolute():
            raise GenesisError(ErrorCode.BAD_IMAGE, f"The picture {name!r} is not an absolute path.", "Give its whole path.")
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise GenesisError(ErrorCode.BAD_IMAGE, f"The picture {name} {what}.", "Choose a picture file.")
        if path.stat().st_size == 0:
            raise GenesisError(ErrorCode.BAD_IMAGE, f"The picture {name} is empty.", "Choose another file.")


def _new_asset(asset: str, assets: Path) -> Path:
    path = Path(asset)
    if path.is_absolute():
        if not path.parent.is_dir():
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"The folder {path.parent} does not exist.", "Choose another place.")
        if not os.access(path.parent, os.W_OK):
            raise GenesisError(ErrorCode.NO_PERMISSION, f"{path.parent} may not be written to.", "Choose another place.")
        return path
    if not _PLAIN_NAME.fullmatch(asset):
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{asset[:100]!r} cannot name an asset.", "Use letters, digits, spaces, dots and dashes."
        )
    assets.mkdir(parents=True, exist_ok=True)
    path, number = assets / f"{asset}{ASSET_SUFFIX}", 1
    while path.exists():
        number += 1
        path = assets / f"{asset} {number}{ASSET_SUFFIX}"
    return path


def _check_asset(folder: Path) -> None:
    from genesis_server.assets import Asset  # brings Pillow, which the start of the server should not wait for

    if not folder.is_absolute() or not folder.is_dir():
        what = "is not an absolute path" if not folder.is_absolute() else "is a file" if folder.exists() else "does not exist"
        raise GenesisError(ErrorCode.BAD_ASSET, f"The asset {folder} {what}.", "Give the whole path of its folder.")
    Asset.open(folder)
