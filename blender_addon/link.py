# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the server: one client, a server that is being started or stopped, and the answers that requests wait for.

Nothing here waits: `follow(now)` does one step and the session's pump calls it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from genesis_server.protocol.connection import read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from . import preferences
from .lazy import client, launch, messages, warm_up

if TYPE_CHECKING:
    from genesis_server.protocol.client import Client, Received
    from genesis_server.protocol.launch import Launch

CONNECT_WITHIN = 5.0  # seconds that a request waits for a server that is said to be running
STOP_WITHIN = 10.0  # seconds for a server to end

OnAnswer = Callable[["Received"], None]


class Link:
    """The connection of this Blender to its server.

    Attributes:
        deadline: monotonic seconds at which waiting for a connection is given up.
        wanted: whether a client is to be opened as soon as what it needs has been imported in the background.
    """

    def __init__(self) -> None:
        self.client: Client | None = None
        self.launch: Launch | None = None
        self.deadline = 0.0
        self.wanted = False
        self._stop_deadline = self._replace_by = 0.0
        self._answers: dict[str, OnAnswer] = {}
        self._early: list[Received] = []  # requests that could not even be sent

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed this Blender."""
        return self.client is not None and self.client.connected

    @property
    def far_file(self) -> Path | None:
        """The connection file of a server on another machine, whose paths mean nothing here; None for one on this."""
        return preferences.connection_file() if self.connected and self.client.server.remote else None

    @property
    def stopping(self) -> bool:
        """Whether the server was asked to end and has not yet."""
        return bool(self._stop_deadline)

    @property
    def changing(self) -> bool:
        """Whether a server is being started or stopped."""
        return self.launch is not None or self.stopping or bool(self._replace_by)

    @property
    def state(self) -> str:
        """The server in a word or two, for the panel."""
        if self.stopping:
            return "Stopping"
        if self.launch is not None or self._replace_by:
            return "Starting"
        return "Running" if self.connected else "Not Running"

    def reach(self) -> None:
        """Makes sure that a connection or a start is under way.

        Raises:
            GenesisError: where there is no server and none may or can be started.
        """
        if self.connected or self.launch is not None:
            return
        self.open()
        self._early.extend(self.client.poll())
        self.deadline = time.monotonic() + CONNECT_WITHIN
        if self.connected or server_there():
            return
        if not preferences.preferences().auto_start:
            raise GenesisError(ErrorCode.NOT_CONNECTED, "The Genesis server is not running.", "Start it.", Remedy.START_SERVER)
        self.start()

    def open(self) -> None:
        """A client, which looks for the server of the connection file."""
        if self.client is None:
            self.client = client.Client(preferences.connection_file(), f"Blender {bpy.app.version_string}")

    def start(self) -> None:
        """Starts the server without waiting for it.

        Raises:
            GenesisError: where it cannot be started.
        """
        file = preferences.connection_file()
        python = preferences.server_python()
        if self._replaced(file):
            return
        self._launch(python, file)

    def _launch(self, python: Path, file: Path) -> None:
        parent = None if preferences.preferences().keep_running else os.getpid()
        try:
            offline = not bpy.app.online_access
            self.launch = launch.start_server(python, file, parent, offline=offline)
        except OSError as error:
            raise GenesisError(
                ErrorCode.NO_PERMISSION, f"{file.parent} cannot be used: {error}.", "Choose another Connection File."
            ) from error
        self.deadline = time.monotonic() + launch.START_TIMEOUT

    def _replaced(self, file: Path) -> bool:
        """Whether a server of another release is there: it is asked to end, and ours starts when it has."""
        try:
            read_connection(file)
        except GenesisError as error:
            if error.code == ErrorCode.VERSION_MISMATCH:
                launch.stop_other_release(file)
                self._replace_by = time.monotonic() + STOP_WITHIN
        return bool(self._replace_by)

    def stop(self) -> None:
        """Asks the server to end; a running job goes on at its next start."""
        if self.connected:
            self.client.send(messages.Shutdown())
            self._stop_deadline = time.monotonic() + STOP_WITHIN

    def ask(self, request: messages.Request, on_answer: OnAnswer | None = None, timeout: float | None = None) -> None:
        """Sends a request; `on_answer` gets its answer, or a Failure, at a later step."""
        try:
            request_id = self.client.send(request, timeout)
        except GenesisError as error:
            self._early.append(client.Received("", messages.Failure(error.to_json())))
            return
        if on_answer is not None:
            self._answers[request_id] = on_answer

    def follow(self, now: float) -> list[Received]:
        """One step: what has arrived since the last one.

        Raises:
            GenesisError: where the server that was being started or stopped has failed to.
        """
        if self.wanted and self.client is None and warm_up():
            self.open()
        self._follow_launch(now)
        self._follow_stop(now)
        early, self._early = self._early, []
        return early + (self.client.poll() if self.client is not None else [])

    def answer_to(self, item: Received) -> bool:
        """Hands an answer to whoever asked; whether anyone had."""
        handler = self._answers.pop(item.request, None) if item.request else None
        if handler is not None:
            handler(item)
        return handler is not None

    def log_file(self) -> str:
        """The server's log, or what a failed start said; empty where there is neither."""
        if self.connected:
            return self.client.server.log
        file = preferences.connection_file()
        candidates = [file.with_name("genesis.log"), file.with_suffix(".start.log")]
        existing = [path for path in candidates if path.exists() and path.stat().st_size]
        return str(max(existing, key=lambda path: path.stat().st_mtime)) if existing else ""

    def close(self) -> None:
        """Ends the connection; the server and its jobs go on."""
        if self.client is not None:
            self.client.close()
        self.__init__()

    def _follow_launch(self, now: float) -> None:
        if self._replace_by:
            self._follow_replacing(now)
        if self.launch is None:
            return
        try:
            ready = self.launch.ready()
            if not ready and now > self.deadline:
                raise GenesisError(
                    ErrorCode.NOT_CONNECTED, "The server did not start in time.", "Look at its log.", Remedy.OPEN_LOG
                )
        except GenesisError as error:
            self.launch = None
            raise _explained(error) from error
        if ready:
            self.launch = None
            self.deadline = now + CONNECT_WITHIN
            self._reopen()

    def _follow_replacing(self, now: float) -> None:
        if not server_there():
            self._replace_by = 0.0
            self._launch(preferences.server_python(), preferences.connection_file())
        elif now > self._replace_by:
            self._replace_by = 0.0
            raise GenesisError(
                ErrorCode.VERSION_MISMATCH,
                "A server of another release is running, and has not ended when it was asked to.",
                "Close the other Blender that uses it, or end it where it was started; then start the server again.",
                Remedy.START_SERVER,
            )

    def _follow_stop(self, now: float) -> None:
        if not self._stop_deadline:
            return
        if not server_there():
            self._stop_deadline = 0.0
            self.client.close()
            self.client = None
        elif now > self._stop_deadline:
            self._stop_deadline = 0.0
            raise GenesisError(
                ErrorCode.NOT_CONNECTED, "The server has not ended in time.", "Look at its log.", Remedy.OPEN_LOG
            )

    def _reopen(self) -> None:
        """A connection to the server that has just started, whatever the connection file was before."""
        if self.client is not None:
            self.client.close()
        self.client = None
        self._answers.clear()
        self.open()


def server_there() -> bool:
    """Whether the connection file names a server that lives."""
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
