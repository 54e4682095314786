# SPDX-License-Identifier: Apache-2.0
"""Who may connect from where: this machine alone, or whoever has the key file.

On loopback the keys are new at every start. A server that is open to other machines keeps its keys beside its store, so that
the key file that was carried over stays good; the file has the client's keys and the address, never the server's secret.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import socket
from dataclasses import dataclass
from pathlib import Path

import zmq

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.connection import REMOTE, Connection
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.service.connection import Keys, write_private
from genesis_server.service.endpoint import LOOPBACK

KEYS_FILE = "keys.json"
ANY = "0.0.0.0"


@dataclass(frozen=True)
class Access:
    """How a server can be reached.

    Attributes:
        host: IPv4 address to bind to.
        key_file: where clients of other machines get address and keys from; None on loopback.
    """

    host: str = LOOPBACK
    key_file: Path | None = None

    @property
    def remote(self) -> bool:
        """Whether clients of other machines can connect."""
        return self.key_file is not None

    def keys(self, folder: Path) -> Keys:
        """New keys, or for other machines those that were made once.

        Raises:
            GenesisError: BAD_PARAMETER for a broken keys file, NO_PERMISSION, DISK_FULL.
        """
        if not self.remote:
            return Keys.fresh()
        path = folder / KEYS_FILE
        if not path.exists():
            keys = Keys.fresh()
            write_private(path, dataclasses.asdict(keys))
            return keys
        try:
            keys = Keys(**json.loads(path.read_text("utf-8")))
            if zmq.curve_public(keys.server_secret.encode("ascii")).decode("ascii") != keys.server_public:
                raise ValueError("the keys do not belong together")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"{path} cannot be used: {error}.",
                "Delete it; new keys are made, and the key file has to be carried to the clients again.",
            ) from error
        return keys

    def own_address(self, port: int) -> str:
        """Where clients on this machine connect to."""
        return f"tcp://{LOOPBACK if self.host == ANY else self.host}:{port}"

    def export(self, port: int, keys: Keys, version: str) -> None:
        """Writes the key file for other machines.

        Raises:
            GenesisError: NO_PERMISSION or DISK_FULL.
        """
        if self.key_file is None:
            return
        address = f"tcp://{outward_address() if self.host == ANY else self.host}:{port}"
        connection = Connection(
            PROTOCOL_VERSION, address, keys.server_public, keys.client_public, keys.client_secret, REMOTE, version
        )
        write_private(self.key_file, dataclasses.asdict(connection))


LOCAL = Access()


def parse_bind(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS:PORT`.

    Raises:
        GenesisError: BAD_PARAMETER.
    """
    host, _, port = text.rpartition(":")
    try:
        if not 1 <= int(port) <= 65535:
            raise ValueError
        return str(ipaddress.IPv4Address(host)), int(port)
    except ValueError:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            f"{text!r} is no address with a port.",
            f"Use one such as 192.168.1.5:7788, or {ANY}:7788 for all of this machine's.",
        ) from None


def outward_address() -> str:
    """The address of this machine that others most likely reach it by; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation: only the route is looked up
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
