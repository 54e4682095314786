# SPDX-License-Identifier: Apache-2.0
"""Where the server keeps its things, and the connection file through which clients find it.

The file is what Jupyter's is: address and keys, readable by the user alone, new at every start of the server. Whoever can
read it may use the server; nobody else can.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

HOME_VARIABLE = "GENESIS_HOME"
CONNECTION_FILE = "server.json"
REMOTE = 0  # as the process of a server on another machine, which cannot be looked at
MAX_CONNECTION_FILE = 65536  # bytes; a real one has a few hundred
_STILL_ACTIVE = 259  # exit code of a running process (Windows)
_QUERY_LIMITED_INFORMATION = 0x1000


def home_folder() -> Path:
    """Folder of connection file, job store, log and unnamed assets: GENESIS_HOME, else the user's data folder."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Genesis"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Genesis"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "genesis"


def default_connection_file() -> Path:
    """The connection file of the server of this user."""
    return home_folder() / CONNECTION_FILE


@dataclass(frozen=True)
class Connection:
    """What a client needs to reach one launch of the server.

    Attributes:
        protocol: protocol version of the server.
        address: `tcp://127.0.0.1:<port>`.
        server_key, client_public, client_secret: CURVE keys, Z85 text of 40 characters.
        pid: the server's process; REMOTE for one on another machine.
        version: the server's release.
    """

    protocol: int
    address: str
    server_key: str
    client_public: str
    client_secret: str
    pid: int
    version: str


def read_connection(path: Path) -> Connection:
    """The connection of the running server.

    Raises:
        GenesisError: NOT_CONNECTED where the file is missing, broken or left behind by a server that is gone,
            VERSION_MISMATCH where the server speaks another protocol version.
    """
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CONNECTION_FILE))
    except FileNotFoundError:
        raise _no_server(f"No Genesis server is running: {path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise _no_server(f"The connection file {path} cannot be read: {error}.") from None
    values = values if isinstance(values, dict) else {}
    protocol, pid = values.get("protocol"), values.get("pid")
    # first of all, for a server of another release may have left it too
    if type(pid) is int and pid != REMOTE and not process_alive(pid):
        raise _no_server(f"The connection file {path} was left by process {pid}, which is gone.")
    if isinstance(protocol, int) and protocol != PROTOCOL_VERSION:
        raise GenesisError(
            ErrorCode.VERSION_MISMATCH,
            f"The running server speaks protocol version {protocol}, this side speaks {PROTOCOL_VERSION}.",
            "Stop it and start the server of this release.",
            Remedy.START_SERVER,
        )
    kinds = {"protocol": int, "pid": int}
    names = [item.name for item in dataclasses.fields(Connection)]
    if any(type(values.get(name)) is not kinds.get(name, str) for name in names):
        raise _no_server(f"The connection file {path} is not one.")
    return Connection(**{name: values[name] for name in names})


def process_alive(pid: int) -> bool:
    """Whether a process with this id is running; a dead one that its parent has not collected counts as gone."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == _STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def _no_server(message: str) -> GenesisError:
    return GenesisError(ErrorCode.NOT_CONNECTED, message, "Start the server with `genesis serve`.", Remedy.START_SERVER)
