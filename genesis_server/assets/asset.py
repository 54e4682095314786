# SPDX-License-Identifier: Apache-2.0
"""One asset folder: settings, inputs, and the files of every finished stage with the key that made them.

A stage's files and its entry in `asset.json` change together: everything is written to the side and synced, the old entry
is taken out, files are renamed into place, the new entry comes in. Whenever that stops, what `asset.json` names is whole.
Paths inside are relative, so a folder can be moved or copied.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from genesis_server.assets.files import explained, sync_file, sync_folder
from genesis_server.assets.keys import file_hash
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BACKGROUNDS, MAX_VIEWS, GenerateSettings

SCHEMA = 1
RECORD = "asset.json"
# beside the finished files, so that renames stay on one file system; two, for settings may change while a stage runs
SIDE_FOLDER, RECORD_SIDE_FOLDER = ".writing", ".writing-record"


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Attributes:
        key: what decided its result.
        files: name and size in bytes of each file.
        seconds: how long it took.
        statistics: plain values to show, such as numbers of cells or faces.
    """

    key: str
    files: Mapping[str, int]
    seconds: float = 0.0
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"key": self.key, "files": dict(self.files), "seconds": self.seconds, "statistics": dict(self.statistics)}


class StageWriter:
    """Where a running stage puts its files and what it has to say about them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.statistics: dict[str, Any] = {}

    def file(self, name: str) -> Path:
        """The path at which to write the file that will be called `name`."""
        return self._folder / name

    def written(self) -> list[Path]:
        """What has been written."""
        return sorted(path for path in self._folder.iterdir() if path.name != RECORD)


class Asset:
    """An asset folder. Use `create` or `open`."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self._record = record

    @classmethod
    def create(
        cls,
        folder: str | Path,
        pictures: Sequence[Image.Image],
        settings: GenerateSettings,
        model_id: str,
        backgrounds: Sequence[str] = (),
    ) -> Asset:
        """A new asset, or an existing one given new pictures and settings (its stages then run again where they differ).

        Args:
            pictures: as `pipeline.picture.load_picture` returns them; several are views of one object.
            backgrounds: what becomes of each picture's background; none, or an empty word, follows the setting.

        Raises:
            GenesisError: BAD_PARAMETER for no or too many pictures, BAD_ASSET for a folder that holds something else,
                NEWER_SCHEMA, DISK_FULL, NO_PERMISSION.
        """
        if not 1 <= len(pictures) <= MAX_VIEWS:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, f"{len(pictures)} pictures were given.", f"Give 1 to {MAX_VIEWS} views of one object."
            )
        folder = Path(folder)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stages = _stages_of(folder)
            record = {
                "schema": SCHEMA,
                "model": {"id": model_id, "identity": ""},
                "settings": settings.to_json(),
                "inputs": [],
                "stages": stages,
            }
            asset = cls(folder.resolve(), record)
            with asset._side() as side:
                for i, picture in enumerate(pictures):
                    picture.save(side / f"input_{i}.png")
                names = sorted(path.name for path in side.iterdir())
                hashes = [file_hash(side / name) for name in names]
                record["inputs"] = [
                    {"file": name, "sha256": digest, "background": choice}
                    for name, digest, choice in zip(names, hashes, _choices(backgrounds, len(names)), strict=True)
                ]
                asset._commit(side, record, record)
            for stale in set(folder.glob("input_*.png")) - {folder / name for name in names}:
                stale.unlink()
        return asset

    @classmethod
    def open(cls, folder: str | Path, needed: Container[str] | None = None) -> Asset:
        """An existing asset, every file that it names checked for being there in full.

        Args:
            needed: stages whose files must be whole; one of the others that is damaged counts as not finished, so that it
                is made again. None needs all.

        Raises:
            GenesisError: BAD_ASSET naming the damaged or missing file, NEWER_SCHEMA, NO_PERMISSION.
        """
        folder = Path(folder)
        asset = cls(folder.resolve(), _read_record(folder))
        for entry in asset._record["inputs"]:
            if not asset.path(entry["file"]).is_file():
                raise damaged(asset.path(entry["file"]), "is missing")
        for stage, record in asset._stages().items():
            problem = asset._problem(record)
            if problem is not None and (needed is None or stage in needed):
                raise problem
            if problem is not None:
                del asset._record["stages"][stage]
        return asset

    def imagined(self, settings: GenerateSettings, backgrounds: Sequence[str] = ()) -> Asset:
        """This asset as it would be with other settings; nothing is written."""
        return Asset(self.folder, {**self._record, "settings": settings.to_json(), "inputs": self._inputs(backgrounds)})

    @property
    def settings(self) -> GenerateSettings:
        """What the asset is to be, validated."""
        return GenerateSettings.from_json(self._record["settings"])

    @property
    def model_id(self) -> str:
        """The model it is generated with."""
        return self._record["model"]["id"]

    @property
    def model_identity(self) -> str:
        """Id and revision of the model that its stages were made with; empty before the first stage."""
        return self._record["model"]["identity"]

    @property
    def inputs(self) -> list[Path]:
        """The pictures, in order."""
        return [self.path(entry["file"]) for entry in self._record["inputs"]]

    @property
    def backgrounds(self) -> list[str]:
        """What becomes of each picture's background: its own choice, or the setting."""
        return [entry.get("background") or self.settings.background for entry in self._record["inputs"]]

    @property
    def input_hashes(self) -> list[str]:
        """sha256 of each picture as stored."""
        return [entry["sha256"] for entry in self._record["inputs"]]

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each finished stage."""
        return {name: record.seconds for name, record in self._stages().items()}

    @property
    def statistics(self) -> dict[str, Any]:
        """What the finished stages say about their results, by stage."""
        return {name: dict(record.statistics) for name, record in self._stages().items()}

    def path(self, name: str) -> Path:
        """A file of the asset."""
        return self.folder / name

    def stage(self, name: str) -> StageRecord | None:
        """The record of a finished stage, or None."""
        return self._stages().get(name)

    def change(self, settings: GenerateSettings, backgrounds: Sequence[str] = ()) -> None:
        """Ask for other settings, and other backgrounds where there are any; the next generation runs what they change."""
        self._rewrite({**self._record, "settings": settings.to_json(), "inputs": self._inputs(backgrounds)})

    def made_with(self, identity: str) -> None:
        """Note which weights the stages from now on are made with."""
        if identity != self.model_identity:
            self._rewrite({**self._record, "model": {"id": self.model_id, "identity": identity}})

    @contextmanager
    def replacing(self, stage: str, key: str) -> Iterator[StageWriter]:
        """Run a stage inside; its files take the place of the old ones when the block ends well, else nothing changes.

        Raises:
            GenesisError: DISK_FULL, NO_PERMISSION; the stage's previous files are then still in place.
        """
        started = time.perf_counter()
        with explained(self.folder), self._side() as side:
            writer = StageWriter(side)
            yield writer
            files = {path.name: path.stat().st_size for path in writer.written()}
            finished = StageRecord(key, files, round(time.perf_counter() - started, 3), writer.statistics)
            others = {name: value for name, value in self._record["stages"].items() if name != stage}
            self._commit(
                side,
                {**self._record, "stages": others},
                {**self._record, "stages": {**others, stage: finished.to_json()}},
            )

    def _inputs(self, backgrounds: Sequence[str]) -> list[dict[str, Any]]:
        entries = self._record["inputs"]
        if not backgrounds:
            return entries
        choices = _choices(backgrounds, len(entries))
        return [{**entry, "background": choice} for entry, choice in zip(entries, choices, strict=True)]

    def _problem(self, record: StageRecord) -> GenesisError | None:
        """What is wrong with the files of a stage."""
        for name, size in record.files.items():
            path = self.path(name)
            if not path.is_file():
                return damaged(path, "is missing")
            if path.stat().st_size != size:
                return damaged(path, f"has {path.stat().st_size} bytes instead of {size}")
        return None

    def _stages(self) -> dict[str, StageRecord]:
        return {name: StageRecord(**values) for name, values in self._record["stages"].items()}

    def _rewrite(self, record: dict[str, Any]) -> None:
        with explained(self.folder), self._side(RECORD_SIDE_FOLDER) as side:
            self._commit(side, record, record)

    @contextmanager
    def _side(self, name: str = SIDE_FOLDER) -> Iterator[Path]:
        side = self.folder / name
        shutil.rmtree(side, ignore_errors=True)  # of a run that was killed
        side.mkdir()
        try:
            yield side
        finally:
            shutil.rmtree(side, ignore_errors=True)

    def _commit(self, side: Path, between: dict[str, Any], after: dict[str, Any]) -> None:
        """Put the files of `side` in place. All bytes are on the disk before the first rename, which needs no space."""
        files = [path for path in side.iterdir()]
        records = []
        for name, record in (("between", between), ("after", after)):
            path = side / f"{name}.{RECORD}"
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            records.append(path)
        for path in (*files, *records):
            sync_file(path)
        records[0].replace(self.folder / RECORD)
        for path in files:
            path.replace(self.folder / path.name)
        sync_folder(self.folder)
        records[1].replace(self.folder / RECORD)
        sync_folder(self.folder)
        self._record = after


def damaged(path: Path, what: str) -> GenesisError:
    """The error for a file of an asset that cannot be used; `what` goes on after its name."""
    return GenesisError(
        ErrorCode.BAD_ASSET,
        f"{path} {what}.",
        "Copy the file back, or generate the asset again from its pictures.",
    )


def _choices(backgrounds: Sequence[str], pictures: int) -> list[str]:
    """One word per picture.

    Raises:
        GenesisError: BAD_PARAMETER for an unknown word, or another number of them.
    """
    unknown = [choice for choice in backgrounds if choice and choice not in BACKGROUNDS]
    if unknown or len(backgrounds) not in (0, pictures):
        what = f"{unknown[0]!r}" if unknown else f"given {len(backgrounds)} times for {pictures} pictures"
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"The background of a picture is {what}.", f"Use one of {', '.join(BACKGROUNDS)} for each."
        )
    return list(backgrounds) or [""] * pictures


def _stages_of(folder: Path) -> dict[str, Any]:
    """Finished stages to keep when an asset is created where one may already be."""
    if not (folder / RECORD).exists():
        if any(path.name not in (SIDE_FOLDER, RECORD_SIDE_FOLDER) for path in folder.iterdir()):
            raise GenesisError(
                ErrorCode.BAD_ASSET,
                f"{folder} is not empty and not an asset folder.",
                "Choose another name, such as one that ends in .genesis.",
            )
        return {}
    try:
        return Asset.open(folder, needed=())._record["stages"]
    except GenesisError as error:
        if error.code != ErrorCode.BAD_ASSET:
            raise
        return {}  # damaged: begin anew


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"{folder} is not an asset folder: it has no {RECORD}.", "Name a folder made by Genesis."
        )
    try:
        with explained(folder):
            record = json.loads(path.read_text("utf-8"))
        schema = record["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise GenesisError(
                ErrorCode.NEWER_SCHEMA,
                f"{folder} was written by a newer Genesis: its schema is {schema}, this one reads up to {SCHEMA}.",
                "Update Genesis.",
            )
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}")
        _check_settings(path, record)
        for values in record["stages"].values():
            if not StageRecord(**values).key:
                raise ValueError("a stage has no key")
        for name in _names(record):
            if Path(name).name != name:
                raise ValueError(f"it names the file {name!r}, which is not inside the folder")
        str(record["model"]["id"] + record["model"]["identity"])
    except json.JSONDecodeError as error:
        raise damaged(path, f"is cut short or not JSON ({error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"is damaged ({type(error).__name__}: {error})") from error
    return record


def _check_settings(path: Path, record: Mapping[str, Any]) -> None:
    try:
        GenerateSettings.from_json(record["settings"])
        _choices([entry.get("background", "") for entry in record["inputs"]], len(record["inputs"]))
    except GenesisError as error:
        raise damaged(path, f"is damaged ({error.message.rstrip('.')})") from error


def _names(record: dict[str, Any]) -> list[str]:
    inputs = [entry["file"] for entry in record["inputs"]]
    return inputs + [name for values in record["stages"].values() for name in values["files"]]
