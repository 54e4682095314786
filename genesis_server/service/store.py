# SPDX-License-Identifier: Apache-2.0
"""The job store: every job with its request, state, attempts and error, in SQLite; survives any process.

The database is held under an exclusive lock that the operating system takes back when the process ends, so that one
folder never has two servers, whatever became of the first.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

from genesis_server.protocol.codec import decode, encode
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    MAX_LISTED_JOBS,
    Download,
    JobInfo,
    JobRequest,
    JobState,
    Rebake,
    Regenerate,
    Submit,
    TextureMesh,
)
from genesis_server.service.faults import as_genesis_error
from genesis_server.service.log import log

STORE_FILE = "jobs.sqlite"
DOWNLOAD = "download"  # the kind of job that another process does than the rest
KEPT_JOBS = 1000  # finished ones beyond this are forgotten, oldest first
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL, asset TEXT NOT NULL, model TEXT NOT NULL,
    stage TEXT NOT NULL, step INTEGER NOT NULL, steps INTEGER NOT NULL, fraction REAL NOT NULL, message TEXT NOT NULL,
    attempts INTEGER NOT NULL, error TEXT, created REAL NOT NULL, started REAL NOT NULL, finished REAL NOT NULL,
    request BLOB NOT NULL, "group" TEXT NOT NULL DEFAULT '', place REAL NOT NULL DEFAULT 0
)"""
# of later releases than the first; `place` orders the jobs that wait, those with the same by number
_ADDED = ("\"group\" TEXT NOT NULL DEFAULT ''", "place REAL NOT NULL DEFAULT 0")
_LIVE = {"position", "eta"}  # known to the running server alone
_COLUMNS = [item.name for item in dataclasses.fields(JobInfo) if item.name not in _LIVE]
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_KIND = {Submit: "generate", TextureMesh: "texture_mesh", Rebake: "rebake", Regenerate: "regenerate", Download: DOWNLOAD}
_TYPICAL_OF = 5  # finished jobs of a kind whose mean time is what the next one is expected to take


