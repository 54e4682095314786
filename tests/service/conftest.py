# SPDX-License-Identifier: Apache-2.0
"""Real servers in their own folders, ended by process id after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_server import PATIENCE, Server

from genesis_server.protocol.messages import Watch


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that are ended with the test."""
    servers: list[Server] = []

    def start_one(*arguments: str, parent: int | None = None) -> Server:
        servers.append(Server(tmp_path, *arguments, parent=parent))
        return servers[-1]

    yield start_one
    for server in servers:
        server.end()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    """One server with a client that watches everything."""
    one = start()
    one.client.request(Watch(), PATIENCE)
    return one
