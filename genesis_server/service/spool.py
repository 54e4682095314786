# SPDX-License-Identifier: Apache-2.0
"""Files that a client on another machine sends before a job, and pieces of results that it takes home."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import FilePart, Upload, Uploaded
from genesis_server.service.faults import as_genesis_error

MAX_FILE = 1 << 30  # bytes of one upload; a picture has some million, a large mesh a hundred million
KEEP = 7 * 24 * 3600.0  # seconds that an upload stays
PIECE = 8 << 20  # bytes of one answer
_TOKEN, _NAME = re.compile(r"[A-Za-z0-9]{8,64}"), re.compile(r"[\w][\w .()-]{0,99}")


class Spool:
    """Uploads in a folder of their own, one folder each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def receive(self, piece: Upload) -> Uploaded:
        """Appends a piece.

        Raises:
            GenesisError: BAD_MESSAGE for a piece that does not follow the one before, or a name that is not plain;
                DISK_FULL, NO_PERMISSION.
        """
        if not _TOKEN.fullmatch(piece.token) or not _NAME.fullmatch(piece.name):
            raise _refused(f"{piece.name[:100]!r} is not a plain file name")
        if not 0 < piece.size <= MAX_FILE:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, f"{piece.name} has {piece.size} bytes.", f"Send at most {MAX_FILE >> 20} MB."
            )
        folder = self._folder / piece.token
        part, whole = folder / f"{piece.name}.part", folder / piece.name
        try:
            if piece.offset == 0:
                self._forget_old()
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                part.write_bytes(b"")
            here = part.stat().st_size if part.exists() else -1
            if here != piece.offset or here + len(piece.data) > piece.size:
                raise _refused(f"a piece at {piece.offset} does not follow the {here} bytes that are here")
            with part.open("ab") as file:
                file.write(piece.data)
            here += len(piece.data)
            if here == piece.size:
                part.replace(whole)
                return Uploaded(here, str(whole))
            return Uploaded(here)
        except OSError as error:
            raise as_genesis_error(error) from error

    def _forget_old(self) -> None:
        for folder in self._folder.glob("*"):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > KEEP:
                shutil.rmtree(folder, ignore_errors=True)


def read_piece(folder: Path, name: str, offset: int) -> FilePart:
    """A piece of a file in an asset's folder.

    Raises:
        GenesisError: BAD_PARAMETER for a name that is not plain or an offset outside, BAD_ASSET for a file that is not there.
    """
    if not _NAME.fullmatch(name) or offset < 0:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"{name[:100]!r} at {offset} cannot be fetched.", "Name a file of the asset."
        )
    path = folder / name
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(offset)
            return FilePart(size, file.read(PIECE))
    except FileNotFoundError:
        raise GenesisError(ErrorCode.BAD_ASSET, f"{path} does not exist.", "Generate the asset again.") from None
    except OSError as error:
        raise as_genesis_error(error) from error


def _refused(reason: str) -> GenesisError:
    return GenesisError(ErrorCode.BAD_MESSAGE, f"An upload was refused: {reason}.", "Send the file again from its beginning.")
