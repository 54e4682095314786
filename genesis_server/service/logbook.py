# SPDX-License-Identifier: Apache-2.0
"""Reading the server's log: its last lines, or those that concern one job."""

from __future__ import annotations

from pathlib import Path

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.requests import MAX_LOG_LINES

READ = 4_000_000  # bytes from the end of log and predecessor: more than either may hold
SAID = 500_000  # characters of an answer


def last_lines(path: Path, lines: int, job: str = "") -> str:
    """The end of a log.

    Args:
        lines: how many, 1 to MAX_LOG_LINES.
        job: only lines of this job, each with what is indented below it.

    Raises:
        GenesisError: BAD_PARAMETER for an impossible number of lines.
    """
    if not 1 <= lines <= MAX_LOG_LINES:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{lines} lines were asked for.", f"Ask for 1 to {MAX_LOG_LINES}.")
    found = []
    for file in (path.with_name(path.name + ".1"), path):
        if file.exists():
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - READ))
                found += stream.read().decode("utf-8", "replace").splitlines()
    if job:
        found = _of_job(found, job)
    return "\n".join(found[-lines:])[-SAID:]


def _of_job(lines: list[str], job: str) -> list[str]:
    kept, inside = [], False
    for line in lines:
        if not line.startswith(" "):
            inside = f" [{job}] " in line
        if inside:
            kept.append(line)
    return kept
