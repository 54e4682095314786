# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's side of the conversation with the server: one client, the jobs that objects wait for, one timer.

`pump(now)` does one step and never waits; Blender's timer calls it, and so do tests and scripts (timers never fire in
`blender -b`). Objects, not this module, hold what has to last: `Object.genesis.job` names the job that an object waits
for, so that saving, loading, undo and redo need no second bookkeeping. No reference to a Blender object is kept here.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bpy

from genesis_server.protocol.client import Client, Received
from genesis_server.protocol.connection import read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.protocol.launch import START_TIMEOUT, Launch, start_server
from genesis_server.protocol.messages import (
    Cancel,
    Failure,
    JobEvent,
    JobInfo,
    Jobs,
    JobState,
    Rebake,
    Regenerate,
    Request,
    Retry,
    Shutdown,
    Status,
    Submit,
    Watch,
)

from . import importer, preferences

BUDGET = 0.004  # seconds of one pump: a quarter of a frame at 60 Hz
BUSY_INTERVAL, IDLE_INTERVAL = 0.05, 0.5  # seconds between pumps with and without something under way
CONNECT_WITHIN = 5.0  # seconds that a request waits for a server that is said to be running
STOP_WITHIN = 10.0  # seconds for a server to end
REDRAW_EVERY = 0.1  # seconds; progress is readable, and a redraw of the sidebar costs a millisecond or two
_UNSENT = "unsent:"  # begins the job of an object whose request the server has not answered yet


@dataclass
class Task:
    """One job of this Blender, or a request for one.

    Attributes:
        key: what objects call it: the job's id, or `unsent:` and a random word until the server has given one.
        title: what the panel calls it.
        request: what to send, until it has been sent.
        info: the job as the server last told it.
        error: why it failed, where it did.
        sequence: number of the last event; a gap means that some were lost.
        delivered: whether its result has been imported or has nowhere to go.
        cancelled: whether the user has given it up.
    """

    key: str
    title: str
    request: Submit | Rebake | Regenerate | None = None
    info: JobInfo | None = None
    error: GenesisError | None = None
    sequence: int = 0
    delivered: bool = False
    cancelled: bool = False

    @property
    def waits_for_import(self) -> bool:
        """Whether the server is done with it and this side is not."""
        return self.info is not None and self.info.state.over and not self.delivered and self.error is None

    @property
    def under_way(self) -> bool:
        """Whether something is still to happen by itself."""
        if self.error is not None or self.delivered:
            return False
        return self.info is None or not self.info.state.over or self.info.state == JobState.FINISHED


