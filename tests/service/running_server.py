# SPDX-License-Identifier: Apache-2.0
"""Real servers in their own folders, ended by process id after each test; every wait has an end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from genesis_server.protocol.client import Client
from genesis_server.protocol.launch import Launch, start_server
from genesis_server.protocol.messages import JobEvent, JobInfo, Submit

HERE = Path(__file__).resolve().parent
PATIENCE = 30.0  # seconds; a busy machine with two cores takes a few


class Server:
    """A server of this test in `folder`, with a client."""

    program: tuple[str, ...] = (str(HERE / "serve_fake.py"),)  # empty for `genesis serve`

    def __init__(self, folder: Path, *arguments: str, parent: int | None = None) -> None:
        self.folder = folder
        self.file = folder / "server.json"
        self.launch: Launch = start_server(sys.executable, self.file, parent, (*self.program, *arguments))
        try:
            self.launch.wait(PATIENCE)
        except BaseException:
            self.kill()  # nobody else knows of it yet
            raise
        self.client = Client(self.file)

    def submit(self, behaviour: str, name: str = "") -> JobInfo:
        """Submits a job to the fake worker that behaves so."""
        picture = self.folder / f"{behaviour}.png"
        picture.write_bytes(b"not looked at by the fake worker")
        request = Submit((str(picture),), name or behaviour)
        return self.client.request(request, PATIENCE).jobs[0]

    def events_until(self, wanted: Callable[[JobEvent], bool], timeout: float = PATIENCE) -> list[JobEvent]:
        """The events that arrive up to one that is wanted."""
        events: list[JobEvent] = []
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for item in self.client.wait(0.2):
                if isinstance(item.message, JobEvent):
                    events.append(item.message)
            if any(map(wanted, events)):
                return events
        raise AssertionError(f"waited {timeout} s in vain, after {events[-3:]}")

    def until_over(self, job: JobInfo, timeout: float = PATIENCE) -> list[JobEvent]:
        """The events of a job up to its end."""
        events = self.events_until(lambda event: event.job.id == job.id and event.job.state.over, timeout)
        return [event for event in events if event.job.id == job.id]

    def until_step(self, job: JobInfo) -> None:
        """Waits until the job has made a step."""
        self.events_until(lambda event: event.job.id == job.id and event.kind == "step")

    def kill(self) -> None:
        """Ends the server by force."""
        self.launch.process.kill()
        self.launch.process.wait(PATIENCE)

    def end(self) -> None:
        """Ends the server as a client would, or by force."""
        self.client.close()
        if self.launch.process.poll() is None:
            self.launch.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.launch.process.wait(10)
        if self.launch.process.poll() is None:
            self.kill()
