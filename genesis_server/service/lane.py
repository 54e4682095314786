# SPDX-License-Identifier: Apache-2.0
"""One worker at a time, the job that it has, and the clocks that watch both.

A worker that dies, hangs or does not stop when told costs one process; what becomes of its job the desk decides. There are
two lanes: one computes and keeps its worker warm, the other downloads and has one only while there is something to do.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import zmq

from genesis_server.protocol.codec import encode
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.messages import JobInfo, JobRequest, JobState
from genesis_server.service.limits import Limits
from genesis_server.service.log import log
from genesis_server.service.worker_process import WorkerProcess


class Desk(Protocol):
    """What a lane reports to: the supervisor."""

    def progressed(self, job: JobInfo, kind: str, seconds: float) -> None:
        """The running job has come a step further."""

    def over(self, job: JobInfo, state: JobState, error: GenesisError | None = None) -> None:
        """The job has ended."""

    def lost(self, job: JobInfo, reason: str) -> None:
        """The worker of the job is gone."""

    def heard(self, lane: Lane, message: dict[str, Any], frames: list[bytes]) -> None:
        """The worker said something that is not about the progress of its job."""

    def silenced(self, lane: Lane, words: str, given_up: bool) -> None:
        """The worker is gone; `given_up` after too many failed starts in a row."""


@dataclass
class Running:
    """The job that the worker has, as it is now; the store learns of it when its state changes."""

    job: JobInfo
    heard: float
    cancel_by: float | None = None


class Lane:
    """A worker's life.

    Attributes:
        warm: whether it keeps a worker without a job.
        worker: the process, or None.
        running: the job that it has, or None.
        idle_since: when the last job ended, on the monotonic clock.
    """

    def __init__(
        self, desk: Desk, context: zmq.Context, command: Sequence[str], limits: Limits, numbers: Iterator[int], warm: bool
    ) -> None:
        """`numbers` tells the workers of all lanes apart."""
        self.warm = warm
        self.worker: WorkerProcess | None = None
        self.running: Running | None = None
        self.idle_since = time.monotonic()
        self._desk, self._context, self._command, self._limits, self._numbers = desk, context, command, limits, numbers
        self._failed_starts = 0
        self._started_at = time.monotonic()

    @property
    def state(self) -> str:
        """The worker in a word: "stopped", "starting", "idle" or "busy"."""
        if self.worker is None:
            return "stopped"
        return "busy" if self.running else "idle" if self.worker.ready else "starting"

    @property
    def given_up(self) -> bool:
        """Whether workers could not be started too often in a row."""
        return self._failed_starts >= self._limits.starts

    def busy_for(self) -> float:
        """Seconds until the running job will be done; 0 where there is none, negative where nobody knows."""
        if self.running is None:
            return 0.0
        eta = self.running.job.eta
        return max(0.0, eta - (time.monotonic() - self.running.heard)) if eta >= 0 else -1.0

    def forgive(self) -> None:
        """Tries to start workers again."""
        self._failed_starts = 0

    def keep(self, wanted: bool) -> None:
        """Starts a worker where there is none and one is wanted; ends one that is not."""
        if self.worker is None and (wanted or self.warm) and not self.given_up:
            self._started_at = time.monotonic()
            self.worker = WorkerProcess(next(self._numbers), self._context, self._command)
        elif self.worker is not None and self.worker.ready and not (wanted or self.warm or self.running):
            worker, self.worker = self.worker, None
            worker.end(patience=1.0)

    @property
    def free(self) -> bool:
        """Whether a job can be given."""
        return self.worker is not None and self.worker.ready and self.running is None

    def give(self, job: JobInfo, request: JobRequest) -> None:
        """Lets the worker begin a job."""
        self.running = Running(job, time.monotonic())
        self.worker.job = job.id
        log(logging.INFO, f"begins, attempt {job.attempts}", job.id)
        self.worker.tell(do="run", job=job.id, request=_plain(request))

    def ask(self, word: str, request_id: str, request: Any) -> None:
        """Sends a question; the answer comes back under the word, as frames for the client's request id."""
        self.worker.tell(do="ask", id=word, request=json.loads(encode(request, request_id)[0]))

    def cancel(self) -> None:
        """Tells the worker to stop its job, and begins to count."""
        if self.running.cancel_by is None:
            self.running.cancel_by = time.monotonic() + self._limits.grace
            self.worker.tell(do="cancel", job=self.running.job.id)

    def hear(self, line: bytes, frames: list[bytes]) -> None:
        """Takes one message of the worker; an empty line is its end."""
        if not line:
            self._gone("it ended by itself", patience=1.0)
            return
        try:
            message = json.loads(line)
            say, job = message["say"], message.get("job")
            if say == "ready":
                self.worker.ready, self._failed_starts = True, 0
                log(logging.INFO, f"worker {self.worker.number} ready in {time.monotonic() - self._started_at:.1f} s")
                self._desk.heard(self, message, frames)
            elif say in ("event", "finished", "failed"):
                if self.running and job == self.running.job.id:
                    self._hear_of_job(say, message)
            elif job is None or (self.running and job == self.running.job.id):
                self._desk.heard(self, message, frames)
        except (ValueError, KeyError, TypeError, GenesisError) as error:
            log(logging.ERROR, f"the worker said what is not a message ({error}): {line[:200]!r}", self.worker.job)

    def look_at_clocks(self, now: float) -> None:
        """Loses patience with a worker that does not start, does not stop, or has nothing to say."""
        if self.worker is None:
            return
        if self.running is None:
            if not self.worker.ready and now - self._started_at > self._limits.start_seconds:
                self._gone(f"it was not ready within {self._limits.start_seconds:g} s")
        elif self.running.cancel_by is not None and now > self.running.cancel_by:
            log(logging.WARNING, f"did not stop within {self._limits.grace:g} s and is ended by force", self.running.job.id)
            self._gone("it did not stop")
        elif now - self.running.heard > self._limits.silence:
            self._gone(f"it had been silent for {self._limits.silence:g} s")

    def close(self, save: Callable[[JobInfo], None]) -> None:
        """Ends the worker; a running job is stopped on purpose, and the attempt does not count."""
        if self.worker is not None:
            self.worker.end(patience=1.0)
        if self.running is not None:
            job, cancelled = self.running.job, self.running.cancel_by is not None
            state = JobState.CANCELLED if cancelled else JobState.QUEUED
            save(replace(job, state=state, attempts=job.attempts - 1))

    def _hear_of_job(self, say: str, message: dict[str, Any]) -> None:
        running = self.running
        if say == "event":
            event = Event.from_json(message["event"])
            running.heard = time.monotonic()
            running.job = replace(
                running.job,
                stage=event.stage,
                step=event.step,
                steps=event.steps,
                fraction=event.fraction,
                message=event.note or running.job.message,
                eta=event.remaining if event.kind != EventKind.NOTE else running.job.eta,
            )
            if event.kind != EventKind.STEP:
                what = f" in {event.seconds:.2f} s" if event.kind == EventKind.STAGE_FINISHED else f" {event.note}".rstrip()
                log(logging.INFO, f"{event.stage} {event.kind.value}{what}", running.job.id)
            self._desk.progressed(running.job, event.kind.value, event.seconds)
            return
        self.running, self.worker.job, self.idle_since = None, "", time.monotonic()
        if say == "finished":
            self._desk.over(replace(running.job, fraction=1.0), JobState.FINISHED)
            return
        error = GenesisError.from_json(message["error"])
        if error.code == ErrorCode.CANCELLED:
            self._desk.over(running.job, JobState.CANCELLED)
        else:
            self._desk.over(running.job, JobState.FAILED, error)

    def _gone(self, reason: str, patience: float = 0.0) -> None:
        """Collects the worker, by force if it has not ended."""
        worker, running, self.worker, self.running = self.worker, self.running, None, None
        self.idle_since = time.monotonic()
        ended = worker.end(patience)
        if running is not None and running.cancel_by is not None:
            self._desk.over(running.job, JobState.CANCELLED)
        elif running is not None:
            self._desk.lost(running.job, f"{reason}: {ended}")
        if not worker.ready:
            self._failed_starts += 1
        words = f"The worker cannot be started ({ended}): {worker.last_words() or 'it said nothing'}"
        if self.given_up:
            log(logging.ERROR, f"no worker could be started in {self._failed_starts} attempts")
        self._desk.silenced(self, words, self.given_up)


def _plain(request: Any) -> dict[str, Any]:
    return json.loads(encode(request)[0])
