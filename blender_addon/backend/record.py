# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of an environment, as its record says. Light: the panel looks here before anything else is loaded."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import Bundle

RECORD = "installed.json"
ENVIRONMENT, CACHE = "environment", "cache"
LAST_STEP = "check"


class State(StrEnum):
    """What there is of an environment."""

    ABSENT = "absent"
    INCOMPLETE = "incomplete"
    OUTDATED = "outdated"
    READY = "ready"


def interpreter(folder: Path) -> Path:
    """Where the interpreter of the environment in `folder` is, or will be."""
    return folder / ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_of(folder: Path) -> Path | None:
    """The interpreter of a finished environment, of whatever release; None while there is none."""
    return interpreter(folder) if LAST_STEP in read_record(folder) and interpreter(folder).exists() else None


def state_of(folder: Path, bundle: Bundle) -> State:
    """Whether the environment is there, complete, and that of this release; looks at files only."""
    record = read_record(folder)
    if not record and not interpreter(folder).exists():
        return State.ABSENT
    if LAST_STEP not in record or not interpreter(folder).exists():
        return State.INCOMPLETE
    return State.READY if record[LAST_STEP].get("release") == bundle.digest() else State.OUTDATED


def remove(folder: Path) -> None:
    """Takes the environment away, with its caches; the log stays."""
    import shutil  # with the compressors that it brings, 3 ms

    (folder / RECORD).unlink(missing_ok=True)
    for path in (interpreter(folder).parent.parent, folder / CACHE):
        shutil.rmtree(path, ignore_errors=True)


def read_record(folder: Path) -> dict[str, dict[str, str]]:
    """What has been installed, by step; empty where nothing has."""
    try:
        return {str(name): dict(value) for name, value in json.loads((folder / RECORD).read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_record(folder: Path, record: dict[str, dict[str, str]]) -> None:
    """Remembers it."""
    temporary = folder / f"{RECORD}.new"
    temporary.write_text(json.dumps(record, indent=1), "utf-8")
    os.replace(temporary, folder / RECORD)
