# SPDX-License-Identifier: Apache-2.0
"""The supervisor: owns endpoint, queue and job store, never loads torch, and outlives every worker.

One loop, one thread: requests from clients and lines from the workers are answered as they come; between them it looks at
clocks. A job whose worker is lost goes back to the queue and begins again at the first unfinished stage, as often as
`Limits` allows (docs/architecture.md, "The processes").
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq

from genesis_server import __version__
from genesis_server.protocol import messages
from genesis_server.protocol.codec import decode, request_id_of
from genesis_server.protocol.connection import process_alive
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.service.access import LOCAL, Access
from genesis_server.service.connection import remove_connection, write_connection
from genesis_server.service.endpoint import Endpoint
from genesis_server.service.faults import as_genesis_error
from genesis_server.service.intake import check_question, checked
from genesis_server.service.lane import Lane
from genesis_server.service.limits import DEFAULT_LIMITS, Limits
from genesis_server.service.line import Line
from genesis_server.service.log import log, open_log
from genesis_server.service.logbook import last_lines
from genesis_server.service.questions import Questions
from genesis_server.service.spool import Spool, read_piece
from genesis_server.service.state import ServerState
from genesis_server.service.store import DOWNLOAD, JobStore
from genesis_server.service.worker_process import DOWNLOAD_COMMAND, INBOX, WORKER_COMMAND

TICK = 0.2  # seconds between looks at the clocks
PARENT_EVERY = 1.0  # seconds between looks whether the parent process is there
GIVE_WAY = 10.0  # seconds that a server which ends may take to stop its workers
STATE_EVENT, QUEUE_EVENT = "state", "queue"
ASSETS_FOLDER, UPLOADS_FOLDER = "assets", "uploads"
THUMBNAIL = "thumbnail.png"


class Supervisor:
    """One server: `run` it until a client, a signal (`stop`) or the parent's end stops it."""

    def __init__(
        self,
        connection_file: Path,
        port: int = 0,
        parent: int | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
        limits: Limits = DEFAULT_LIMITS,
        access: Access = LOCAL,
    ) -> None:
        """Opens store, log and endpoint, and writes the connection file: from here on clients can connect.

        Raises:
            GenesisError: ALREADY_RUNNING, PORT_TAKEN, NO_PERMISSION.
        """
        self._file, self._parent, self._limits = connection_file, parent, limits
        folder = connection_file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = _open_store(folder, connection_file)
            self._log = open_log(folder)
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            raise GenesisError(
                ErrorCode.NO_PERMISSION, f"The folder {folder} cannot be made: {error.strerror}.", "Choose another folder."
            ) from error
        except OSError as error:
            raise as_genesis_error(error) from error
        self._assets, self._spool = folder / ASSETS_FOLDER, Spool(folder / UPLOADS_FOLDER)
        self._context = zmq.Context()
        try:
            self._keys = access.keys(folder)
            self._endpoint = Endpoint(self._context, self._keys, port, access.host)
        except GenesisError:
            self._store.close()
            raise
        try:
            access.export(self._endpoint.port, self._keys, __version__)
            # last: whoever finds it may begin
            write_connection(connection_file, access.own_address(self._endpoint.port), self._keys, __version__)
        except GenesisError:
            self._endpoint.close()
            self._store.close()
            raise
        self._inbox = self._context.socket(zmq.PULL)
        self._inbox.bind(INBOX)
        numbers = itertools.count(1)
        compute = [*worker_command, str(folder)]
        self._work = Lane(self, self._context, compute, limits, numbers, warm=True)
        self._downloads = Lane(self, self._context, DOWNLOAD_COMMAND, limits, numbers, warm=False)
        self._lanes = (self._work, self._downloads)
        self._line = Line(self._store, ((self._work, False), (self._downloads, True)))
        self._state = ServerState(folder, self._log, limits.idle_unload, access.remote)
        self._questions = Questions(self._endpoint)
        self._previews: dict[str, list[bytes]] = {}  # of the running job, by kind
        self._sequences: dict[str, int] = {}
        self._parent_seen = self._client_heard = time.monotonic()
        self._stopping = False
        log(logging.INFO, f"Genesis {__version__} serves at {self._endpoint.address} as process {os.getpid()}")
        for job in self._store.running():  # when the last server ended without a word
            self.lost(job, "the server ended")

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
                    self._client_heard = time.monotonic()
                    self._serve(peer, frames)
                while self._inbox.poll(0):
                    number, line, *frames = self._inbox.recv_multipart()
                    for lane in self._lanes:
                        if lane.worker is not None and int(number) == lane.worker.number:
                            lane.hear(line, frames)
                            break
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
        request_id = request_id_of(frames)
        try:
            request = decode(frames)[1]
            if isinstance(request, (messages.CutOut, messages.Estimate)):
                check_question(request)
                self._questions.add(peer, request_id, request)
                self._work.forgive()
                return
            answer = self._carry_out(peer, request)
        except GenesisError as error:
            answer = messages.Failure(error.to_json())
            log(logging.WARNING, f"refused a message: {error}")
        except Exception as error:  # whatever it is, a request must not end the server
            answer = messages.Failure(as_genesis_error(error).to_json())
            logging.getLogger("genesis").exception("a request failed")
        self._endpoint.answer(peer, request_id, answer)

    def _carry_out(self, peer: bytes, request: messages.Request) -> Any:
        match request:
            case messages.Hello():
                return self._state.welcome(self._work.state)
            case messages.Ping():
                return messages.Done()
            case messages.Submit() | messages.TextureMesh() | messages.Rebake() | messages.Regenerate() | messages.Download():
                return self._submit(checked(request, self._assets, self._line.promised()))
            case messages.ListJobs():
                return messages.Jobs(self._line.everything())
            case messages.Status(job=job):
                return self._seen(self._store.get(job))
            case messages.Watch(job=job, previews=previews):
                answer = self._seen(self._store.get(job)) if job else messages.Jobs(self._line.everything())
                self._endpoint.watch(peer, job, previews)
                if previews and self._work.running and job in ("", self._work.running.job.id):
                    for frames in self._previews.values():
                        self._endpoint.forward(peer, frames)
                return answer
            case messages.Unwatch(job=job):
                self._endpoint.unwatch(peer, job)
                return messages.Done()
            case messages.Cancel(job=job):
                return self._cancel(self._store.get(job))
            case messages.Retry(job=job):
                return self._retry(self._store.get(job))
            case messages.Move(job=job, position=position):
                self._store.move(job, position)
                self._announce_positions()
                return messages.Jobs(self._line.everything())
            case messages.AskServer():
                if self._work.free or self._work.running:
                    self._work.worker.tell(do="look")  # for the next one who asks
                return self._state.info(self._work.state)
            case messages.Configure(idle_unload=seconds, offline=offline, token=token):
                self._state.configure(seconds, offline, token)
                return self._state.info(self._work.state)
            case messages.AskModels(model=model):
                return self._state.models(model)
            case messages.Log(lines=lines, job=job):
                return messages.LogText(last_lines(self._log, lines, job), str(self._log))
            case messages.Upload():
                return self._spool.receive(request)
            case messages.Fetch(job=job, file=file, offset=offset):
                return read_piece(Path(self._store.get(job).asset), file, offset)
            case messages.Shutdown():
                self.stop()
                return messages.Done()
        raise GenesisError(
            ErrorCode.BAD_MESSAGE, f"{type(request).__name__} is not a request.", "Update Genesis on both sides."
        )

    def _seen(self, job: messages.JobInfo) -> messages.Jobs:
        return messages.Jobs((self._line.as_it_is(job),))

    def _lane_of(self, job: messages.JobInfo) -> Lane:
        return self._downloads if job.kind == DOWNLOAD else self._work

    def _submit(self, request: messages.JobRequest) -> messages.Jobs:
        job = self._store.add(request)
        self._lane_of(job).forgive()
        log(logging.INFO, f"{job.kind} {job.asset or job.model}", job.id)
        self._announce(job)
        self._announce_positions()
        return self._seen(job)

    def _retry(self, job: messages.JobInfo) -> messages.Jobs:
        if job.state in (messages.JobState.FAILED, messages.JobState.CANCELLED):
            self._lane_of(job).forgive()
            self._store.put_last(job.id)
            job = replace(job, state=messages.JobState.QUEUED, attempts=0, error=None, message="", finished=0.0)
            self._change(job)
        return self._seen(job)

    def _cancel(self, job: messages.JobInfo) -> messages.Jobs:
        lane = self._lane_of(job)
        if lane.running and lane.running.job.id == job.id:
            lane.cancel()
        elif job.state == messages.JobState.QUEUED:
            job = self.over(job, messages.JobState.CANCELLED)
        return self._seen(job)

    # ---- what watchers are told ----

    def _announce_positions(self) -> None:
        for job in self._line.moved():
            self._announce(job, QUEUE_EVENT)

    def _change(self, job: messages.JobInfo) -> None:
        self._store.save(job)
        self._announce(job)
        self._announce_positions()

    def _announce(self, job: messages.JobInfo, kind: str = STATE_EVENT, seconds: float = 0.0) -> None:
        sequence = self._sequences[job.id] = self._sequences.get(job.id, 0) + 1
        thumbnail = _thumbnail(job) if job.state == messages.JobState.FINISHED else b""
        self._endpoint.publish(messages.JobEvent(sequence, kind, job, seconds, thumbnail))

    # ---- the desk of the lanes ----

    def progressed(self, job: messages.JobInfo, kind: str, seconds: float) -> None:
        """The running job has come a step further."""
        self._announce(job, kind, seconds)

    def over(self, job: messages.JobInfo, state: messages.JobState, error: GenesisError | None = None) -> messages.JobInfo:
        """The end of a job."""
        job = replace(job, state=state, finished=time.time(), error=error.to_json() if error is not None else None, eta=-1.0)
        log(logging.INFO if error is None else logging.ERROR, f"{state.value}{f': {error}' if error else ''}", job.id)
        self._change(job)
        return job

    def lost(self, job: messages.JobInfo, reason: str) -> None:
        """The worker of a job is gone: another attempt, or the end of it."""
        if job.attempts < self._limits.attempts:
            note = f"The job was interrupted ({reason}) and goes on at its first unfinished stage."
            log(logging.WARNING, note, job.id)
            self._change(replace(job, state=messages.JobState.QUEUED, message=note, eta=-1.0))
        else:
            self.over(
                job,
                messages.JobState.FAILED,
                _worker_lost(f"The work was interrupted {job.attempts} times, last because {reason}."),
            )

    def heard(self, lane: Lane, message: dict[str, Any], frames: list[bytes]) -> None:
        """What a worker says beside the progress of its job: an answer, a preview, how its device is."""
        say = message["say"]
        if say == "answer":
            self._questions.answered(message["id"], frames)
        elif say == "preview":
            self._previews[str(message["kind"])] = frames
            self._endpoint.show(message["job"], frames)
        elif lane is self._work and say in ("device", "model"):
            self._state.learn({name: value for name, value in message.items() if name != "say"})

    def silenced(self, lane: Lane, words: str, given_up: bool) -> None:
        """A worker is gone: its questions have no answer, and where none can be started, nobody waits for one."""
        if lane is self._work:
            self._state.learn({"loaded": False})
            reason = words if given_up else "The worker that was asked is gone."
            self._questions.refuse(_worker_lost(reason), asked_only=not given_up)
        for job in self._store.queued(lane is self._downloads) if given_up else ():
            self.over(job, messages.JobState.FAILED, _worker_lost(words))

    # ---- the loop's turns ----

    def _dispatch(self) -> None:
        """Keeps workers, gives them jobs and questions."""
        for lane in self._lanes:
            waiting = self._store.queued(lane is self._downloads)
            lane.keep(bool(waiting))
            if not waiting or not lane.free:
                continue
            job = replace(
                waiting[0],
                state=messages.JobState.RUNNING,
                attempts=waiting[0].attempts + 1,
                started=time.time(),
                stage="",
                step=0,
                steps=0,
                fraction=0.0,
            )
            if lane is self._work:
                self._previews.clear()
            try:
                request = self._store.request(job.id)
            except GenesisError as error:  # queued by another release
                self.over(job, messages.JobState.FAILED, error)
                continue
            lane.give(job, request)
            self._change(job)
        self._questions.ask(self._work)

    def _look_at_clocks(self) -> None:
        now = time.monotonic()
        if self._parent is not None and now - self._parent_seen > PARENT_EVERY:
            self._parent_seen = now
            # another Blender may have found this server meanwhile, and goes on using it
            if not process_alive(self._parent) and now - self._client_heard > self._limits.client_silence:
                log(
                    logging.INFO, f"process {self._parent}, for which this server was started, is gone, and nobody else is here"
                )
                self.stop()
        for lane in self._lanes:
            lane.look_at_clocks(now)
        if self._work.free and self._state.unload_due(now - self._work.idle_since):
            log(logging.INFO, "the model leaves memory: nobody has used it for a while")
            self._state.learn({"loaded": False})
            self._work.worker.tell(do="unload")

    def _close(self) -> None:
        remove_connection(self._file, self._keys)
        for lane in self._lanes:
            lane.close(self._change)
        log(logging.INFO, "the server ends")
        self._store.close()
        self._inbox.close(linger=0)
        self._endpoint.close()
        self._context.term()


def _open_store(folder: Path, connection_file: Path) -> JobStore:
    """The store; waits for a server on its way out, which has taken its connection file back but still holds the store."""
    deadline = time.monotonic() + GIVE_WAY
    while True:
        try:
            return JobStore(folder)
        except GenesisError as error:
            gone = error.code == ErrorCode.ALREADY_RUNNING and not connection_file.exists()
            if not gone or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _worker_lost(message: str) -> GenesisError:
    return GenesisError(ErrorCode.WORKER_LOST, message, "Look at the log, then try again.", Remedy.RETRY)


def _thumbnail(job: messages.JobInfo) -> bytes:
    try:
        data = (Path(job.asset) / THUMBNAIL).read_bytes() if job.asset else b""
    except OSError:
        return b""
    return data if len(data) <= messages.MAX_FRAME else b""
