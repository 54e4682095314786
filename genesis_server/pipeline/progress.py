# SPDX-License-Identifier: Apache-2.0
"""Turning work into events: which stage, which step, how much of the whole; and stopping where cancellation was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event, EventKind

# Share of the time on two CPU cores with genesis-mini; only the ratio matters, and only to the progress bar.
WEIGHTS = {"cutout": 1, "structure": 12, "shape": 12, "texture": 6, "voxels": 4, "mesh": 20, "bake": 25}


class Progress:
    """The events of one generation.

    Args:
        stages: reported stages that will run, in order.
        on_event: gets every event.
        cancelled: asked at every step and stage.
    """

    def __init__(self, stages: Sequence[str], on_event: Callable[[Event], None], cancelled: Callable[[], bool]) -> None:
        self._stages, self._on_event, self._cancelled = list(stages), on_event, cancelled
        self._total = sum(WEIGHTS[stage] for stage in stages) or 1
        self._started = self._reached = 0.0

    def started(self, stage: str) -> None:
        """A stage begins."""
        self.check()
        self._started = time.perf_counter()
        self._on_event(Event(EventKind.STAGE_STARTED, stage, self._fraction(stage, 0)))

    def step(self, stage: str, step: int, steps: int) -> None:
        """`step` of `steps` are done; raises where cancellation was asked for."""
        self.check()
        self._on_event(Event(EventKind.STEP, stage, self._fraction(stage, step / steps), step, steps))

    def finished(self, stage: str) -> None:
        """A stage is done."""
        seconds = round(time.perf_counter() - self._started, 3)
        self._on_event(Event(EventKind.STAGE_FINISHED, stage, self._fraction(stage, 1), seconds=seconds))

    def note(self, stage: str, text: str) -> None:
        """Something the user should know."""
        self._on_event(Event(EventKind.NOTE, stage, self._reached, note=text))

    def check(self) -> None:
        """Stop here if cancellation was asked for.

        Raises:
            GenesisError: CANCELLED.
        """
        if self._cancelled():
            raise GenesisError(ErrorCode.CANCELLED, "The generation was cancelled.", "Finished stages are kept.")

    def _fraction(self, stage: str, part: float) -> float:
        before = sum(WEIGHTS[name] for name in self._stages[: self._stages.index(stage)])
        self._reached = round((before + part * WEIGHTS[stage]) / self._total, 4)
        return self._reached
