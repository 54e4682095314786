# SPDX-License-Identifier: Apache-2.0
"""Stage keys: a hash of everything that decides a stage's result (docs/architecture.md, "The asset folder")."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def stage_key(stage: str, ingredients: Mapping[str, Any], above: str = "") -> str:
    """Key of a stage from its own ingredients (plain values) and the key of the stage above it."""
    text = json.dumps([stage, ingredients, above], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
