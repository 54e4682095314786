# SPDX-License-Identifier: Apache-2.0
"""The worker that brings weights: a process of its own, so that generations go on meanwhile and a cancel is at once.

    python -m genesis_server.service.downloader

Speaks as `worker` does, needs no torch, and ends with its supervisor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from genesis_server.hub.download import download, verify
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import DOWNLOAD_STAGE, Event, EventKind
from genesis_server.protocol.messages import Answer, Download, JobRequest, Preview, Request
from genesis_server.service.worker import serve_jobs

EVERY = 0.25  # seconds between two events
SPEED_OVER = 20.0  # seconds over which the speed is taken


class Downloader:
    """Downloads one model after the other."""

    def run(
        self,
        request: JobRequest,
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        on_preview: Callable[[Preview], None],
    ) -> None:
        """Brings a model's files and verifies them; what is here already is kept.

        Raises:
            GenesisError: CANCELLED, GATED_MODEL, OFFLINE, MODEL_MISSING, DISK_FULL, BAD_MODEL.
        """
        if not isinstance(request, Download):
            raise GenesisError(ErrorCode.BAD_MESSAGE, f"{type(request).__name__} is no download.")
        meter = _Meter(on_event, cancelled)
        on_event(Event(EventKind.STAGE_STARTED, DOWNLOAD_STAGE))
        download(request.model, meter.received)
        problems = verify(request.model, meter.compared)
        if problems:
            raise GenesisError(ErrorCode.BAD_MODEL, f"{problems[0]}.", "Then download it again; the good files are kept.")
        on_event(Event(EventKind.STAGE_FINISHED, DOWNLOAD_STAGE, 1.0, seconds=round(meter.seconds, 2)))

    def answer(self, request: Request) -> Answer:
        """Answers nothing."""
        raise GenesisError(ErrorCode.BAD_MESSAGE, f"{type(request).__name__} is no question for a downloader.")

    def unload(self) -> None:
        """Has nothing to give back."""

    def model(self) -> tuple[str, bool]:
        """Has no model."""
        return "", False

    def device(self) -> dict[str, Any]:
        """Computes on nothing."""
        return {}


class _Meter:
    """Turns bytes into events, a few a second, and stops where cancellation was asked for."""

    def __init__(self, on_event: Callable[[Event], None], cancelled: Callable[[], bool]) -> None:
        self._on_event, self._cancelled = on_event, cancelled
        self._began = time.monotonic()
        self._told = 0.0
        self._seen: list[tuple[float, int]] = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def compared(self, file: str, _done: int, _total: int) -> None:
        self._stop_if_asked()
        self._on_event(Event(EventKind.NOTE, DOWNLOAD_STAGE, 1.0, note=f"Comparing the checksum of {file}"))

    def received(self, file: str, done: int, total: int) -> None:
        self._stop_if_asked()
        now = time.monotonic()
        if now - self._told < EVERY and done < total:
            return
        self._told = now
        self._seen = [(when, size) for when, size in self._seen if now - when < SPEED_OVER] + [(now, done)]
        when, size = self._seen[0]
        speed = (done - size) / (now - when) if now > when else 0.0
        remaining = (total - done) / speed if speed > 0 else -1.0
        note = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB: {file}"
        share = done / total if total else 1.0
        self._on_event(Event(EventKind.STEP, DOWNLOAD_STAGE, round(share, 4), note=note, remaining=round(remaining, 1)))

    def _stop_if_asked(self) -> None:
        if self._cancelled():
            raise GenesisError(ErrorCode.CANCELLED, "The download was cancelled.", "What has arrived is kept.")


if __name__ == "__main__":
    serve_jobs(Downloader)
