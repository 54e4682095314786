# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of this Blender, and the one step that carries everything on.

`pump(now)` does one step and never waits; Blender's timer calls it, and so do tests and scripts (timers never fire in
`blender -b`). Meshes, not this module, hold what has to last: `Mesh.genesis.job` names the job that a mesh waits for, so
that saving, loading, undo and redo need no second bookkeeping. No reference to Blender's data is kept here.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from . import discarded, redraw, waiting
from .lazy import delivery, launch, messages
from .link import Link
from .outbox import Outbox
from .stages import Stages
from .task import UNSENT, Task
from .ticker import Ticker

if TYPE_CHECKING:
    from genesis_server.protocol.client import Received

    from .delivery import Delivery

BUDGET = 0.003  # seconds of one pump for messages: a fifth of a frame at 60 Hz
BUSY_INTERVAL, IDLE_INTERVAL = 0.05, 0.5  # seconds between pumps with and without something under way


class Session:
    """Everything between the panel and the server.

    Attributes:
        tasks: the jobs of this Blender by key, in the order in which they were asked for.
        error: what went wrong last that concerns no single job.
        on_change: called after a step in which something has changed.
        on_step: called at each step with its monotonic seconds; true where something is under way that needs more steps.
    """

    def __init__(self) -> None:
        self.link = Link()
        self.tasks: dict[str, Task] = {}
        self.error: GenesisError | None = None
        self.on_change: list[Callable[[], None]] = []
        self.on_step: list[Callable[[float], bool]] = []
        self._ticker = Ticker(self._tick, self._stumbled)
        self._delivery: Delivery | None = None  # until something is to be imported
        self._stages = Stages()
        self._outbox = Outbox()
        self._names: dict[str, str] = {}  # unsent key -> job id
        self._inbox: deque[Received] = deque()
        self._unsent: list[str] = []  # keys of tasks to send once connected
        self._changed = self._was_connected = self._more = False

    # ---- what the panel and the operators use ----

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed this Blender."""
        return self.link.connected

    @property
    def state(self) -> str:
        """The server in a word or two, for the panel."""
        state = self.link.state
        return "Connecting" if state == "Not Running" and self._unsent else state

    @property
    def busy(self) -> bool:
        """Whether the next pump should come soon."""
        return self._more or self.link.changing or any(task.under_way for task in self.tasks.values())

    @property
    def imported_seconds(self) -> float:
        """Time of the last import, which blocks Blender."""
        return self._delivery.seconds if self._delivery is not None else 0.0

    def submit(self, request: messages.JobRequest, title: str) -> str:
        """Sends a job, once there is a server; returns the key that its mesh carries as `genesis.job`.

        Raises:
            GenesisError: where no server is running and none may or can be started.
        """
        self.error = None
        self.reach()
        task = Task(UNSENT + uuid.uuid4().hex, title, request)
        self.tasks[task.key] = task
        self._unsent.append(task.key)
        self.touch()
        return task.key

    def reach(self) -> None:
        """Makes sure that a connection or a start is under way.

        Raises:
            GenesisError: where there is no server and none may or can be started.
        """
        try:
            self.link.reach()
        except GenesisError as error:
            self.error = error
            raise
        self.touch()

    def start(self) -> None:
        """Starts the server without waiting for it; raises a GenesisError where it cannot be started."""
        self.error = None
        self.link.start()
        self.touch()

    def stop(self) -> None:
        """Asks the server to end; a running job goes on at its next start."""
        self.link.stop()
        self.touch()

    def task_of(self, mesh: bpy.types.Mesh) -> Task | None:
        """The task that a mesh waits for."""
        return self.tasks.get(self.resolve(mesh.genesis.job))

    def resolve(self, key: str) -> str:
        """The job id of a key that undo or an old scene may still carry from before the server's answer."""
        return self._names.get(key, key)

    def meshes_of(self, task: Task) -> list[bpy.types.Mesh]:
        """The meshes that wait for a task; none where the user has deleted them."""
        return [mesh for mesh in waiting.meshes() if self.resolve(mesh.genesis.job) == task.key]

    def cancel(self, key: str, unwanted: bool = False) -> None:
        """Stops a job, queued, running or not even sent; `unwanted` also discards what it has made."""
        task = self.tasks[key]
        task.cancelled, task.unwanted = True, unwanted
        if task.request is None and task.info is not None:
            self.link.ask(messages.Cancel(task.key))
        elif key in self._unsent:
            self._unsent.remove(key)
            self._drop(task)
        self.touch()

    def retry(self, key: str) -> None:
        """Queues a failed job again; finished stages are kept.

        Raises:
            GenesisError: as `submit`.
        """
        task = self.tasks[key]
        if task.info is not None and task.info.state == messages.JobState.FINISHED:  # it was the import that failed
            task.error = None
            self.touch()
            return
        self.reach()
        task.error, task.cancelled = None, False
        if task.request is not None:
            self._unsent.append(key)
            self.link.deadline = time.monotonic() + launch.START_TIMEOUT
        else:
            self.link.ask(messages.Retry(key), lambda item: self._refused(task, item))
        self.touch()

    def move(self, key: str, by: int) -> None:
        """Moves a waiting job among those that wait; negative is sooner."""
        info = self.tasks[key].info
        if info is not None and info.position and self.connected:
            self.link.ask(messages.Move(key, max(1, info.position + by)))

    def discard(self, key: str) -> None:
        """Forgets a task, and removes its placeholder."""
        self._drop(self.tasks[key])
        self.touch()

    def deliver_again(self, key: str) -> None:
        """Imports a finished job's result at the next pump, though it has been imported before."""
        self.tasks[key].delivered = False
        self.touch()

    def adopt(self, key: str, title: str, error: GenesisError | None) -> None:
        """Takes up the job of a mesh that has come with a file, by undo or by redo.

        Args:
            error: why the server cannot know of it.
        """
        if key in self.tasks:
            return
        task = Task(key, title, error=error)
        self.tasks[key] = task
        if error is None:
            self.link.open()
            if self.connected:
                self._watch(task)
        self.touch()

    def close(self) -> None:
        """Ends the connection and forgets everything; the server and its jobs go on."""
        self._ticker.stop()
        if self._delivery is not None:
            self._delivery.close()
        self._stages.close()
        self._outbox.close()
        self.link.close()
        listeners = self.on_change, self.on_step
        self.__init__()
        self.on_change, self.on_step = listeners

    # ---- one step ----

    def pump(self, now: float) -> None:
        """One step of everything, within a few milliseconds but for the import of a result.

        Args:
            now: seconds on the monotonic clock.
        """
        try:
            self._inbox.extend(self.link.follow(now))
        except GenesisError as error:
            self._fail_unsent(error)
        self._follow_connection()
        self._send_unsent(now)
        end = time.monotonic() + BUDGET
        while self._inbox and time.monotonic() < end:
            self._take(self._inbox.popleft())
        if not self._deliver():
            self._stages.show(lambda job: self.meshes_of(self.tasks[job]) if job in self.tasks else [])
        self._more = any([step(now) for step in self.on_step])
        if self._changed:
            for changed in self.on_change:
                changed()
        if self._changed or self.busy:
            self._changed = not redraw.panels(now) and self._changed

    def _follow_connection(self) -> None:
        if self.connected == self._was_connected:
            return
        self._was_connected, self._changed = self.connected, True
        if self.connected:
            self.error = None
            for task in self.tasks.values():
                if task.request is None and task.under_way:
                    self._watch(task)

    def _send_unsent(self, now: float) -> None:
        if self.connected:
            keys, self._unsent = self._unsent, []
            for key in keys:
                self._outbox.put(key, self.tasks[key].request, self.link.far_file)
            for key, request in self._outbox.take():
                task = self.tasks.get(key)
                if task is None:
                    continue
                if isinstance(request, GenesisError):
                    task.error = request
                else:
                    self.link.ask(request, lambda item, task=task: self._submitted(task, item), timeout=30.0)
        elif self._unsent and self.link.launch is None and now > self.link.deadline:
            words = "The server does not answer.", "Start it again."
            self._fail_unsent(GenesisError(ErrorCode.NOT_CONNECTED, *words, Remedy.START_SERVER))

    def _take(self, item: Received) -> None:
        self._changed = True
        answered = self.link.answer_to(item)
        if isinstance(item.message, messages.JobEvent):
            self._heard(item.message)
        elif isinstance(item.message, messages.Preview):
            self._stages.read(item.message)
        elif isinstance(item.message, messages.Failure) and not item.request and not answered:
            self._fail_unsent(item.message.to_error())  # of the connection itself, such as a server of another release
        elif isinstance(item.message, messages.Jobs):
            for info in item.message.jobs:
                self._learn(info)

    def _heard(self, event: messages.JobEvent) -> None:
        task = self.tasks.get(event.job.id)
        if task is None:
            return
        if task.sequence and event.sequence > task.sequence + 1:
            self.link.ask(messages.Status(task.key))
        task.sequence = event.sequence
        self._learn(event.job)

    def _learn(self, info: messages.JobInfo) -> None:
        task = self.tasks.get(info.id)
        if task is None:
            return
        task.info, task.heard = info, time.monotonic()
        if info.state == messages.JobState.FAILED and not task.unwanted:
            task.error = GenesisError.from_json(info.error or {})

    def _submitted(self, task: Task, item: Received) -> None:
        """The server's answer to a job: its id, or why it was refused."""
        if not isinstance(item.message, messages.Jobs):
            self._refused(task, item)
            return
        info = item.message.jobs[0]
        self._rename(task, info.id)
        task.request, task.info, task.heard = None, info, time.monotonic()
        self._watch(task)
        if task.cancelled:
            self.link.ask(messages.Cancel(task.key))

    def _refused(self, task: Task, item: Received) -> None:
        if isinstance(item.message, messages.Failure):
            task.error = item.message.to_error()

    def _deliver(self) -> bool:
        """Carries the first finished or cancelled job over to its meshes; one a step, so that the window answers in between.

        Returns whether there was one.
        """
        task = next((task for task in self.tasks.values() if task.waits_for_import), None)
        if task is None:
            return False
        if task.info.state == messages.JobState.CANCELLED or task.unwanted:
            self._drop(task)
            if task.unwanted and self.link.far_file is None:
                discarded.put_aside(Path(task.info.asset))
            self._changed = True
            return True
        meshes = self.meshes_of(task)
        if not task.info.asset:  # weights, which have arrived where they belong
            task.delivered = self._changed = True
            return True
        if not meshes:
            task.delivered = True
            self.error = GenesisError(
                ErrorCode.CANCELLED,
                f"{task.title} is finished, but the object that waited for it has been deleted.",
                f"Undo the deletion to import it; its files are in {task.info.asset}.",
            )
            return True
        try:
            if self._delivery is None:
                self._delivery = delivery.Delivery()
            task.delivered = self._delivery.step(task.info, meshes, task.title, self.link.far_file)
        except GenesisError as error:
            task.error = error
        return True

    # ---- helpers ----

    def _watch(self, task: Task) -> None:
        def answered(item: Received) -> None:
            if isinstance(item.message, messages.Failure) and item.message.to_error().code != ErrorCode.NOT_CONNECTED:
                self._refused(task, item)

        self.link.ask(messages.Watch(task.key, previews=True), answered)

    def _rename(self, task: Task, job: str) -> None:
        """The id in place of the unsent key; the order of the tasks stays."""
        self._names[task.key] = job
        self.tasks = {(job if key == task.key else key): item for key, item in self.tasks.items()}
        task.key = job

    def _fail_unsent(self, error: GenesisError) -> None:
        self.error = error
        for key in self._unsent:
            self.tasks[key].error = error
        self._unsent.clear()
        self.touch()

    def _drop(self, task: Task) -> None:
        del self.tasks[task.key]
        for mesh in self.meshes_of(task):
            waiting.give_up(mesh)

    def touch(self) -> None:
        """Something has changed: draw it, and see that the timer runs."""
        self._changed = True
        self._ticker.start()

    def _tick(self, now: float) -> float | None:
        self.pump(now)
        if self.busy:
            return BUSY_INTERVAL
        return IDLE_INTERVAL if self.link.client is not None or self.link.wanted else None

    def _stumbled(self, error: Exception) -> float:
        self.error = unexpected(error)
        return IDLE_INTERVAL


def unexpected(error: Exception) -> GenesisError:
    """A mistake in this extension, in words."""
    words = f"Something went wrong that should not: {type(error).__name__}: {error}."
    return GenesisError(ErrorCode.INTERNAL, words, "Please report it with Blender's console.", Remedy.OPEN_LOG)


session = Session()
