# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the server's environment in steps, each of which is remembered when it is done.

A step whose ingredients are those it was done with is skipped: so an installation that was stopped goes on where it was, and
an update of the extension replaces only what has changed. Programs run in a thread that touches nothing of Blender; all they
say is in one log file.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from genesis_server.protocol.connection import process_alive
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

from .bundle import Bundle
from .machine import Found, clean_environment
from .output import Meter, counts_bytes, reason_of
from .program import run_program
from .recipe import BYTES, Step, make_steps
from .record import CACHE, LAST_STEP, interpreter, read_record, write_record

LOG, LOCK = "install.log", "install.pid"
KEPT_WORDS = 20  # last lines of a program, for the reason in an error
PIP = "pip>=25.1"  # goes on with half a download


@dataclass(frozen=True)
class Status:
    """How far an installation is.

    Attributes:
        running: whether it is under way.
        title: the present step in words.
        fraction: of the whole, 0..1, never falling.
        line: what is happening, such as a download with its size.
        error: why it ended early.
        done: whether the environment is ready.
    """

    running: bool = False
    title: str = ""
    fraction: float = 0.0
    line: str = ""
    error: GenesisError | None = None
    done: bool = False


class Installation:
    """One run of the installer; `start` it once, then ask for its `status`.

    Attributes:
        log: file with every command and all its output.
    """

    def __init__(self, folder: Path, bundle: Bundle, found: Found, sources: Sequence[str] = ()) -> None:
        """Nothing happens yet.

        Args:
            folder: where environment, record and log are; made where it is missing.
            bundle, found: what to install, and with what.
            sources: further arguments about where packages come from, such as `--find-links FOLDER`.
        """
        self.log = folder / LOG
        self._folder, self._bundle, self._found, self._sources = folder, bundle, found, tuple(sources)
        self._status = Status()
        self._lock = threading.Lock()
        self._unwanted = threading.Event()
        self._counts_bytes = False  # whether this pip can
        self._thread = threading.Thread(target=self._run, name="Genesis installation", daemon=True)

    def start(self) -> None:
        """Begins, in a thread."""
        self._set(running=True, title="Starting")
        self._thread.start()

    def status(self) -> Status:
        """How far it is; may be asked at any time."""
        with self._lock:
            return self._status

    def cancel(self) -> None:
        """Stops the program that runs; what has been finished is kept, and the next run goes on from there."""
        self._unwanted.set()

    def wait(self, timeout: float | None = None) -> Status:
        """Waits for the end; for scripts and `blender -b`."""
        self._thread.join(timeout)
        return self.status()

    # ---- in the thread ----

    def _run(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _take_turn(self._folder)
            try:
                with self.log.open("a", encoding="utf-8", buffering=1) as log:
                    log.write(f"\n==== {time.strftime('%Y-%m-%d %H:%M:%S')} {self._found.summary()}\n")
                    self._install(log)
            finally:
                (self._folder / LOCK).unlink(missing_ok=True)
            self._set(running=False, done=True, fraction=1.0, title="Ready", line="")
        except GenesisError as error:
            self._set(running=False, error=error)
        except OSError as error:
            self._set(running=False, error=self._trouble(error))

    def _install(self, log: TextIO) -> None:
        steps = make_steps(self._folder, self._bundle, self._found, self._sources)
        record = read_record(self._folder) if interpreter(self._folder).exists() else {}
        names = [step.name for step in steps]
        total, begun = sum(step.weight for step in steps), 0.0
        for step in steps:
            share = step.weight / total
            if record.get(step.name, {}).get("digest") != step.digest:
                # what was done later stands on what is now to change
                record = {name: record[name] for name in names[: names.index(step.name)] if name in record}
                write_record(self._folder, record)
                self._set(title=step.title, line="", fraction=begun)
                words = self._do(log, step, begun, share)
                if step.name == LAST_STEP:
                    self._judge(words)
                record[step.name] = {"digest": step.digest, "release": self._bundle.digest()}
                write_record(self._folder, record)
            begun += share
            self._set(fraction=begun)
        if record[LAST_STEP].get("release") != self._bundle.digest():
            record[LAST_STEP]["release"] = self._bundle.digest()
            write_record(self._folder, record)

    def _do(self, log: TextIO, step: Step, begun: float, share: float) -> list[str]:
        """Runs a step's commands until one ends well; its last words."""
        if step.name == "torch" and self._found.uv is None:
            # a newer pip goes on with half a download; where it cannot be had, the one that is there will do
            pip = [str(interpreter(self._folder)), "-m", "pip"]
            self._call(log, [*pip, "install", "--quiet", "--upgrade", *self._sources, PIP], Meter(1), begun, 0.0)
            self._counts_bytes = counts_bytes(self._call(log, [*pip, "--version"], Meter(1), begun, 0.0)[1])
        for command in step.commands:
            command = [part if part != BYTES or self._counts_bytes else "off" for part in command]
            code, words = self._call(log, command, Meter(step.download), begun, share)
            if code == 0:
                return words
        raise self._failed(step, code, words)

    def _call(self, log: TextIO, command: list[str], meter: Meter, begun: float, share: float) -> tuple[int, list[str]]:
        """Exit code and last words of a program."""
        log.write(f"$ {' '.join(command)}\n")
        words: list[str] = []

        def heard(text: str) -> None:
            if not meter.take(text):
                log.write(text + "\n")
                words.append(text)
                del words[:-KEPT_WORDS]
            self._set(fraction=begun + share * meter.fraction, line=meter.line)

        environment = clean_environment(
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_RESUME_RETRIES="10",
            UV_CACHE_DIR=str(self._folder / CACHE),
            UV_PYTHON_INSTALL_DIR=str(self._folder / "python"),
            UV_HTTP_TIMEOUT="120",
        )
        code = run_program(command, self._folder, environment, heard, self._unwanted)
        if self._unwanted.is_set():
            raise GenesisError(ErrorCode.CANCELLED, "The installation was stopped.", "Start it again to go on.", Remedy.RETRY)
        return code, words

    def _judge(self, words: list[str]) -> None:
        """Whether what the check has seen is what was to be installed."""
        said = next((line for line in reversed(words) if line.startswith("checked ")), "checked []")
        release, cuda, *_ = [*json.loads(said.removeprefix("checked ")), "", False]
        if self._found.device == "cuda" and not cuda:
            raise GenesisError(
                ErrorCode.INSTALL_FAILED,
                f"torch {release} is installed, but it cannot use {self._found.gpu}.",
                "Update the NVIDIA driver and try again, or install for the CPU.",
                Remedy.OPEN_LOG,
            )

    def _failed(self, step: Step, code: int, words: list[str]) -> GenesisError:
        kind, reason = reason_of(words)
        if kind == "disk":
            return self._trouble(OSError(errno.ENOSPC, reason))
        if kind == "network":
            return GenesisError(
                ErrorCode.OFFLINE,
                f"{step.title} stopped: the packages cannot be reached.",
                "Check the network, then go on; what has been installed is kept.",
                Remedy.RETRY,
            )
        return GenesisError(
            ErrorCode.INSTALL_FAILED,
            f"{step.title} failed with exit code {code}: {reason}",
            "Look at the log, then try again; what has been installed is kept.",
            Remedy.OPEN_LOG,
        )

    def _trouble(self, error: OSError) -> GenesisError:
        if error.errno == errno.ENOSPC:
            return GenesisError(
                ErrorCode.DISK_FULL, f"The disk of {self._folder} is full.", "Free some space, then go on.", Remedy.RETRY
            )
        return GenesisError(
            ErrorCode.NO_PERMISSION,
            f"{error.filename or self._folder} cannot be used: {error.strerror or error}.",
            "Choose another folder for the environment, or another Python.",
        )

    def _set(self, **changes) -> None:
        with self._lock:
            fraction = max(self._status.fraction, changes.pop("fraction", 0.0))
            self._status = replace(self._status, fraction=min(1.0, fraction), **changes)


def _take_turn(folder: Path) -> None:
    """Refuses a second installation into the same folder, from another Blender.

    Raises:
        GenesisError: ALREADY_RUNNING.
    """
    path = folder / LOCK
    try:
        other = int(path.read_text("ascii"))
    except (OSError, ValueError):
        other = 0
    if other not in (0, os.getpid()) and process_alive(other):
        raise GenesisError(
            ErrorCode.ALREADY_RUNNING, f"Process {other} is installing into {folder}.", "Wait until it has finished."
        )
    path.write_text(str(os.getpid()), "ascii")
