# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program to its end, line by line; ends it, with all that it has started, where it hangs or is not wanted any more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

SILENCE = 1800.0  # seconds without a word after which a program counts as hanging; torch unpacks for minutes
LOOK_EVERY = 0.2  # seconds between looks whether it is still wanted


def run_program(
    command: list[str], folder: Path, environment: dict[str, str], on_line: Callable[[str], None], unwanted: threading.Event
) -> int:
    """Its exit code; negative where it was ended.

    Args:
        folder: to run in.
        on_line: gets each line of its output, errors included.
        unwanted: ends it when set.

    Raises:
        OSError: where it cannot be started.
    """
    group = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, env=environment, cwd=folder, **group
    )
    heard = [time.monotonic()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            if unwanted.is_set() or time.monotonic() - heard[0] > SILENCE:
                _end(process)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with process.stdout:
            for line in process.stdout:
                heard[0] = time.monotonic()
                on_line(line.decode("utf-8", "replace").rstrip())
        return process.wait(SILENCE)
    finally:
        over.set()
        if process.poll() is None:
            _end(process)
            process.wait()
        watcher.join()


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if os.name == "nt":
            command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, timeout=20, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
        else:
            os.killpg(process.pid, signal.SIGKILL)