class JobStore:
    """The jobs of one server folder; used from one thread."""

    def __init__(self, folder: Path) -> None:
        """Opens or makes the store.

        Raises:
            GenesisError: ALREADY_RUNNING where another server holds it, DISK_FULL, NO_PERMISSION, INTERNAL for a damaged one.
        """
        self._unsaved: dict[str, JobInfo] = {}  # what could not be written, because the disk is full
        self._database = sqlite3.connect(folder / STORE_FILE, timeout=0.5, isolation_level=None)
        try:
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.execute(_SCHEMA)
            self._migrate()
            self._database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._database.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise as_genesis_error(error) from error
            raise GenesisError(
                ErrorCode.ALREADY_RUNNING, f"Another Genesis server uses {folder}.", "Use that one, or end it first."
            ) from error

    def close(self) -> None:
        """Releases the store."""
        self._database.close()

    def add(self, request: JobRequest) -> JobInfo:
        """A new queued job."""
        asset, model, group = (getattr(request, name, "") for name in ("asset", "model", "group"))
        job = JobInfo(
            secrets.token_hex(6), _KIND[type(request)], JobState.QUEUED, asset, model, created=time.time(), group=group
        )
        values = [*self._row(job), encode(request)[0], self._last_place() + 1]
        marks = ", ".join("?" * len(values))
        self._database.execute(f"INSERT INTO jobs ({_QUOTED}, request, place) VALUES ({marks})", values)
        self._forget_old()
        return job

    def get(self, job_id: str) -> JobInfo:
        """One job.

        Raises:
            GenesisError: JOB_UNKNOWN.
        """
        rows = self._select("WHERE id = ?", (job_id,))
        if not rows:
            raise GenesisError(
                ErrorCode.JOB_UNKNOWN, f"There is no job {job_id[:40]!r}.", "List the jobs to see which there are."
            )
        return rows[0]

    def request(self, job_id: str) -> JobRequest:
        """What the job was asked to do."""
        row = self._database.execute("SELECT request FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return decode([row[0]])[1]

    def newest(self) -> tuple[JobInfo, ...]:
        """The newest jobs, newest first."""
        return tuple(self._select("ORDER BY number DESC LIMIT ?", (MAX_LISTED_JOBS,)))

    def queued(self, download: bool = False) -> list[JobInfo]:
        """All downloads, or all others, that wait, in order."""
        return [job for job in self._in_state(JobState.QUEUED) if (job.kind == DOWNLOAD) == download]

    def move(self, job_id: str, position: int) -> None:
        """Puts a waiting job at a place among those of its line, 1 for the first; one that does not wait stays."""
        job = self.get(job_id)
        line = [other for other in self.queued(job.kind == DOWNLOAD) if other.id != job_id]
        if job.state != JobState.QUEUED:
            return
        line.insert(max(0, min(position - 1, len(line))), job)
        for place, other in enumerate(line, 1):
            self._database.execute("UPDATE jobs SET place = ? WHERE id = ?", (place, other.id))

    def put_last(self, job_id: str) -> None:
        """Puts a job behind all others."""
        self._database.execute("UPDATE jobs SET place = ? WHERE id = ?", (self._last_place() + 1, job_id))

    def typical_seconds(self, kind: str, model: str) -> float:
        """How long the last jobs of this kind and model ran; negative where there was none."""
        row = self._database.execute(
            "SELECT AVG(seconds) FROM (SELECT finished - started AS seconds FROM jobs"
            " WHERE kind = ? AND model = ? AND state = ? AND started > 0 ORDER BY number DESC LIMIT ?)",
            (kind, model, JobState.FINISHED.value, _TYPICAL_OF),
        ).fetchone()
        return -1.0 if row[0] is None else row[0]

    def running(self) -> list[JobInfo]:
        """Those marked as running; at the start of a server, the ones a crash has interrupted."""
        return self._in_state(JobState.RUNNING)

    def save(self, job: JobInfo) -> None:
        """Writes a job's changed fields; on a full disk they are kept in memory until they can be written."""
        self._unsaved[job.id] = job
        marks = ", ".join(f'"{name}" = ?' for name in _COLUMNS)
        try:
            for waiting in list(self._unsaved.values()):
                self._database.execute(f"UPDATE jobs SET {marks} WHERE id = ?", [*self._row(waiting), waiting.id])
                del self._unsaved[waiting.id]
        except sqlite3.OperationalError as error:
            log(logging.ERROR, f"the job store cannot be written: {error}", job.id)

    def _migrate(self) -> None:
        """Adds the columns that a store of an earlier release lacks."""
        known = {row[1] for row in self._database.execute("PRAGMA table_info(jobs)")}
        for column in _ADDED:
            if column.split()[0].strip('"') not in known:
                self._database.execute(f"ALTER TABLE jobs ADD COLUMN {column}")

    def _last_place(self) -> float:
        return self._database.execute("SELECT COALESCE(MAX(place), 0) FROM jobs").fetchone()[0]

    def _in_state(self, state: JobState) -> list[JobInfo]:
        return [job for job in self._select("WHERE state = ? ORDER BY place, number", (state,)) if job.state == state]

    def _select(self, clause: str, values: tuple[Any, ...]) -> list[JobInfo]:
        rows = self._database.execute(f"SELECT {_QUOTED} FROM jobs {clause}", values)
        jobs = [self._job(dict(zip(_COLUMNS, row, strict=True))) for row in rows]
        return [self._unsaved.get(job.id, job) for job in jobs]

    @staticmethod
    def _row(job: JobInfo) -> list[Any]:
        values = {name: getattr(job, name) for name in _COLUMNS}
        values["state"] = job.state.value
        values["error"] = json.dumps(job.error) if job.error is not None else None
        return list(values.values())

    @staticmethod
    def _job(values: dict[str, Any]) -> JobInfo:
        values["state"] = JobState(values["state"])
        values["error"] = json.loads(values["error"]) if values["error"] is not None else None
        return JobInfo(**values)

    def _forget_old(self) -> None:
        over = [state.value for state in JobState if state.over]
        self._database.execute(
            f"DELETE FROM jobs WHERE state IN ({', '.join('?' * len(over))}) AND number <= (SELECT MAX(number) FROM jobs) - ?",
            [*over, KEPT_JOBS],
        )
