# SPDX-License-Identifier: Apache-2.0
"""The worker: one process with torch that does one job after the other and keeps the model loaded between them.

    python -m genesis_server.service.worker FOLDER

JSON lines on standard input and output. The supervisor says {"do": "run", "job", "request"}, {"do": "cancel", "job"},
{"do": "ask", "id", "request"}, {"do": "unload"} and {"do": "look"}; the worker says {"say": "ready"}, {"say": "event", "job",
"event"}, {"say": "finished" | "failed", "job", ...}, {"say": "device" | "model", ...}, and, followed by raw bytes, {"say":
"preview" | "answer", ..., "frames": [sizes]}. Questions are answered in a thread beside the running job. The end of its
input is the end of the worker, at once and whatever it is doing: files are written whole or not at all.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from genesis_server.protocol.codec import decode, encode
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.events import Event
from genesis_server.protocol.messages import Answer, Failure, JobRequest, Preview, Request
from genesis_server.service.collection import collect_rarely
from genesis_server.service.faults import as_genesis_error, breaks_the_process


class Work(Protocol):
    """What a worker can do."""

    def run(
        self,
        request: JobRequest,
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        on_preview: Callable[[Preview], None],
    ) -> object:
        """Does a job; raises what stopped it."""

    def answer(self, request: Request) -> Answer:
        """Answers a question, in another thread than `run`."""

    def unload(self) -> None:
        """Gives back the memory of the model."""

    def model(self) -> tuple[str, bool]:
        """Id of the model used last, and whether it is in memory."""

    def device(self) -> dict[str, Any]:
        """Name, kind and memory of what it computes on."""


class Pipes:
    """The worker's line to its supervisor; standard output itself is turned to standard error, for stray prints."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self.jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self.questions: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, frames: Sequence[bytes] = (), **message: Any) -> None:
        """One line to the supervisor, and raw bytes after it."""
        if frames:
            message["frames"] = [len(frame) for frame in frames]
        data = b"".join((json.dumps(message).encode(), b"\n", *frames))
        with self._lock:
            view = memoryview(data)
            while len(view):  # a pipe takes what it has room for
                view = view[self._out.write(view) :]

    def is_cancelled(self, job: str) -> bool:
        """Whether the supervisor wants the job stopped."""
        return job in self._cancelled

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if message["do"] == "cancel":
                self._cancelled.add(message["job"])
            elif message["do"] in ("ask", "look"):
                self.questions.put(message)
            else:
                self._cancelled.discard(message.get("job", ""))
                self.jobs.put(message)
        os._exit(0)


def serve_jobs(load: Callable[[], Work]) -> None:
    """Does jobs until the process ends.

    Args:
        load: loads what every job needs; called once the worker listens, so that it can be ended meanwhile.
    """
    pipes = Pipes()
    collect_rarely()
    work = load()
    pipes.say(say="device", **work.device())
    pipes.say(say="ready")
    threading.Thread(target=_answer_questions, args=(pipes, work), daemon=True).start()
    while True:
        message = pipes.jobs.get()
        if message["do"] == "unload":
            work.unload()
        else:
            _do(pipes, work, message)
        _report(pipes, work)


def _do(pipes: Pipes, work: Work, message: dict[str, Any]) -> None:
    job = message["job"]
    try:
        _, request = decode([json.dumps(message["request"]).encode()])
        work.run(
            request,
            lambda event: pipes.say(say="event", job=job, event=event.to_json()),
            lambda: pipes.is_cancelled(job),
            lambda preview: pipes.say(encode(_of_job(preview, job)), say="preview", job=job, kind=preview.kind),
        )
        pipes.say(say="finished", job=job)
    except Exception as error:  # noqa: BLE001  whatever it is must not end the worker, and the user gets to know
        if not isinstance(error, GenesisError):
            traceback.print_exc(file=sys.stderr)
        pipes.say(say="failed", job=job, error=as_genesis_error(error).to_json())
        if breaks_the_process(error):
            sys.exit(1)


def _of_job(preview: Preview, job: str) -> Preview:
    return Preview(job, preview.kind, preview.resolution, preview.coords, preview.vertices, preview.faces)


def _answer_questions(pipes: Pipes, work: Work) -> None:
    while True:
        message = pipes.questions.get()
        if message["do"] == "look":
            _report(pipes, work)
            continue
        request_id = message["request"]["id"]
        try:
            answer = work.answer(decode([json.dumps(message["request"]).encode()])[1])
        except Exception as error:  # noqa: BLE001  as above
            if not isinstance(error, GenesisError):
                traceback.print_exc(file=sys.stderr)
            answer = Failure(as_genesis_error(error).to_json())
        pipes.say(encode(answer, request_id), say="answer", id=message["id"])


def _report(pipes: Pipes, work: Work) -> None:
    try:
        device = work.device()
    except RuntimeError:
        return  # a GPU that has gone: the job says so
    model, loaded = work.model()
    pipes.say(say="device", **device)
    pipes.say(say="model", model=model, loaded=loaded)


def load_workshop() -> Work:
    """The real thing: brings torch, and the image encoder's library, which the first job should not wait for."""
    from transformers import DINOv3ViTModel  # noqa: F401  takes seconds

    from genesis_server.service.workshop import Workshop

    return Workshop(Path(sys.argv[1]) if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    serve_jobs(load_workshop)
