# SPDX-License-Identifier: Apache-2.0
"""How long stages take on this machine: remembered from earlier runs, guessed before the first.

A stage's time is its work times seconds per unit of work. The unit is one sampler step, one picture, or one texture of 1024
pixels; the median of the last few runs of the same model, resolution and device is believed, so that one run on a busy
machine, or the first one that loads weights, does not count for much.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from genesis_server.protocol.events import REPORTED_STAGES
from genesis_server.protocol.parameters import SAMPLED_STAGES, GenerateSettings

TIMINGS_FILE = "timings.json"
KEPT = 8  # runs of each stage
USUAL_STEPS = 12  # of a sampler whose settings leave it to the model
BAKE_BASE = 0.5  # work of a bake that does not depend on the texture's size, in textures of 1024 pixels
# seconds per unit of work before the first run: genesis-mini on two CPU cores, the published model on a good GPU
GUESS_CPU = {"cutout": 0.3, "structure": 0.3, "shape": 0.1, "texture": 0.05, "voxels": 0.3, "mesh": 4.0, "bake": 3.0}
GUESS_GPU = {"cutout": 1.0, "structure": 0.4, "shape": 1.0, "texture": 1.0, "voxels": 4.0, "mesh": 10.0, "bake": 3.0}


def work_of(stage: str, settings: GenerateSettings, pictures: int, steps: Mapping[str, int] | None = None) -> float:
    """Units of work of a reported stage.

    Args:
        steps: of each sampler where the settings leave it to the model.
    """
    if stage == "cutout":
        return float(max(1, pictures))
    if stage in SAMPLED_STAGES:
        chosen = getattr(settings, stage).steps or (steps or {}).get(stage, USUAL_STEPS)
        return float(chosen * (pictures if settings.multi_view == "multidiffusion" else 1))
    if stage == "bake":
        return BAKE_BASE + (settings.bake.texture_size / 1024) ** 2
    return 1.0


class Timings:
    """Seconds per unit of work, by what runs: model, resolution and device in one word."""

    def __init__(self, folder: Path | None) -> None:
        """Reads what is remembered in `folder`; None remembers nothing beyond this process."""
        self._file = folder / TIMINGS_FILE if folder is not None else None
        self._seen: dict[str, dict[str, list[float]]] = {}
        if self._file is not None and self._file.exists():
            self._seen = _read(self._file)

    def record(self, what: str, stage: str, work: float, seconds: float) -> None:
        """Remembers a finished stage; a folder that cannot be written is no reason to stop."""
        rates = self._seen.setdefault(what, {}).setdefault(stage, [])
        rates.append(round(seconds / max(work, 1e-6), 5))
        del rates[:-KEPT]
        if self._file is None:
            return
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self._seen, indent=1), "utf-8")
            os.replace(temporary, self._file)
        except OSError:
            temporary.unlink(missing_ok=True)

    def measured(self, what: str, stages: Sequence[str]) -> bool:
        """Whether every one of these stages has run before."""
        return all(self._seen.get(what, {}).get(stage) for stage in stages)

    def expect(self, what: str, stages: Sequence[str], work: Mapping[str, float], accelerated: bool) -> dict[str, float]:
        """Seconds of each stage."""
        guess, seen = GUESS_GPU if accelerated else GUESS_CPU, self._seen.get(what, {})
        rates = {stage: statistics.median(seen[stage]) if seen.get(stage) else guess[stage] for stage in stages}
        return {stage: round(rates[stage] * work[stage], 3) for stage in stages}


def _read(file: Path) -> dict[str, dict[str, list[float]]]:
    """What a file holds; anything that is not times is forgotten."""
    try:
        values = json.loads(file.read_text("utf-8"))
        return {
            str(what): {
                stage: [float(rate) for rate in rates if 0 <= float(rate) < 1e6][-KEPT:]
                for stage, rates in stages.items()
                if stage in REPORTED_STAGES
            }
            for what, stages in values.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
