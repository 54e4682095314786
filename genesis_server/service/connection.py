# SPDX-License-Identifier: Apache-2.0
"""Writes the connection file: fresh keys at every start, readable by the user alone, removed at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.connection import Connection
from genesis_server.protocol.errors import GenesisError
from genesis_server.service.faults import as_genesis_error


@dataclass(frozen=True)
class Keys:
    """The CURVE keys of one launch, Z85 text; clients share one pair, which only the connection file holds."""

    server_public: str
    server_secret: str
    client_public: str
    client_secret: str

    @classmethod
    def fresh(cls) -> Keys:
        """New random keys."""
        server, client = zmq.curve_keypair(), zmq.curve_keypair()
        return cls(*(key.decode("ascii") for key in (*server, *client)))


def write_connection(path: Path, address: str, keys: Keys, version: str) -> None:
    """Writes the connection file at once and whole.

    Raises:
        GenesisError: NO_PERMISSION or DISK_FULL.
    """
    connection = Connection(
        PROTOCOL_VERSION, address, keys.server_public, keys.client_public, keys.client_secret, os.getpid(), version
    )
    write_private(path, dataclasses.asdict(connection))


def write_private(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file at once and whole, readable by the user alone.

    Raises:
        GenesisError: NO_PERMISSION or DISK_FULL.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        # on Windows the mode means nothing: the user's data folder is closed to others already
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise as_genesis_error(error) from error


def remove_connection(path: Path, keys: Keys) -> None:
    """Removes the connection file if it is still that of this launch."""
    with contextlib.suppress(OSError, ValueError, KeyError, GenesisError):
        if json.loads(path.read_text("utf-8"))["server_key"] == keys.server_public:
            path.unlink()
