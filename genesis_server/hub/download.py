# SPDX-License-Identifier: Apache-2.0
"""Getting published weights: what is needed, whether it may be had, then file by file with resume and verification.

Permission, network and disk space are found out before the first large byte. `huggingface_hub` does the transfer, so
HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genesis_server.hub.catalog import CATALOG, MINI, RemoteFile, Repository, pinned_revision
from genesis_server.hub.locate import HUB_ID, Source, missing, open_repository, open_source
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

CONFIGURATIONS = ("pipeline.json", "texturing_pipeline.json")
CHUNK = 1 << 22
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
    plan = [(repository, _absent(repository)) for repository in _repositories(model_id)]
    plan = [(repository, files) for repository, files in plan if files]
    plan = [(repository, [_checked(repository, file) for file in files]) for repository, files in plan]
    total = sum(file.size or 0 for _, files in plan for file in files)
    _check_space(total)
    done = 0
    for repository, files in plan:
        for file in files:
            if on_progress:
                on_progress(f"{repository.id}/{file.path}", done, total)
            _fetch(repository, file)
            done += file.size or 0
    if on_progress:
        on_progress("", done, total)
    return path(model_id)


def verify(model_id: str, on_progress: OnProgress | None = None) -> list[str]:
    """Read every weight file and compare digests; the names of files that are missing or differ.

    Files whose digest is not published (a folder's, another repository's) are only checked for being there.
    """
    if not _is_remote(model_id):
        return [] if path(model_id) else []
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
            elif file.sha256 and _sha256(found) != file.sha256:
                problems.append(f"{name} differs from the published file")
    return problems


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
    repositories = CATALOG.get(model_id) or (_read_repository(source),)
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
        return CATALOG[model_id]
    repository = Repository(model_id, pinned_revision(model_id), (RemoteFile(CONFIGURATIONS[0]),), "as its card says")
    if open_repository(model_id).find(CONFIGURATIONS[0]) is None:
        _fetch(repository, _checked(repository, repository.files[0]))
    return (_read_repository(open_repository(model_id)),)


def _read_repository(source: Source) -> Repository:
    config = source.find(CONFIGURATIONS[0])
    files = [RemoteFile(CONFIGURATIONS[0])]
    if config is not None:
        models = json.loads(config.read_text("utf-8"))["args"]["models"].values()
        files += [RemoteFile(f"{stem}.{kind}") for stem in models for kind in ("json", "safetensors")]
    return Repository(source.id, source.revision, tuple(files), "as its card says")


def _absent(repository: Repository) -> list[RemoteFile]:
    source = open_repository(repository.id)
    return [file for file in repository.files if source.find(file.path) is None]


def _checked(repository: Repository, file: RemoteFile) -> RemoteFile:
    """Ask for the file's header: that it exists, may be had, and, where we do not know, its size and digest."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _explained(repository, file.path):
        url = hf_hub_url(repository.id, file.path, revision=repository.revision)
        metadata = get_hf_file_metadata(url)
    digest = metadata.etag if metadata.etag and len(metadata.etag) == 64 else None  # large files carry their sha256
    return replace(file, size=file.size or metadata.size, sha256=file.sha256 or digest)


def _fetch(repository: Repository, file: RemoteFile) -> None:
    from huggingface_hub import hf_hub_download

    with _explained(repository, file.path):
        fetched = Path(hf_hub_download(repository.id, file.path, revision=repository.revision))
    if file.sha256 and _sha256(fetched) != file.sha256:
        fetched.resolve().unlink(missing_ok=True)
        fetched.unlink(missing_ok=True)
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"{repository.id}/{file.path} arrived with another sha256 than the published {file.sha256[:12]}...",
            "It was deleted; download again, and if it happens twice distrust the network in between.",
            Remedy.DOWNLOAD_WEIGHTS,
        )


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


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _explained(repository: Repository, path: str) -> Iterator[None]:
    """Turn what the Hub's client raises into errors with a remedy."""
    from huggingface_hub import errors

    what = f"{repository.id}/{path}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(repository) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        if repository.gated:  # without a token the Hub hides some gated repositories altogether
            raise _gated(repository) from error
        raise missing(repository.id, path, None) from error
    except errors.LocalEntryNotFoundError as error:
        raise _offline(what, error) from error
    except errors.EntryNotFoundError as error:
        raise GenesisError(
            ErrorCode.MODEL_MISSING,
            f"{what} does not exist at revision {repository.revision[:12]}.",
            "Check the model id; it must be a repository in the published layout.",
        ) from error
    except errors.HfHubHTTPError as error:
        if getattr(error.response, "status_code", 0) in (401, 403):
            raise _gated(repository) from error
        raise _offline(what, error) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise GenesisError(
                ErrorCode.DISK_FULL, f"The disk filled up while downloading {what}.", "Free some space; it continues there."
            ) from error
        raise _offline(what, error) from error
    except Exception as error:
        if _is_transport(error):
            raise _offline(what, error) from error
        raise


def _is_transport(error: Exception) -> bool:
    """Connection errors of requests (huggingface_hub 0.x) and httpx (1.x on), neither of which is imported here."""
    return type(error).__module__.split(".")[0] in ("requests", "httpx", "urllib3", "httpcore")


def _gated(repository: Repository) -> GenesisError:
    return GenesisError(
        ErrorCode.GATED_MODEL,
        f"{repository.id} is only given to accounts that accepted its licence ({repository.licence}).",
        f"Open https://huggingface.co/{repository.id}, accept the licence, then run: hf auth login. "
        "A local copy can be given instead: set GENESIS_IMAGE_ENCODER to its folder.",
    )


def _offline(what: str, error: Any) -> GenesisError:
    return GenesisError(
        ErrorCode.OFFLINE,
        f"{what} is not here and cannot be fetched: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        "Check the network and HF_HUB_OFFLINE, then try again; what has arrived is kept.",
        Remedy.RETRY,
    )
