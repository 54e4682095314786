# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests on their way out: at once to a server of this machine; to another one after their pictures, on a thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genesis_server.protocol.errors import GenesisError

from .lazy import futures, messages, transfer

if TYPE_CHECKING:
    Outgoing = tuple[str, messages.JobRequest | GenesisError]  # key of the task, and what to send or why it cannot be


class Outbox:
    """What waits to be sent."""

    def __init__(self) -> None:
        self._pool: futures.ThreadPoolExecutor | None = None
        self._sending: dict[str, futures.Future[messages.JobRequest]] = {}
        self._ready: list[Outgoing] = []

    def put(self, key: str, request: messages.JobRequest, connection_file: Path | None) -> None:
        """Takes up the request of a task.

        Args:
            connection_file: of a server on another machine, which needs the files first; None for one on this.
        """
        if connection_file is None or not isinstance(request, (messages.Submit, messages.TextureMesh)):
            self._ready.append((key, request))
            return
        if self._pool is None:
            self._pool = futures.ThreadPoolExecutor(1, "genesis-send")
        self._sending[key] = self._pool.submit(transfer.send_files, connection_file, request)

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
