# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Regenerate will do and how long it takes, said before it is pressed."""

from __future__ import annotations

from collections.abc import Sequence

from genesis_server.protocol.errors import GenesisError

from .lazy import messages
from .properties import GenesisMemory
from .task import time_words

_ORDER = ("cutout", "structure", "shape", "texture", "mesh")
# the first stage that a setting concerns, by the beginning of its dotted name
_FIRST = {
    "background": "cutout",
    "seed": "structure",
    "multi_view": "structure",
    "speed": "shape",
    "resolution": "structure",
    "structure.": "structure",
    "shape.": "shape",
    "texture": "texture",
    "bake.": "mesh",
}


def words(memory: GenesisMemory, forecast: messages.Forecast | None) -> str:
    """One sentence, from the server's forecast where it is known, from the changed settings otherwise."""
    if forecast is not None:
        seconds = sum(forecast.seconds)
        time = f", about {time_words(seconds)}" if forecast.stages else ""
        return _sentence(forecast.stages) + time
    try:
        changed = memory.changed()
    except GenesisError as error:
        return str(error)
    begins = [stage for name in changed for start, stage in _FIRST.items() if name.startswith(start)]
    if not begins:
        return _sentence(())
    return _sentence(_ORDER[min(_ORDER.index(stage) for stage in begins) :])


def _sentence(stages: Sequence[str]) -> str:
    if not stages:
        return "Nothing has changed"
    if "structure" in stages or "cutout" in stages:
        return "Re-runs everything"
    if "shape" in stages:
        return "Re-runs from shape on"
    if "texture" in stages:
        return "Re-runs texture only"
    return "Re-bakes only"
