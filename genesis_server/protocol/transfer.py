# SPDX-License-Identifier: Apache-2.0
"""Files between a client and a server on another machine: pictures and meshes there, results back.

Each function opens a connection of its own and waits, so that it can run in a thread beside a user interface. On a server of
this machine nothing is copied: paths are the same on both sides.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import Fetch, Submit, TextureMesh, Upload

PIECE = 4 << 20  # bytes of one message
PATIENCE = 60.0  # seconds for one piece on a slow line
RESULTS = ("model.glb", "thumbnail.png", "asset.json")
_OPTIONAL = ("thumbnail.png",)  # a bake whose picture failed is finished all the same

OnBytes = Callable[[int, int], None]  # (bytes so far, bytes of the whole file)


def send_files(connection_file: Path, request: Submit | TextureMesh, on_bytes: OnBytes | None = None) -> Submit | TextureMesh:
    """The request with its pictures, and its mesh, on the server's machine; and an asset in the server's own place.

    Raises:
        GenesisError: BAD_IMAGE or BAD_MESH for a file that cannot be read, NOT_CONNECTED, DISK_FULL on the server.
    """
    with Client(connection_file, "genesis transfer") as client:
        if not client.connect().remote:
            return request
        pictures = tuple(upload(client, Path(picture), ErrorCode.BAD_IMAGE, on_bytes) for picture in request.pictures)
        name = Path(request.asset).name.removesuffix(".genesis")
        changed = {"pictures": pictures, "asset": re.sub(r"[^\w .()-]", "_", name)[:100]}
        if isinstance(request, TextureMesh):
            changed["mesh"] = upload(client, Path(request.mesh), ErrorCode.BAD_MESH, on_bytes)
        return dataclasses.replace(request, **changed)


def fetch_results(connection_file: Path, job: str, folder: Path, on_bytes: OnBytes | None = None) -> Path:
    """Copies the result of a finished job into `folder`, an asset folder of this machine; returns its model.glb.

    Raises:
        GenesisError: BAD_ASSET for a job without a result, NOT_CONNECTED, DISK_FULL, NO_PERMISSION.
    """
    with Client(connection_file, "genesis transfer") as client:
        client.connect()
        for name in RESULTS:
            try:
                download(client, job, name, folder / name, on_bytes)
            except GenesisError as error:
                if name not in _OPTIONAL or error.code != ErrorCode.BAD_ASSET:
                    raise
    return folder / RESULTS[0]


def upload(client: Client, path: Path, code: ErrorCode, on_bytes: OnBytes | None = None) -> str:
    """Sends one file; its path on the server's machine.

    Args:
        code: of the error for a file that cannot be read.
    """
    token, done = secrets.token_hex(8), 0
    name = re.sub(r"[^\w .()-]", "_", path.name)[-100:].lstrip(" .()-") or "file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while True:
                piece = file.read(PIECE)
                answer = client.request(Upload(token, name, done, size, piece), PATIENCE)
                done += len(piece)
                if on_bytes is not None:
                    on_bytes(done, size)
                if answer.path:
                    return answer.path
                if not piece:
                    raise GenesisError(code, f"{path} changed while it was sent.", "Send it again.")
    except OSError as error:
        raise GenesisError(code, f"{path} cannot be read: {error.strerror}.", "Choose another file.") from error


def download(client: Client, job: str, name: str, target: Path, on_bytes: OnBytes | None = None) -> None:
    """Brings one file of a job's asset here, at once and whole."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            done, size = 0, 1
            while done < size:
                part = client.request(Fetch(job, name, done), PATIENCE)
                if not part.data:
                    raise GenesisError(ErrorCode.BAD_ASSET, f"{name} of job {job} ends early.", "Generate it again.")
                file.write(part.data)
                done, size = done + len(part.data), part.size
                if on_bytes is not None:
                    on_bytes(done, size)
        os.replace(temporary, target)
    except OSError as error:
        full = error.errno == 28  # no space left
        raise GenesisError(
            ErrorCode.DISK_FULL if full else ErrorCode.NO_PERMISSION,
            f"{target} cannot be written: {error.strerror}.",
            "Free some space." if full else "Choose another folder.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
