# SPDX-License-Identifier: Apache-2.0
"""The supervisor's hold on one worker process: its pipes, what it says, how it ends.

Two threads read the pipes, because Windows cannot poll them: what the worker says goes to the supervisor over an inproc
socket, what anything else in the worker prints goes to the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, BinaryIO

import zmq

from genesis_server.service.faults import how_it_ended
from genesis_server.service.log import log
from genesis_server.service.threads import wait_asleep

WORKER_COMMAND = (sys.executable, "-m", "genesis_server.service.worker")
DOWNLOAD_COMMAND = (sys.executable, "-m", "genesis_server.service.downloader")
INBOX = "inproc://workers"
MAX_LINE = 1 << 20  # bytes of one message of the worker; an event has some hundred
MAX_FRAMES = 64 << 20  # bytes that may follow a line
KEPT_LINES = 8  # of its last words, for the reason in an error
EXIT_WITHIN = 5.0  # seconds from kill to the end of the process


class WorkerProcess:
    """A running worker.

    Attributes:
        number: tells its messages from those of a worker before it.
        job: id of the job it works on, empty when idle; in the log lines of what it prints.
        ready: whether it has said that it can take a job.
    """

    def __init__(self, number: int, context: zmq.Context, command: Sequence[str] = WORKER_COMMAND) -> None:
        self.number = number
        self.job = ""
        self.ready = False
        self._words: deque[str] = deque(maxlen=KEPT_LINES)
        pipe = subprocess.PIPE
        # a group of its own, so that Ctrl-C in a terminal reaches the supervisor alone
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"process_group": 0}
        environment = dict(os.environ)
        wait_asleep(environment)
        self._process = subprocess.Popen(list(command), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **group)
        self._threads = [
            threading.Thread(target=self._read_messages, args=(context, self._process.stdout), daemon=True),
            threading.Thread(target=self._read_words, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        log(logging.INFO, f"worker {number} started as process {self._process.pid}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def tell(self, **message: Any) -> None:
        """Sends a message; one to a worker that has ended is lost, and its end will be heard."""
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            log(logging.WARNING, f"worker {self.number} no longer listens", self.job)

    def end(self, patience: float = 0.0) -> str:
        """Ends the process, by force if it has not gone after `patience` seconds; returns how it ended, in words."""
        with contextlib.suppress(OSError):  # it has ended, with something still unwritten
            self._process.stdin.close()
        try:
            ended = how_it_ended(self._process.wait(patience))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(EXIT_WITHIN)
            ended = "ended by force"
        self._threads[1].join(1.0)  # its last words
        log(logging.INFO, f"worker {self.number} is gone: {ended}", self.job)
        return ended

    def last_words(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._words)

    def _read_messages(self, context: zmq.Context, pipe: BinaryIO) -> None:
        number = str(self.number).encode()
        try:
            with context.socket(zmq.PUSH) as socket:
                socket.linger = 0
                socket.connect(INBOX)
                while line := pipe.readline(MAX_LINE):
                    socket.send_multipart([number, line, *_frames_after(line, pipe)])
                socket.linger = -1
                socket.send_multipart([number, b""])
        except zmq.ContextTerminated:
            pass  # the supervisor has closed: nobody listens any more

    def _read_words(self, pipe: BinaryIO) -> None:
        while line := pipe.readline(MAX_LINE):
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._words.append(text)
                log(logging.INFO, f"worker {self.number}: {text}", self.job)


def _frames_after(line: bytes, pipe: BinaryIO) -> list[bytes]:
    """The raw bytes that a line announces."""
    if b'"frames"' not in line:
        return []
    try:
        sizes = json.loads(line).get("frames", [])
        if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > MAX_FRAMES:
            return []
    except (ValueError, AttributeError, TypeError):
        return []
    return [pipe.read(size) for size in sizes]
