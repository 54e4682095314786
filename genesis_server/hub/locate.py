# SPDX-License-Identifier: Apache-2.0
"""From a model id to files on this machine: the packaged mini model, a folder, or the download cache of the Hub.

Nothing here touches the network or loads torch. A file that is not here is MODEL_MISSING with the command that gets it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from genesis_server.hub.catalog import FREE_REMOVER, MINI, TRELLIS, pinned_revision
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

ENCODER_VARIABLE = "GENESIS_IMAGE_ENCODER"  # folder of a DINOv3 to use instead of the gated download
REMOVER_VARIABLE = "GENESIS_REMOVER"  # model.safetensors of a BiRefNet, or the name of a downloaded one
MINI_FOLDER = Path(__file__).resolve().parent.parent / "mini" / "weights"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SAMPLE_BYTES = 1 << 20  # read at either end of a file for its fingerprint: 16 GB of weights take milliseconds


@dataclass(frozen=True)
class Source:
    """Where the files of one model or repository are looked for.

    Attributes:
        id: the model id as given.
        folder: local folder, or None for the Hub's cache.
        revision: of the Hub repository; empty for a folder.
    """

    id: str
    folder: Path | None = None
    revision: str = ""

    def find(self, path: str) -> Path | None:
        """The local file, or None where it is not (yet) here."""
        if self.folder is not None:
            candidate = self.folder / path
            return candidate if candidate.is_file() else None
        from huggingface_hub import try_to_load_from_cache  # 0.3 s to import; not needed for folders

        found = try_to_load_from_cache(self.id, path, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def require(self, path: str) -> Path:
        """The local file.

        Raises:
            GenesisError: MODEL_MISSING.
        """
        found = self.find(path)
        if found is None:
            raise missing(self.id, path, self.folder)
        return found

    def identity(self, used: list[Path]) -> str:
        """What distinguishes this model's weights from others: id and revision, or a fingerprint of the used files."""
        if self.folder is None:
            parts = used[0].parts  # .../snapshots/<commit>/...: what `main` stood for when it was downloaded
            return f"{self.id}@{parts[parts.index('snapshots') + 1]}"
        digest = hashlib.sha256()
        for path in sorted(used):
            digest.update(_fingerprint(path))
        return f"{self.id if self.id == MINI else self.folder.name}@{digest.hexdigest()[:16]}"


def open_source(model_id: str) -> Source:
    """The source of a model id: `mini`, a folder, or `owner/name` on the Hub.

    Raises:
        GenesisError: MODEL_MISSING for an id that is none of these.
    """
    if model_id == MINI:
        return Source(MINI, MINI_FOLDER)
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        return Source(model_id, folder.resolve())
    if HUB_ID.fullmatch(model_id):
        return Source(model_id, None, pinned_revision(model_id))
    raise GenesisError(
        ErrorCode.MODEL_MISSING,
        f"There is no model {model_id!r}: it is neither a folder nor a Hub id.",
        f"Use {MINI}, {TRELLIS}, or the path of a model folder.",
        Remedy.USE_MINI,
    )


def find_checkpoint(source: Source, value: str) -> tuple[Path, Path] | None:
    """The pair `value`.json and `value`.safetensors: in the model itself, else with `owner/name` as another repository.

    Only "not found" leads to the second place; anything wrong with a file that exists is left to whoever reads it.
    """
    stem, sources = Path(value).name, [(source, value)]
    owner, _, rest = value.partition("/")
    name, _, inner = rest.partition("/")
    if inner and stem:
        sources.append((open_repository(f"{owner}/{name}"), inner))
    for place, path in sources:
        pair = (place.find(f"{path}.json"), place.find(f"{path}.safetensors"))
        if pair[0] and pair[1]:
            return pair[0], pair[1]
    return None


def open_repository(repository: str) -> Source:
    """The cache of a Hub repository at its pinned revision."""
    return Source(repository, None, pinned_revision(repository))


def find_folder(source: Source, name: str, needed: tuple[str, ...]) -> Path | None:
    """A folder holding the `needed` files: below the model, at an absolute path, or a Hub repository's snapshot."""
    candidates = [Path(name).expanduser()] if Path(name).expanduser().is_absolute() else []
    if source.folder is not None:
        candidates.append(source.folder / name)
    for folder in candidates:
        if all((folder / path).is_file() for path in needed):
            return folder
    if HUB_ID.fullmatch(name):
        found = [open_repository(name).find(path) for path in needed]
        if all(found):
            return found[0].parent
    return None


def find_remover(preferred: str) -> tuple[str, Path] | None:
    """Name and weights of a background remover that is here: the preferred repository (or file), else the free one."""
    if Path(preferred).is_file():
        return Path(preferred).parent.name, Path(preferred)
    for name in (preferred, FREE_REMOVER):
        found = open_repository(name).find("model.safetensors") if HUB_ID.fullmatch(name) else None
        if found is not None:
            return name, found
    return None


def missing(model_id: str, path: str, folder: Path | None) -> GenesisError:
    """The error for a file that is not here."""
    if model_id == MINI:
        remedy, action = "Install the edition of Genesis that brings genesis-mini (its file name ends in -mini).", None
    elif folder is not None:
        remedy, action = "Copy it there, or name another model folder.", None
    else:
        remedy, action = f"Run: genesis models download {model_id}", Remedy.DOWNLOAD_WEIGHTS
    where = f" in {folder}" if folder is not None else ""
    return GenesisError(ErrorCode.MODEL_MISSING, f"The model {model_id} lacks {path}{where}.", remedy, action)


def _fingerprint(path: Path) -> bytes:
    """sha256 over size, beginning and end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(max(0, size - SAMPLE_BYTES))
        return hashlib.sha256(size.to_bytes(8, "little") + head + file.read()).digest()
