# SPDX-License-Identifier: Apache-2.0
"""Runs a supervisor in this process until it is told to stop by a client, a signal or the end of its parent."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from genesis_server.service.access import LOCAL, Access
from genesis_server.service.limits import DEFAULT_LIMITS, Limits
from genesis_server.service.supervisor import Supervisor
from genesis_server.service.worker_process import WORKER_COMMAND


def serve(
    connection_file: Path,
    port: int = 0,
    parent: int | None = None,
    worker_command: Sequence[str] = WORKER_COMMAND,
    limits: Limits = DEFAULT_LIMITS,
    access: Access = LOCAL,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves; returns when stopped.

    Args:
        access: whether other machines may connect, and how.
        on_ready: told the address as soon as clients can connect.

    Raises:
        GenesisError: ALREADY_RUNNING, PORT_TAKEN, NO_PERMISSION where it cannot begin.
    """
    supervisor = Supervisor(connection_file, port, parent, worker_command, limits, access)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: supervisor.stop())
    on_ready(supervisor.address)
    supervisor.run()