class Session:
    """Everything between the panel and the server."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.launch: Launch | None = None
        self.tasks: dict[str, Task] = {}
        self.error: GenesisError | None = None
        self.imported_seconds = 0.0  # time of the last import, which blocks Blender
        self._names: dict[str, str] = {}  # unsent key -> job id
        self._answers: dict[str, Callable[[Received], None]] = {}
        self._inbox: deque[Received] = deque()
        self._waiting: list[str] = []  # keys of tasks to send once connected
        self._deadline = self._stop_deadline = self._drawn = 0.0
        self._changed = self._was_connected = False

    # ---- what the panel and the operators use ----

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed this Blender."""
        return self.client is not None and self.client.connected

    @property
    def state(self) -> str:
        """The server in a word or two, for the panel."""
        if self._stop_deadline:
            return "Stopping"
        if self.launch is not None:
            return "Starting"
        if self.connected:
            return "Running"
        return "Connecting" if self._waiting else "Not running"

    @property
    def busy(self) -> bool:
        """Whether the next pump should come soon."""
        return self.launch is not None or bool(self._stop_deadline) or any(task.under_way for task in self.tasks.values())

    def submit(self, request: Submit | Rebake | Regenerate, title: str) -> str:
        """Sends a job, once there is a server; returns the key that its object carries as `genesis.job`.

        Raises:
            GenesisError: where no server is running and none may or can be started.
        """
        self.error = None
        if not self.connected and self.launch is None:
            self._reach_server()
        task = Task(_UNSENT + uuid.uuid4().hex, title, request)
        self.tasks[task.key] = task
        self._waiting.append(task.key)
        self._deadline = time.monotonic() + (START_TIMEOUT if self.launch else CONNECT_WITHIN)
        self._touch()
        return task.key

    def start(self) -> None:
        """Starts the server without waiting for it.

        Raises:
            GenesisError: where it cannot be started.
        """
        self.error = None
        chosen = preferences.preferences()
        file, parent = preferences.connection_file(), None if chosen.keep_running else os.getpid()
        try:
            self.launch = start_server(preferences.server_python(), file, parent)
        except OSError as error:
            raise GenesisError(
                ErrorCode.NO_PERMISSION, f"{file.parent} cannot be used: {error}.", "Choose another Connection File."
            ) from error
        self._deadline = time.monotonic() + START_TIMEOUT
        self._touch()

    def stop(self) -> None:
        """Asks the server to end; a running job goes on at its next start."""
        if self.connected:
            self.client.send(Shutdown())
            self._stop_deadline = time.monotonic() + STOP_WITHIN
            self._touch()

    def task_of(self, item: bpy.types.Object) -> Task | None:
        """The task that an object waits for."""
        return self.tasks.get(self.resolve(item.genesis.job))

    def resolve(self, key: str) -> str:
        """The job id of a key that undo or an old scene may still carry from before the server's answer."""
        return self._names.get(key, key)

    def cancel(self, key: str) -> None:
        """Stops a job, queued, running or not even sent."""
        task = self.tasks[key]
        task.cancelled = True
        if task.request is None and task.info is not None:
            self._send(Cancel(task.key))
        elif key in self._waiting:
            self._waiting.remove(key)
            self._drop(task)
        self._touch()

    def retry(self, key: str) -> None:
        """Queues a failed job again; finished stages are kept.

        Raises:
            GenesisError: as `submit`.
        """
        task = self.tasks[key]
        if not self.connected and self.launch is None:
            self._reach_server()
        task.error, task.cancelled = None, False
        if task.request is not None:
            self._waiting.append(key)
            self._deadline = time.monotonic() + START_TIMEOUT
        else:
            self._send(Retry(key), lambda item: self._refused(task, item))
        self._touch()

    def discard(self, key: str) -> None:
        """Forgets a task, and removes its placeholder."""
        self._drop(self.tasks[key])
        self._touch()

    def deliver_again(self, key: str) -> None:
        """Imports a finished job's result at the next pump, though it has been imported before."""
        self.tasks[key].delivered = False
        self._touch()

    def adopt(self) -> None:
        """Takes up the jobs that objects of the present file wait for, and a server that runs; after loading, undo and redo."""
        if self.client is None and _server_there():
            self._ensure_client()
        for item in _objects_with_jobs():
            key = self.resolve(item.genesis.job)
            if key in self.tasks:
                continue
            task = Task(key, item.name)
            self.tasks[key] = task
            if key.startswith(_UNSENT):
                task.error = GenesisError(
                    ErrorCode.JOB_UNKNOWN,
                    f"{item.name} was saved before the server knew of it.",
                    "Discard it and generate again.",
                )
            else:
                self._ensure_client()
                if self.connected:
                    self._watch(task)
        self._touch()

    def write_names(self) -> None:
        """Puts job ids in place of unsent keys, before a file is saved."""
        for item in _objects_with_jobs():
            item.genesis.job = self.resolve(item.genesis.job)

    def log_file(self) -> str:
        """The server's log, or what a failed start said."""
        if self.connected:
            return self.client.server.log
        file = preferences.connection_file()
        candidates = [file.with_name("genesis.log"), file.with_suffix(".start.log")]
        existing = [path for path in candidates if path.exists() and path.stat().st_size]
        return str(max(existing, key=lambda path: path.stat().st_mtime)) if existing else ""

    def begin(self) -> None:
        """Looks for a running server and waiting objects as soon as Blender lets extensions see its data."""
        bpy.app.timers.register(_first_look, first_interval=0.1)

    def close(self) -> None:
        """Ends the connection and forgets everything; the server and its jobs go on."""
        for timer in (_tick, _first_look):
            if bpy.app.timers.is_registered(timer):
                bpy.app.timers.unregister(timer)
        if self.client is not None:
            self.client.close()
        self.__init__()

    # ---- one step ----

    def pump(self, now: float) -> None:
        """One step of everything, within BUDGET but for the import of a result.

        Args:
            now: seconds on the monotonic clock.
        """
        self._follow_launch(now)
        if self.client is not None:
            self._inbox.extend(self.client.poll())
        self._follow_connection()
        self._send_waiting(now)
        end = time.monotonic() + BUDGET
        while self._inbox and time.monotonic() < end:
            self._take(self._inbox.popleft())
        self._follow_stop(now)
        over = [task for task in self.tasks.values() if task.waits_for_import]
        if over and importer.may_import():
            self._finish(over[0])  # one a step: the window answers in between
        if (self._changed or self.busy) and now - self._drawn >= REDRAW_EVERY:
            self._drawn, self._changed = now, False
            redraw_panels()

    def _follow_launch(self, now: float) -> None:
        if self.launch is None:
            return
        try:
            ready = self.launch.ready()
            if not ready and now > self._deadline:
                raise GenesisError(
                    ErrorCode.NOT_CONNECTED, "The server did not start in time.", "Look at its log.", Remedy.OPEN_LOG
                )
        except GenesisError as error:
            self.launch = None
            self._fail_waiting(_explained(error))
            return
        if ready:
            self.launch = None
            self._deadline = now + CONNECT_WITHIN
            self._reopen()

    def _follow_connection(self) -> None:
        if self.connected == self._was_connected:
            return
        self._was_connected, self._changed = self.connected, True
        if self.connected:
            self.error = None
            for task in self.tasks.values():
                if task.request is None and task.under_way:
                    self._watch(task)

    def _send_waiting(self, now: float) -> None:
        if self.connected:
            keys, self._waiting = self._waiting, []
            for key in keys:
                task = self.tasks[key]
                self._send(task.request, lambda item, task=task: self._submitted(task, item), timeout=30.0)
        elif self._waiting and self.launch is None and now > self._deadline:
            self._fail_waiting(
                GenesisError(
                    ErrorCode.NOT_CONNECTED, "The Genesis server does not answer.", "Start it again.", Remedy.START_SERVER
                )
            )

    def _take(self, item: Received) -> None:
        self._changed = True
        handler = self._answers.pop(item.request, None) if item.request else None
        if handler is not None:
            handler(item)
        elif isinstance(item.message, JobEvent):
            self._heard(item.message)
        elif isinstance(item.message, Failure) and not item.request:
            self.error = item.message.to_error()
        if isinstance(item.message, Jobs):
            for info in item.message.jobs:
                self._learn(info)

    def _heard(self, event: JobEvent) -> None:
        task = self.tasks.get(event.job.id)
        if task is None:
            return
        if task.sequence and event.sequence > task.sequence + 1:
            self._send(Status(task.key))
        task.sequence = event.sequence
        self._learn(event.job)

    def _learn(self, info: JobInfo) -> None:
        task = self.tasks.get(info.id)
        if task is None:
            return
        task.info = info
        if info.state == JobState.FAILED:
            task.error = GenesisError.from_json(info.error or {})

    def _submitted(self, task: Task, item: Received) -> None:
        """The server's answer to a job: its id, or why it was refused."""
        if not isinstance(item.message, Jobs):
            self._refused(task, item)
            return
        info = item.message.jobs[0]
        self._rename(task, info.id)
        task.request, task.info = None, info
        self._watch(task)
        if task.cancelled:
            self._send(Cancel(task.key))

    def _refused(self, task: Task, item: Received) -> None:
        if isinstance(item.message, Failure):
            task.error = item.message.to_error()

    def _finish(self, task: Task) -> None:
        """Carries a finished or cancelled job over to its object."""
        if task.info.state == JobState.CANCELLED:
            self._drop(task)
            self._changed = True
            return
        task.delivered = True
        targets = [item for item in _objects_with_jobs() if self.resolve(item.genesis.job) == task.key]
        if not targets:
            self.error = GenesisError(
                ErrorCode.CANCELLED,
                f"{task.title} is finished, but the object that waited for it has been deleted.",
                f"Undo the deletion to import it; its files are in {task.info.asset}.",
            )
            return
        started = time.perf_counter()
        try:
            importer.deliver(targets[0], task.info)
        except GenesisError as error:
            task.error, task.delivered = error, False
            return
        self.imported_seconds = time.perf_counter() - started
        importer.push_undo(task.title)

    # ---- helpers ----

    def _reach_server(self) -> None:
        """Makes sure that a connection or a start is under way.

        Raises:
            GenesisError: where there is no server and none may be started.
        """
        self._ensure_client()
        try:
            self.client.poll()
            if self.connected:
                return
            if not _server_there():
                if not preferences.preferences().auto_start:
                    raise GenesisError(
                        ErrorCode.NOT_CONNECTED, "The Genesis server is not running.", "Start it.", Remedy.START_SERVER
                    )
                self.start()
        except GenesisError as error:
            self.error = error
            raise

    def _ensure_client(self) -> None:
        if self.client is None:
            self.client = Client(preferences.connection_file(), f"Blender {bpy.app.version_string}")

    def _reopen(self) -> None:
        """A connection to the server that has just started, whatever the connection file was before."""
        if self.client is not None:
            self.client.close()
        self.client = None
        self._answers.clear()
        self._was_connected = False
        self._ensure_client()

    def _send(self, request: Request, on_answer: Callable[[Received], None] | None = None, timeout: float = 5.0) -> None:
        try:
            request_id = self.client.send(request, timeout)
        except GenesisError as error:
            self._inbox.append(Received("", Failure(error.to_json())))
            return
        if on_answer is not None:
            self._answers[request_id] = on_answer

    def _watch(self, task: Task) -> None:
        def answered(item: Received) -> None:
            if isinstance(item.message, Failure) and item.message.to_error().code != ErrorCode.NOT_CONNECTED:
                self._refused(task, item)

        self._send(Watch(task.key), answered)

    def _rename(self, task: Task, job: str) -> None:
        del self.tasks[task.key]
        self._names[task.key] = job
        task.key = job
        self.tasks[job] = task

    def _fail_waiting(self, error: GenesisError) -> None:
        self.error = error
        for key in self._waiting:
            self.tasks[key].error = error
        self._waiting.clear()
        self._touch()

    def _drop(self, task: Task) -> None:
        del self.tasks[task.key]
        for item in list(_objects_with_jobs()):
            if self.resolve(item.genesis.job) == task.key:
                importer.give_up(item)

    def _follow_stop(self, now: float) -> None:
        if not self._stop_deadline:
            return
        if not _server_there():
            self._stop_deadline = 0.0
            self.client.close()
            self.client = None
        elif now > self._stop_deadline:
            self._stop_deadline = 0.0
            self.error = GenesisError(
                ErrorCode.NOT_CONNECTED, "The server has not ended in time.", "Look at its log.", Remedy.OPEN_LOG
            )

    def _touch(self) -> None:
        """Something has changed: draw it, and see that the timer runs."""
        self._changed = True
        if not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


def _tick() -> float | None:
    """Blender's timer: pumps, and ends itself when there is nothing to listen to."""
    session.pump(time.monotonic())
    if session.busy:
        return BUSY_INTERVAL
    return IDLE_INTERVAL if session.client is not None else None


def _first_look() -> None:
    """Blender's timer, once after the extension was enabled."""
    session.adopt()


def _server_there() -> bool:
    try:
        read_connection(preferences.connection_file())
    except GenesisError as error:
        return error.code != ErrorCode.NOT_CONNECTED
    return True


def _explained(error: GenesisError) -> GenesisError:
    """A failed start whose reason is a Python without Genesis, said in words."""
    if "No module named" not in error.message:
        return error
    return GenesisError(
        ErrorCode.NOT_CONNECTED,
        f"Genesis is not installed in {preferences.server_python()}.",
        "Choose the Python in which it is installed.",
        Remedy.OPEN_LOG,
    )


def _objects_with_jobs() -> Iterator[bpy.types.Object]:
    return (item for item in bpy.data.objects if item.genesis.job)


def redraw_panels() -> None:
    """Draws the sidebars anew that may show the panel."""
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


session = Session()
