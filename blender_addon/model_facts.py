# SPDX-License-Identifier: GPL-3.0-or-later
"""What models say about themselves, as a server last told it: their own sampler settings, and what they cannot do.

Kept in a small file, since the panel shows them before a server runs; what cannot be read or written there is only not known.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from genesis_server.protocol.connection import home_folder
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import GenerateSettings

if TYPE_CHECKING:
    from .lazy import messages

FILE = "models.json"
_MAX_BYTES = 1 << 20
_known: dict[str, dict[str, Any]] | None = None


def limits(model: str) -> str:
    """One sentence on what a model cannot do; empty where it says nothing."""
    return _facts(model).get("limits", "")


def default(model: str, name: str) -> Any:
    """A model's own value of a setting by its dotted name; None where it is not known."""
    return _facts(model).get("defaults", {}).get(name)


def learn(models: Iterable[messages.ModelInfo]) -> None:
    """Takes what a server says, and keeps what is new."""
    global _known
    said = {model.id: {"limits": model.limits, "defaults": dict(model.defaults)} for model in models if model.defaults}
    known = {**_all(), **said}
    if known == _known:
        return
    _known = known
    with contextlib.suppress(OSError):
        home_folder().mkdir(parents=True, exist_ok=True)
        (home_folder() / FILE).write_text(json.dumps(known), "utf-8")


def forget() -> None:
    """Reads the file again when it is next needed."""
    global _known
    _known = None


def _facts(model: str) -> dict[str, Any]:
    return _all().get(model, {})


def _all() -> dict[str, dict[str, Any]]:
    global _known
    if _known is None:
        _known = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, KeyError, GenesisError):
            with (home_folder() / FILE).open("rb") as file:
                said = json.loads(file.read(_MAX_BYTES))
            for facts in said.values():
                GenerateSettings().with_values(facts["defaults"])  # a file of another release may name others
            _known = {
                str(model): {"limits": str(facts["limits"]), "defaults": facts["defaults"]} for model, facts in said.items()
            }
    return _known
