# SPDX-License-Identifier: Apache-2.0
"""Looks at a job before it is queued, so that bad input is refused at once and not after a wait.

Only what needs no torch and no decoding: paths, names and ranges. What is inside a picture the worker finds out first thing.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    CutOut,
    Download,
    Estimate,
    JobRequest,
    Rebake,
    Regenerate,
    Submit,
    TextureMesh,
)
from genesis_server.protocol.parameters import BACKGROUNDS, MAX_VIEWS, GenerateSettings
from genesis_server.protocol.presets import preset
from genesis_server.protocol.requests import CUTOUT_SIZE, MAX_GROUP

ASSET_SUFFIX = ".genesis"
_PLAIN_NAME = re.compile(r"\w[\w .()-]{0,99}")


# stages that must be whole for a job to begin: a re-bake starts at the voxels, a regeneration can make everything again
WHOLE: dict[type, tuple[str, ...]] = {Rebake: ("source", "voxels"), Regenerate: (), TextureMesh: ()}


def checked(request: JobRequest, assets: Path, promised: Container[str] = ()) -> JobRequest:
    """The request with its asset as an absolute path, if a worker can begin it.

    Args:
        assets: folder of assets that were given a name instead of a path.
        promised: folders there that other jobs will make: two jobs of one name must not share one.

    Raises:
        GenesisError: BAD_IMAGE, BAD_MESH, BAD_PARAMETER, BAD_ASSET, NEWER_SCHEMA, MODEL_MISSING or NO_PERMISSION.
    """
    if isinstance(request, Download):
        _check_model(request.model)
        return request
    _check_group(getattr(request, "group", ""))
    if isinstance(request, (Submit, TextureMesh)):
        preset(request.preset).with_values(request.changes)
        _check_pictures(request.pictures)
        _check_backgrounds(request.backgrounds, len(request.pictures))
        if isinstance(request, TextureMesh):
            _check_file(request.mesh, "mesh", ErrorCode.BAD_MESH)
        return dataclasses.replace(request, asset=str(_new_asset(request.asset, assets, promised)))
    check_changes(request.changes, bake_only=isinstance(request, Rebake))
    _check_asset(Path(request.asset), WHOLE[type(request)])
    return request


def check_question(request: CutOut | Estimate) -> None:
    """Refuses a question that no worker could answer.

    Raises:
        GenesisError: BAD_IMAGE, BAD_PARAMETER, BAD_ASSET or NEWER_SCHEMA.
    """
    if isinstance(request, CutOut):
        _check_file(request.picture, "picture", ErrorCode.BAD_IMAGE)
        _check_backgrounds((request.background,), 1)
        if not 16 <= request.size <= CUTOUT_SIZE:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, f"The size of a cut-out is {request.size}.", f"Use 16 to {CUTOUT_SIZE} pixels."
            )
        return
    check_changes(request.changes, bake_only=False)
    preset(request.preset)
    if request.asset:
        _check_asset(Path(request.asset), ())


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
        _check_file(name, "picture", ErrorCode.BAD_IMAGE)


def _check_file(name: str, what: str, code: ErrorCode) -> None:
    path = Path(name)
    if not path.is_absolute():
        raise GenesisError(code, f"The {what} {name!r} is not an absolute path.", "Give its whole path.")
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise GenesisError(code, f"The {what} {name} {reason}.", f"Choose a {what} file.")
    if path.stat().st_size == 0:
        raise GenesisError(code, f"The {what} {name} is empty.", "Choose another file.")


def _check_backgrounds(backgrounds: tuple[str, ...], pictures: int) -> None:
    unknown = [choice for choice in backgrounds if choice and choice not in BACKGROUNDS]
    if unknown:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"A picture's background is {unknown[0]!r}.", f"Use one of {', '.join(BACKGROUNDS)}."
        )
    if len(backgrounds) not in (0, pictures):
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            f"There are {len(backgrounds)} choices of a background for {pictures} pictures.",
            "Give one for each picture, or none.",
        )


def _check_group(group: str) -> None:
    if len(group) > MAX_GROUP:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"The group {group[:20]!r}... is too long.", f"Use {MAX_GROUP} characters.")


def _check_model(model: str) -> None:
    from genesis_server.hub.locate import open_source  # looks at names and files only

    open_source(model)


def _new_asset(asset: str, assets: Path, promised: Container[str]) -> Path:
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
    while path.exists() or str(path) in promised:
        number += 1
        path = assets / f"{asset} {number}{ASSET_SUFFIX}"
    return path


def _check_asset(folder: Path, needed: tuple[str, ...]) -> None:
    from genesis_server.assets import Asset  # brings Pillow, which the start of the server should not wait for

    if not folder.is_absolute() or not folder.is_dir():
        what = "is not an absolute path" if not folder.is_absolute() else "is a file" if folder.exists() else "does not exist"
        raise GenesisError(ErrorCode.BAD_ASSET, f"The asset {folder} {what}.", "Give the whole path of its folder.")
    Asset.open(folder, needed)
