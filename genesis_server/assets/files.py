# SPDX-License-Identifier: Apache-2.0
"""Writing files whole or not at all, and saying in a user's words why it did not work."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genesis_server.protocol.errors import ErrorCode, GenesisError


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until renames inside a folder are on the disk, where the system can."""
    if os.name != "posix":
        return  # Windows opens no folders; its renames are journalled
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn failures of the file system into errors with a remedy.

    Raises:
        GenesisError: DISK_FULL, NO_PERMISSION, or BAD_ASSET for anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GenesisError(
                ErrorCode.DISK_FULL,
                f"The disk is full: {folder} could not be written.",
                "Free some space and run it again; what was finished before is still there.",
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise GenesisError(
                ErrorCode.NO_PERMISSION, f"{error.filename or folder} may not be written.", "Choose a folder that is yours."
            ) from error
        raise GenesisError(
            ErrorCode.BAD_ASSET,
            f"{error.filename or folder} could not be used: {error.strerror or error}.",
            "Check the path and the disk.",
        ) from error
