# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests on their way out: at once to a server of this machine; to another one after their pictures, on a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.messages import JobRequest, Submit, TextureMesh

Outgoing = tuple[str, JobRequest | GenesisError]  # key of the task, and what to send or why it cannot be


class Outbox:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._sending: dict[str, Future[JobRequest]] = {}
        self._ready: list[Outgoing] = []

    def put(self, key: str, request: JobRequest, connection_file: Path | None) -> None:
        """Takes up the request of a task.

        Args:
            connection_file: of a server on another machine, which needs the files first; None for one on this.
        """
        if connection_file is None or not isinstance(request, (Submit, TextureMesh)):
            self._ready.append((key, request))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "genesis-send")
        from genesis_server.protocol.transfer import send_files  # brings zmq

        self._sending[key] = self._pool.submit(send_files, connection_file, request)

    def take(self) -> list[Outgoing]:
        """What can be sent now."""
        ready, self._ready = self._ready, []
        for key in [key for key, sending in self._sending.items() if sending.done()]:
            try:
                ready.append((key, self._sending.pop(key).result()))
            except GenesisError as error:
                ready.append((key, error))
        return ready

    def close(self) -> None:
        """Ends the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
