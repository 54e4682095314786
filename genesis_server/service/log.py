# SPDX-License-Identifier: Apache-2.0
"""The one log file of the server: rotating, the job's id in every line. The supervisor alone writes it."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

LOG_FILE = "genesis.log"
MAX_BYTES, BACKUPS = 2_000_000, 3  # enough for weeks, small enough to send
NO_JOB = "-"

logger = logging.getLogger("genesis")


def open_log(folder: Path) -> Path:
    """Directs the log into `folder`; returns the file.

    Raises:
        OSError: where it cannot be written.
    """
    path = folder / LOG_FILE
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(job)s] %(message)s", defaults={"job": NO_JOB}))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return path


def log(level: int, message: str, job: str = NO_JOB) -> None:
    """One line; further lines of a message are indented below it."""
    logger.log(level, "%s", message.rstrip().replace("\n", "\n    "), extra={"job": job or NO_JOB})
