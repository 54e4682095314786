# SPDX-License-Identifier: Apache-2.0
"""Getting published weights: what is needed, whether it may be had, then file by file with resume and verification.

Permission, network and disk space are found out before the first large byte. `huggingface_hub` keeps the cache and finds
the addresses, so HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genesis_server.hub.catalog import CATALOG, IMAGE_ENCODER, MINI, TRELLIS, RemoteFile, Repository, pinned_revision
from genesis_server.hub.fetch import ask, fetch, sha256_of, still_to_come
from genesis_server.hub.locate import ENCODER_VARIABLE, HUB_ID, Source, open_repository, open_source
from genesis_server.protocol.errors import ErrorCode, GenesisError

CONFIGURATIONS = ("pipeline.json", "texturing_pipeline.json")
SPACE_MARGIN = 1 << 28  # left free on the disk for everybody else

OnProgress = Callable[[str, int, int], None]  # (file, bytes here, bytes of the whole model)


@dataclass(frozen=True)
class ModelStatus:
    """What of a model is on this machine.

    Attributes:
        state: "packaged", "folder", "ready", "incomplete" or "absent".
        folder: where it is, None while absent.
        missing: files still to come, as `repository/path`.
        missing_bytes: their size as far as it is known.
        gated: repositories that need an accepted licence.
    """

    id: str
    state: str
    folder: Path | None
    missing: tuple[str, ...] = ()
    missing_bytes: int = 0
    gated: tuple[str, ...] = ()
    revision: str = ""


def download(model_id: str, on_progress: OnProgress | None = None) -> Path:
    """Bring every file of a model here and verify it; files already here are kept, half a file is continued.

    Returns:
        The folder of the model's main repository.

    Raises:
        GenesisError: GATED_MODEL, OFFLINE, MODEL_MISSING, DISK_FULL before anything large is transferred; BAD_MODEL when
            a finished file has another digest than the published one (it is deleted).
    """
    if not _is_remote(model_id):
        return path(model_id)
    _bring(_repositories(model_id), on_progress)
    return path(model_id)


def download_checkpoint(name: str, on_progress: OnProgress | None = None) -> Path:
    """Bring one network of a repository here, `owner/name/path/of/stem`; the path of its files without their suffixes.

    Raises:
        GenesisError: as of `download`.
    """
    owner, stem = _owner(name, "")
    published = next((item for items in CATALOG.values() for item in items if item.id == owner), None)
    known = {file.path: file for file in published.files} if published else {}
    files = tuple(known.get(file, RemoteFile(file)) for file in (f"{stem}.json", f"{stem}.safetensors"))
    licence, gated = (published.licence, published.gated) if published else ("as its card says", False)
    _bring((Repository(owner, pinned_revision(owner), files, licence, gated),), on_progress)
    return open_repository(owner).require(files[0].path).with_suffix("")


def _bring(repositories: tuple[Repository, ...], on_progress: OnProgress | None) -> None:
    """Every file that is not here yet, once all of them are known to be had and to fit the disk."""
    plan = [(repository, _absent(repository)) for repository in repositories]
    plan = [(repository, files) for repository, files in plan if files]
    offers = [ask(repository, file) for repository, files in plan for file in files]
    total = sum(offer.file.size or 0 for offer in offers)
    _check_space(sum(still_to_come(offer) for offer in offers))
    done = 0
    for offer in offers:
        if cut_short := open_repository(offer.repository.id).find(offer.file.path):
            cut_short.unlink()
        name = f"{offer.repository.id}/{offer.file.path}"
        fetch(offer, lambda here, name=name, done=done: on_progress(name, done + here, total) if on_progress else None)
        done += offer.file.size or 0


def verify(model_id: str, on_progress: OnProgress | None = None) -> list[str]:
    """Read every weight file and compare digests; the names of files that are missing or differ.

    Files whose digest is not published (another repository's, or other than published ones in a folder) are checked for
    being there and whole.
    """
    if not _is_remote(model_id):
        return _verify_folder(path(model_id), on_progress)
    problems = []
    for repository in _repositories(model_id):
        source = open_repository(repository.id)
        for file in repository.files:
            found = source.find(file.path)
            name = f"{repository.id}/{file.path}"
            if on_progress:
                on_progress(name, 0, file.size or 0)
            if found is None:
                problems.append(f"{name} is missing")
            elif file.sha256 and sha256_of(found) != file.sha256:
                problems.append(f"{name} differs from the published file; delete {found}")
    return problems


def _verify_folder(folder: Path, on_progress: OnProgress | None) -> list[str]:
    """Problems of every weight file below a folder: cut short, or named like a published one and different from it."""
    published = {file.path: file.sha256 for repository in CATALOG[TRELLIS] for file in repository.files if file.sha256}
    problems = []
    for found in sorted(folder.rglob("*.safetensors")):
        name = found.relative_to(folder).as_posix()
        if on_progress:
            on_progress(name, 0, found.stat().st_size)
        digest = published.get("/".join(name.split("/")[-2:])) if "ckpts/" in name else None
        if not _is_whole(found):
            problems.append(f"{name} is cut short or damaged")
        elif digest and sha256_of(found) != digest:
            problems.append(f"{name} differs from the published file")
    return problems


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file has a readable header and exactly the bytes that it announces."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


def path(model_id: str) -> Path:
    """The local folder of a model.

    Raises:
        GenesisError: MODEL_MISSING when it is not here.
    """
    source = open_source(model_id)
    if source.folder is not None:
        if model_id == MINI:
            source.require(CONFIGURATIONS[0])
        return source.folder
    repository = next((item for item in CATALOG.get(model_id, ()) if item.id == model_id), None)
    first = repository.files[0].path if repository else CONFIGURATIONS[0]
    return source.require(first).parent


def status(models: tuple[str, ...] = (MINI, *CATALOG)) -> list[ModelStatus]:
    """What is here of each model; looks at files only, never at the network."""
    return [_status(model_id) for model_id in models]


def _status(model_id: str) -> ModelStatus:
    source = open_source(model_id)
    if source.folder is not None:
        complete = source.find(CONFIGURATIONS[0]) is not None
        here = "packaged" if model_id == MINI else "folder"
        lacking = () if complete else (CONFIGURATIONS[0],)
        return ModelStatus(model_id, here if complete else "absent", source.folder, lacking)
    repositories = _pinned(model_id) or _read_repositories(source)
    absent = [(item, file) for item in repositories for file in _absent(item)]
    total = sum(len(item.files) for item in repositories)
    state = "ready" if not absent and total else "absent" if len(absent) == total else "incomplete"
    return ModelStatus(
        model_id,
        state,
        path(model_id) if state == "ready" else None,
        tuple(f"{item.id}/{file.path}" for item, file in absent),
        sum(file.size or 0 for _, file in absent),
        tuple(item.id for item in repositories if item.gated),
        source.revision,
    )


def _is_remote(model_id: str) -> bool:
    return open_source(model_id).folder is None and bool(HUB_ID.fullmatch(model_id))


def _repositories(model_id: str) -> tuple[Repository, ...]:
    """The pinned list, or, for any other repository in the published layout, what its configuration names."""
    if model_id in CATALOG:
        return _pinned(model_id)
    repository = Repository(model_id, pinned_revision(model_id), (RemoteFile(CONFIGURATIONS[0]),), "as its card says")
    if open_repository(model_id).find(CONFIGURATIONS[0]) is None:
        fetch(ask(repository, repository.files[0]), lambda _: None)
    return _read_repositories(open_repository(model_id))


def _pinned(model_id: str) -> tuple[Repository, ...]:
    """The catalogue's list; without the image encoder where a folder is given instead."""
    given = bool(os.environ.get(ENCODER_VARIABLE))
    return tuple(item for item in CATALOG.get(model_id, ()) if not (given and item.id == IMAGE_ENCODER))


def _read_repositories(source: Source) -> tuple[Repository, ...]:
    """What the configuration of a repository names: checkpoints here or in `owner/name/...`, and the image encoder."""
    config, files = source.find(CONFIGURATIONS[0]), {source.id: [CONFIGURATIONS[0]]}
    if config is not None:
        args = _configuration(config)
        for stem in args["models"].values():
            owner, inner = _owner(stem, source.id)
            files.setdefault(owner, []).extend(f"{inner}.{kind}" for kind in ("json", "safetensors"))
        encoder = args["image_cond_model"]["args"]["model_name"]
        owner, folder = (encoder, "") if "/" in encoder else (source.id, f"{encoder}/")
        if not os.environ.get(ENCODER_VARIABLE):
            files.setdefault(owner, []).extend(f"{folder}{name}" for name in ("config.json", "model.safetensors"))
    return tuple(
        Repository(owner, pinned_revision(owner), tuple(map(RemoteFile, dict.fromkeys(names))), "as its card says")
        for owner, names in files.items()
    )


def _configuration(path: Path) -> dict[str, Any]:
    try:
        args = json.loads(path.read_text("utf-8"))["args"]
        return {"models": dict(args["models"]), "image_cond_model": {"args": dict(args["image_cond_model"]["args"])}}
    except (ValueError, KeyError, TypeError) as error:
        raise GenesisError(
            ErrorCode.BAD_MODEL, f"{path} is not a model configuration: {error!r}.", "Use a model in the published layout."
        ) from error


def _owner(stem: str, repository: str) -> tuple[str, str]:
    """Repository and path of a checkpoint: three parts or more name another repository."""
    parts = stem.split("/")
    return (repository, stem) if len(parts) < 3 else ("/".join(parts[:2]), "/".join(parts[2:]))


def _absent(repository: Repository) -> list[RemoteFile]:
    """Files that are not here, or not with their size."""
    source = open_repository(repository.id)
    found = ((file, source.find(file.path)) for file in repository.files)
    return [file for file, here in found if here is None or file.size not in (None, here.stat().st_size)]


def _check_space(needed: int) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + SPACE_MARGIN > free:
        raise GenesisError(
            ErrorCode.DISK_FULL,
            f"The download needs {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free.",
            "Free some space, or set HF_HOME to a larger disk.",
        )
