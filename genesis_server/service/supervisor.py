# SPDX-License-Identifier: Apache-2.0
"""The supervisor: owns endpoint, queue and job store, never loads torch, and outlives every worker.

One loop, one thread: requests from clients and lines from the worker are answered as they come; between them it looks at
clocks. A worker that dies, hangs or does not stop when told costs one process: its job goes back to the queue and begins
again at the first unfinished stage, as often as `Limits` allows (docs/architecture.md, "The processes").
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from genesis_server import __version__
from genesis_server.protocol.connection import process_alive
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.messages import (
    MAX_FRAME,
    Cancel,
    Done,
    Failure,
    Hello,
    JobEvent,
    JobInfo,
    Jobs,
    JobState,
    ListJobs,
    Ping,
    Rebake,
    Regenerate,
    Request,
    Retry,
    Shutdown,
    Status,
    Submit,
    Unwatch,
    Watch,
    Welcome,
    decode,
    encode,
    request_id_of,
)
from genesis_server.service.connection import Keys, remove_connection, write_connection
from genesis_server.service.endpoint import Endpoint
from genesis_server.service.faults import as_genesis_error
from genesis_server.service.intake import checked
from genesis_server.service.limits import DEFAULT_LIMITS, Limits
from genesis_server.service.log import log, open_log
from genesis_server.service.store import JobStore
from genesis_server.service.worker_process import INBOX, WORKER_COMMAND, WorkerProcess

TICK = 0.2  # seconds between looks at the clocks
PARENT_EVERY = 1.0  # seconds between looks whether the parent process is there
STATE_EVENT = "state"
ASSETS_FOLDER = "assets"
THUMBNAIL = "thumbnail.png"


@dataclass
class _Running:
    """The job that the worker has, as it is now; the store learns of it when its state changes."""

    job: JobInfo
    heard: float
    cancel_by: float | None = None


class Supervisor:
    """One server: `run` it until a client, a signal (`stop`) or the parent's end stops it."""

    def __init__(
        self,
        connection_file: Path,
        port: int = 0,
        parent: int | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Opens store, log and endpoint, and writes the connection file: from here on clients can connect.

        Raises:
            GenesisError: ALREADY_RUNNING, PORT_TAKEN, NO_PERMISSION.
        """
        self._file, self._parent, self._command, self._limits = connection_file, parent, worker_command, limits
        folder = connection_file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = JobStore(folder)
            self._log = open_log(folder)
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            raise GenesisError(
                ErrorCode.NO_PERMISSION, f"The folder {folder} cannot be made: {error.strerror}.", "Choose another folder."
            ) from error
        except OSError as error:
            raise as_genesis_error(error) from error
        self._assets = folder / ASSETS_FOLDER
        self._context = zmq.Context()
        self._keys = Keys.fresh()
        try:
            self._endpoint = Endpoint(self._context, self._keys, port)
        except GenesisError:
            self._store.close()
            raise
        try:
            write_connection(connection_file, self._endpoint.address, self._keys, __version__)
        except GenesisError:
            self._endpoint.close()
            self._store.close()
            raise
        self._inbox = self._context.socket(zmq.PULL)
        self._inbox.bind(INBOX)
        self._worker: WorkerProcess | None = None
        self._workers = self._failed_starts = 0
        self._started_at = self._parent_seen = time.monotonic()
        self._running: _Running | None = None
        self._sequences: dict[str, int] = {}
        self._stopping = False
        log(logging.INFO, f"Genesis {__version__} serves at {self._endpoint.address} as process {os.getpid()}")
        self._recover()

    def run(self) -> None:
        """Serves until stopped, then leaves a running job in the queue for the next start."""
        poller = zmq.Poller()
        poller.register(self._endpoint.socket, zmq.POLLIN)
        poller.register(self._inbox, zmq.POLLIN)
        try:
            while not self._stopping:
                self._dispatch()
                poller.poll(TICK * 1000)
                for peer, frames in self._endpoint.receive():
                    self._serve(peer, frames)
                while self._inbox.poll(0):
                    number, line = self._inbox.recv_multipart()
                    if self._worker is not None and int(number) == self._worker.number:
                        self._hear(line)
                self._look_at_clocks()
        finally:
            self._close()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return self._endpoint.address

    def stop(self) -> None:
        """Makes `run` return soon; may be called from a signal handler."""
        self._stopping = True

    # ---- clients ----

    def _serve(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            request_id, request = decode(frames)
            answer = self._carry_out(peer, request)
        except GenesisError as error:
            request_id, answer = request_id_of(frames), Failure(error.to_json())
            log(logging.WARNING, f"refused a message: {error}")
        except Exception as error:  # whatever it is, a request must not end the server
            request_id, answer = request_id_of(frames), Failure(as_genesis_error(error).to_json())
            logging.getLogger("genesis").exception("a request failed")
        self._endpoint.answer(peer, request_id, answer)

    def _carry_out(self, peer: bytes, request: Request) -> Any:
        match request:
            case Hello():
                return Welcome(__version__, os.getpid(), str(self._log), self._worker_state())
            case Ping():
                return Done()
            case Submit() | Rebake() | Regenerate():
                return self._submit(checked(request, self._assets))
            case ListJobs():
                return Jobs(tuple(map(self._live, self._store.newest())))
            case Status(job=job):
                return Jobs((self._live(self._store.get(job)),))
            case Watch(job=job):
                jobs = (self._store.get(job),) if job else self._store.newest()
                self._endpoint.watch(peer, job)
                return Jobs(tuple(map(self._live, jobs)))
            case Unwatch(job=job):
                self._endpoint.unwatch(peer, job)
                return Done()
            case Cancel(job=job):
                return self._cancel(self._store.get(job))
            case Retry(job=job):
                return self._retry(self._store.get(job))
            case Shutdown():
                self.stop()
                return Done()
        raise GenesisError(
            ErrorCode.BAD_MESSAGE, f"{type(request).__name__} is not a request.", "Update Genesis on both sides."
        )

    def _worker_state(self) -> str:
        if self._worker is None:
            return "stopped"
        return "busy" if self._running else "idle" if self._worker.ready else "starting"

    def _live(self, job: JobInfo) -> JobInfo:
        return self._running.job if self._running and self._running.job.id == job.id else job

    def _submit(self, request: Submit | Rebake | Regenerate) -> Jobs:
        job = self._store.add(request)
        self._failed_starts = 0
        log(logging.INFO, f"{job.kind} {job.asset}", job.id)
        self._announce(job)
        return Jobs((job,))

    def _retry(self, job: JobInfo) -> Jobs:
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            self._failed_starts = 0
            job = replace(job, state=JobState.QUEUED, attempts=0, error=None, message="", finished=0.0)
            self._change(job)
        return Jobs((self._live(job),))

    def _cancel(self, job: JobInfo) -> Jobs:
        if self._running and self._running.job.id == job.id:
            if self._running.cancel_by is None:
                self._running.cancel_by = time.monotonic() + self._limits.grace
                self._worker.tell(do="cancel", job=job.id)
        elif job.state == JobState.QUEUED:
            job = self._over(job, JobState.CANCELLED)
        return Jobs((self._live(job),))

    # ---- jobs ----

    def _recover(self) -> None:
        """Jobs that were running when the last server ended without a word."""
        for job in self._store.running():
            self._lost(job, "the server ended")

    def _dispatch(self) -> None:
        """Keeps a warm worker, and gives it the next job."""
        if self._worker is None and self._failed_starts < self._limits.starts:
            self._workers += 1
            self._started_at = time.monotonic()
            self._worker = WorkerProcess(self._workers, self._context, self._command)
        if self._worker is None or not self._worker.ready or self._running:
            return
        job = next(iter(self._store.queued()), None)
        if job is None:
            return
        job = replace(job, state=JobState.RUNNING, attempts=job.attempts + 1, started=time.time(), stage="", step=0, steps=0)
        self._running = _Running(job, time.monotonic())
        self._worker.job = job.id
        log(logging.INFO, f"begins, attempt {job.attempts}", job.id)
        self._change(job)
        self._worker.tell(do="run", job=job.id, request=json.loads(encode(self._store.request(job.id))[0]))

    def _change(self, job: JobInfo) -> None:
        self._store.save(job)
        self._announce(job)

    def _announce(self, job: JobInfo, kind: str = STATE_EVENT, seconds: float = 0.0) -> None:
        sequence = self._sequences[job.id] = self._sequences.get(job.id, 0) + 1
        thumbnail = _thumbnail(job) if job.state == JobState.FINISHED else b""
        self._endpoint.publish(JobEvent(sequence, kind, job, seconds, thumbnail))

    def _over(self, job: JobInfo, state: JobState, error: GenesisError | None = None) -> JobInfo:
        job = replace(job, state=state, finished=time.time(), error=error.to_json() if error is not None else None)
        log(logging.INFO if error is None else logging.ERROR, f"{state.value}{f': {error}' if error else ''}", job.id)
        self._change(job)
        return job

    def _lost(self, job: JobInfo, reason: str) -> None:
        """The worker of a job is gone: another attempt, or the end of it."""
        if job.attempts < self._limits.attempts:
            note = f"The job was interrupted ({reason}) and goes on at its first unfinished stage."
            log(logging.WARNING, note, job.id)
            self._change(replace(job, state=JobState.QUEUED, message=note))
        else:
            self._over(
                job, JobState.FAILED, _worker_lost(f"The work was interrupted {job.attempts} times, last because {reason}.")
            )

    # ---- the worker ----

    def _hear(self, line: bytes) -> None:
        if not line:
            self._worker_gone("it ended by itself", patience=1.0)
            return
        try:
            message = json.loads(line)
            say, job = message["say"], message.get("job")
            if say == "ready":
                self._worker.ready, self._failed_starts = True, 0
                log(logging.INFO, f"worker {self._worker.number} ready in {time.monotonic() - self._started_at:.1f} s")
            elif self._running and job == self._running.job.id:
                self._hear_of_job(say, message)
        except (ValueError, KeyError, TypeError, GenesisError) as error:
            log(logging.ERROR, f"the worker said what is not a message ({error}): {line[:200]!r}", self._worker.job)

    def _hear_of_job(self, say: str, message: dict[str, Any]) -> None:
        running = self._running
        if say == "event":
            event = Event.from_json(message["event"])
            running.heard = time.monotonic()
            note = event.note or running.job.message
            running.job = replace(
                running.job, stage=event.stage, step=event.step, steps=event.steps, fraction=event.fraction, message=note
            )
            if event.kind != EventKind.STEP:
                what = f" in {event.seconds:.2f} s" if event.kind == EventKind.STAGE_FINISHED else f" {event.note}".rstrip()
                log(logging.INFO, f"{event.stage} {event.kind.value}{what}", running.job.id)
            self._announce(running.job, event.kind.value, event.seconds)
            return
        self._running, self._worker.job = None, ""
        if say == "finished":
            self._over(replace(running.job, fraction=1.0), JobState.FINISHED)
            return
        error = GenesisError.from_json(message["error"])
        if error.code == ErrorCode.CANCELLED:
            self._over(running.job, JobState.CANCELLED)
        else:
            self._over(running.job, JobState.FAILED, error)

    def _worker_gone(self, reason: str, patience: float = 0.0) -> None:
        """Collects the worker, by force if it has not ended, and decides what becomes of its job."""
        worker, running, self._worker, self._running = self._worker, self._running, None, None
        ended = worker.end(patience)
        if running is not None and running.cancel_by is not None:
            self._over(running.job, JobState.CANCELLED)
        elif running is not None:
            self._lost(running.job, f"{reason}: {ended}")
        if worker.ready:
            return
        self._failed_starts += 1
        if self._failed_starts >= self._limits.starts:
            log(logging.ERROR, f"no worker could be started in {self._failed_starts} attempts")
            words = f"The worker cannot be started ({ended}): {worker.last_words() or 'it said nothing'}"
            for job in self._store.queued():
                self._over(job, JobState.FAILED, _worker_lost(words))

    def _look_at_clocks(self) -> None:
        now = time.monotonic()
        if self._parent is not None and now - self._parent_seen > PARENT_EVERY:
            self._parent_seen = now
            if not process_alive(self._parent):
                log(logging.INFO, f"process {self._parent}, for which this server was started, is gone")
                self.stop()
        if self._worker is None:
            return
        if self._running is None:
            if not self._worker.ready and now - self._started_at > self._limits.start_seconds:
                self._worker_gone(f"it was not ready within {self._limits.start_seconds:g} s")
        elif self._running.cancel_by is not None and now > self._running.cancel_by:
            log(logging.WARNING, f"did not stop within {self._limits.grace:g} s and is ended by force", self._running.job.id)
            self._worker_gone("it did not stop")
        elif now - self._running.heard > self._limits.silence:
            self._worker_gone(f"it had been silent for {self._limits.silence:g} s")

    def _close(self) -> None:
        remove_connection(self._file, self._keys)
        if self._worker is not None:
            self._worker.end(patience=1.0)
        if self._running is not None:  # stopped on purpose: the attempt does not count
            job = self._running.job
            cancelled = self._running.cancel_by is not None
            state = JobState.CANCELLED if cancelled else JobState.QUEUED
            self._change(replace(job, state=state, attempts=job.attempts - 1))
        log(logging.INFO, "the server ends")
        self._store.close()
        self._inbox.close(linger=0)
        self._endpoint.close()
        self._context.term()


def _worker_lost(message: str) -> GenesisError:
    return GenesisError(ErrorCode.WORKER_LOST, message, "Look at the log, then try again.", Remedy.RETRY)


def _thumbnail(job: JobInfo) -> bytes:
    try:
        data = (Path(job.asset) / THUMBNAIL).read_bytes()
    except OSError:
        return b""
    return data if len(data) <= MAX_FRAME else b""
