# SPDX-License-Identifier: Apache-2.0
"""Turns whatever a job died of into the one error that users meet. Never imports torch: it looks at what is loaded."""

from __future__ import annotations

import errno
import signal
import sqlite3
import sys

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

MAX_REASON = 500  # characters of a foreign error message that are shown; the log has all of it


def as_genesis_error(error: BaseException) -> GenesisError:
    """The GenesisError of any exception: itself, or memory, GPU, disk, permission, or INTERNAL with the reason."""
    if isinstance(error, GenesisError):
        return error
    reason = str(error)[:MAX_REASON] or type(error).__name__
    if isinstance(error, MemoryError) or _is_torch_error(error, "OutOfMemoryError"):
        return GenesisError(
            ErrorCode.OUT_OF_MEMORY,
            f"Memory ran out: {reason}",
            "Close other programs, choose a lower resolution or fewer views, or use the small model.",
            Remedy.USE_MINI,
        )
    if breaks_the_process(error):
        return GenesisError(
            ErrorCode.GPU_LOST,
            f"The GPU stopped working: {reason.splitlines()[0]}.",
            "Its process is started anew; try again. If it happens twice, update the driver, or use the small model.",
            Remedy.RETRY,
        )
    store = getattr(error, "sqlite_errorcode", None)
    if store == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return GenesisError(
            ErrorCode.DISK_FULL, f"The disk is full: {reason}.", "Free some space; the previous result is untouched."
        )
    store_closed = store in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    if store_closed or isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return GenesisError(ErrorCode.NO_PERMISSION, f"Access was refused: {reason}.", "Choose a folder that you may write to.")
    if store in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return GenesisError(
            ErrorCode.INTERNAL, f"The server's list of jobs is damaged: {reason}.", "Delete jobs.sqlite in the server's folder."
        )
    if isinstance(error, KeyboardInterrupt):
        return GenesisError(ErrorCode.CANCELLED, "Cancelled.", "What was finished before is as it was.")
    return GenesisError(
        ErrorCode.INTERNAL,
        f"Something went wrong that should not: {type(error).__name__}: {reason}",
        "Please report it with the log.",
        Remedy.OPEN_LOG,
    )


def breaks_the_process(error: BaseException) -> bool:
    """Whether later jobs in this process would fail too: a fault of the GPU poisons it until it ends."""
    return _is_torch_error(error, "AcceleratorError") or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def how_it_ended(code: int) -> str:
    """An exit code of a process in words."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, often the system out of memory" if name == "SIGKILL" else name


def _is_torch_error(error: BaseException, name: str) -> bool:
    torch = sys.modules.get("torch")
    kind = getattr(torch, name, None) if torch is not None else None
    return kind is not None and isinstance(error, kind)
