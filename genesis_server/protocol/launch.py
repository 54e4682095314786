# SPDX-License-Identifier: Apache-2.0
"""Starting a server from a client: detached, without a window, watched until its connection file is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from genesis_server.protocol.connection import default_connection_file, read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

START_TIMEOUT = 30.0  # seconds; a cold disk may need ten for the first import
OFFLINE_VARIABLE = "GENESIS_OFFLINE"  # of the server: it refuses downloads until a client allows them
LINGER_MS = 2000  # in the background, for a message on its way
MAX_SAID = 2000  # characters of what a failed start said
# a client's own Python (Blender's) must not lead the server's Python to another standard library
_FOREIGN_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")


class Launch:
    """A server on its way up; `ready` suits a timer, `wait` a script."""

    def __init__(self, process: subprocess.Popen, connection_file: Path, said: Path, key_before: str) -> None:
        self.process = process
        self.connection_file = connection_file
        self._said = said
        self._key_before = key_before

    def ready(self) -> bool:
        """Whether the server can be connected to.

        Raises:
            GenesisError: NOT_CONNECTED with the server's last words where it ended instead.
        """
        ended = self.process.poll() is not None
        try:
            # not the process id: a virtual environment's python.exe on Windows starts another process. Where the new server
            # ended because one is running already, that one will do
            if read_connection(self.connection_file).server_key != self._key_before or ended:
                return True
        except GenesisError as error:
            if error.code != ErrorCode.NOT_CONNECTED:
                raise
        if not ended:
            return False
        words = self._said.read_text("utf-8", "replace").strip()[-MAX_SAID:]
        raise GenesisError(
            ErrorCode.NOT_CONNECTED,
            f"The server ended with exit code {self.process.returncode}: {words or 'it said nothing'}",
            "Run `genesis doctor` in a terminal.",
            Remedy.OPEN_LOG,
        )

    def wait(self, timeout: float = START_TIMEOUT) -> None:
        """Returns when the server is ready.

        Raises:
            GenesisError: NOT_CONNECTED as `ready`, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.ready():
            if time.monotonic() > deadline:
                raise GenesisError(
                    ErrorCode.NOT_CONNECTED,
                    f"The server was not ready within {timeout:g} s.",
                    "Look at its log.",
                    Remedy.OPEN_LOG,
                )
            time.sleep(0.02)


def start_server(
    python: str | Path,
    connection_file: Path | None = None,
    parent: int | None = None,
    arguments: Sequence[str] = (),
    offline: bool = False,
) -> Launch:
    """Starts `genesis serve` with the interpreter in which Genesis is installed; returns at once.

    Args:
        python: that interpreter.
        connection_file: where the server writes it, beside its jobs and log; in the user's own folder by default.
        parent: process with which the server ends; None lets it stay.
        arguments: the program to run instead of `-m genesis_server serve`.
        offline: the server refuses to download anything.

    Raises:
        GenesisError: NOT_CONNECTED where the interpreter cannot be started, NO_PERMISSION where its folder cannot be used.
    """
    file = Path(connection_file) if connection_file is not None else default_connection_file()
    key_before = _server_key(file)
    command = [str(python), *(arguments or ("-m", "genesis_server", "serve")), "--connection-file", str(file)]
    command += ["--parent", str(parent)] if parent is not None else []
    said = file.with_suffix(".start.log")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        said.touch()
    except OSError as error:
        raise GenesisError(
            ErrorCode.NO_PERMISSION, f"The server's folder {file.parent} cannot be used: {error}.", "Choose another folder."
        ) from error
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    if offline:
        environment[OFFLINE_VARIABLE] = "1"
    detached = {}
    if sys.platform == "win32":
        detached["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    try:
        with said.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=file.parent,
                env=environment,
                start_new_session=sys.platform != "win32",
                **detached,
            )
    except OSError as error:
        raise GenesisError(
            ErrorCode.NOT_CONNECTED, f"{python} cannot be started: {error}.", "Choose the Python in which Genesis is installed."
        ) from error
    return Launch(process, file, said, key_before)


def stop_other_release(connection_file: Path) -> None:
    """Asks the server of a connection file, whose protocol version is another one, to end; does not wait for it.

    The header of a Shutdown is the same in every version, but for the version's number.
    """
    import zmq  # 30 ms that nothing else here needs

    try:
        values = json.loads(connection_file.read_text("utf-8"))
        header = {"v": values["protocol"], "kind": "shutdown", "id": "stop", "body": {}, "frames": []}
        socket = zmq.Context.instance().socket(zmq.DEALER)
        try:
            socket.curve_serverkey = values["server_key"].encode("ascii")
            socket.curve_publickey = values["client_public"].encode("ascii")
            socket.curve_secretkey = values["client_secret"].encode("ascii")
            socket.connect(values["address"])
            socket.send(json.dumps(header).encode())
        finally:
            socket.close(linger=LINGER_MS)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # zmq's errors are OSErrors
        return  # then it cannot be asked


def _server_key(connection_file: Path) -> str:
    try:
        return read_connection(connection_file).server_key
    except GenesisError:
        return ""
