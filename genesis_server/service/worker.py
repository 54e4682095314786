# SPDX-License-Identifier: Apache-2.0
"""The worker: one process with torch that does one job after the other and keeps the model loaded between them.

    python -m genesis_server.service.worker

JSON lines on standard input and output. The supervisor says {"do": "run", "job", "request"} and {"do": "cancel", "job"}; the
worker says {"say": "ready"}, {"say": "event", "job", "event"} and one of {"say": "finished" | "failed", "job", ...}. The end
of its input is the end of the worker, at once and whatever it is doing: files are written whole or not at all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.events import Event
from genesis_server.protocol.messages import decode
from genesis_server.service.faults import as_genesis_error, breaks_the_process
from genesis_server.service.store import JobRequest

# (request, on_event, cancelled); raises what stopped it
RunJob = Callable[[JobRequest, Callable[[Event], None], Callable[[], bool]], object]


class Pipes:
    """The worker's line to its supervisor; standard output itself is turned to standard error, for stray prints."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._jobs: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **message: Any) -> None:
        """One line to the supervisor."""
        with self._lock:
            self._out.write(json.dumps(message).encode() + b"\n")

    def next_job(self) -> dict[str, Any]:
        """Waits for the next job."""
        with self._arrived:
            while not self._jobs:
                self._arrived.wait()
            return self._jobs.pop(0)

    def is_cancelled(self, job: str) -> bool:
        """Whether the supervisor wants the job stopped."""
        return job in self._cancelled

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if message["do"] == "cancel":
                self._cancelled.add(message["job"])
            else:
                self._cancelled.discard(message["job"])
                with self._arrived:
                    self._jobs.append(message)
                    self._arrived.notify()
        os._exit(0)


def serve_jobs(load: Callable[[], RunJob]) -> None:
    """Does jobs until the process ends.

    Args:
        load: loads what every job needs; called once the worker listens, so that it can be ended meanwhile.
    """
    pipes = Pipes()
    run_job = load()
    pipes.say(say="ready")
    while True:
        message = pipes.next_job()
        job = message["job"]
        try:
            _, request = decode([json.dumps(message["request"]).encode()])
            run_job(
                request,
                lambda event, job=job: pipes.say(say="event", job=job, event=event.to_json()),
                lambda job=job: pipes.is_cancelled(job),
            )
            pipes.say(say="finished", job=job)
        except Exception as error:  # noqa: BLE001  whatever it is must not end the worker, and the user gets to know
            if not isinstance(error, GenesisError):
                traceback.print_exc(file=sys.stderr)
            pipes.say(say="failed", job=job, error=as_genesis_error(error).to_json())
            if breaks_the_process(error):
                sys.exit(1)


def load_runner() -> RunJob:
    """The real thing: brings torch, and the image encoder's library, which the first job should not wait for."""
    from transformers import DINOv3ViTModel  # noqa: F401  takes seconds

    from genesis_server.service.jobs import JobRunner

    return JobRunner().run


if __name__ == "__main__":
    serve_jobs(load_runner)
