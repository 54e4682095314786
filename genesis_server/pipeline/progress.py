# SPDX-License-Identifier: Apache-2.0
"""Turning work into events: which stage, which step, how much of the whole; and stopping where cancellation was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event, EventKind

# Share of the time on two CPU cores with genesis-mini, where nothing better is known; only the ratio matters then.
WEIGHTS = {"cutout": 1, "structure": 12, "shape": 12, "texture": 6, "voxels": 4, "mesh": 20, "bake": 25}


class Progress:
    """The events of one run: a generation, or a bake alone.

    Args:
        stages: reported stages that will run, in order.
        on_event: gets every event.
        cancelled: asked at every step and stage.
        expected: seconds of each stage as far as earlier runs tell; fractions and remaining time follow from them.
    """

    def __init__(
        self,
        stages: Sequence[str],
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        expected: Mapping[str, float] | None = None,
    ) -> None:
        self._stages, self._on_event, self._cancelled = list(stages), on_event, cancelled
        self._timed = expected is not None
        self._weights = {stage: max((expected or WEIGHTS)[stage], 1e-3) for stage in stages}
        self._total = sum(self._weights.values()) or 1
        self._started = self._reached = 0.0

    def started(self, stage: str) -> None:
        """A stage begins."""
        self.check()
        self._started = time.perf_counter()
        self._tell(EventKind.STAGE_STARTED, stage, 0.0)

    def step(self, stage: str, step: int, steps: int) -> None:
        """`step` of `steps` are done; raises where cancellation was asked for."""
        self.check()
        self._tell(EventKind.STEP, stage, step / steps, step=step, steps=steps)

    def finished(self, stage: str) -> None:
        """A stage is done."""
        seconds = round(time.perf_counter() - self._started, 3)
        self._tell(EventKind.STAGE_FINISHED, stage, 1.0, seconds=seconds)

    def note(self, stage: str, text: str) -> None:
        """Something the user should know."""
        self._on_event(Event(EventKind.NOTE, stage, self._reached, note=text))

    def check(self) -> None:
        """Stop here if cancellation was asked for.

        Raises:
            GenesisError: CANCELLED.
        """
        if self._cancelled():
            raise GenesisError(ErrorCode.CANCELLED, "Cancelled.", "What was finished before is as it was.")

    def _tell(self, kind: EventKind, stage: str, part: float, **fields: Any) -> None:
        place = self._stages.index(stage)
        before = sum(self._weights[name] for name in self._stages[:place])
        self._reached = round((before + part * self._weights[stage]) / self._total, 4)
        self._on_event(Event(kind, stage, self._reached, remaining=self._remaining(place, part), **fields))

    def _remaining(self, place: int, part: float) -> float:
        """Seconds to come: of this stage as fast as it has been so far, of those after it as earlier runs were."""
        if not self._timed:
            return -1.0
        expected = self._weights[self._stages[place]]
        if part > 0:
            expected = (time.perf_counter() - self._started) / part
        later = sum(self._weights[name] for name in self._stages[place + 1 :])
        return round(max(0.0, expected * (1 - part)) + later, 2)
