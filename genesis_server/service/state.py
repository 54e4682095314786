# SPDX-License-Identifier: Apache-2.0
"""What the server knows about itself: versions, device, model, weights on the disk."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from genesis_server import __version__
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import ModelInfo, Models, ServerInfo, Welcome

MAX_IDLE = 7 * 24 * 3600.0  # seconds
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_LEARNT = {
    "device": str,
    "accelerated": bool,
    "memory_total": int,
    "memory_free": int,
    "torch": str,
    "python": str,
    "model": str,
    "loaded": bool,
}


class ServerState:
    """Facts about one server, as far as they are known; the worker tells most of them."""

    def __init__(self, folder: Path, log: Path, idle_unload: float, remote: bool) -> None:
        offline = any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in OFFLINE_VARIABLES)
        self._info = ServerInfo(
            version=__version__,
            pid=os.getpid(),
            log=str(log),
            worker="stopped",
            remote=remote,
            device="",
            accelerated=False,
            memory_total=0,
            memory_free=0,
            torch="",
            python="",
            model="",
            loaded=False,
            idle_unload=idle_unload,
            offline=offline,
            home=str(folder),
        )

    def welcome(self, worker: str) -> Welcome:
        """The answer to Hello."""
        return Welcome(self._info.version, self._info.pid, self._info.log, worker, self._info.remote)

    def info(self, worker: str) -> ServerInfo:
        """The answer to AskServer."""
        return replace(self._info, worker=worker)

    def learn(self, facts: dict[str, Any]) -> None:
        """Takes what a worker says about itself; anything of another type is left out."""
        known = {name: value for name, value in facts.items() if type(value) is _LEARNT.get(name)}
        self._info = replace(self._info, **known)

    def configure(self, idle_unload: float) -> None:
        """Sets after how many idle seconds the model leaves memory; 0 for never.

        Raises:
            GenesisError: BAD_PARAMETER.
        """
        if not math.isfinite(idle_unload) or not 0 <= idle_unload <= MAX_IDLE:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, f"The idle time is {idle_unload} s.", f"Use 0 for never, or up to {MAX_IDLE:g} s."
            )
        self._info = replace(self._info, idle_unload=idle_unload)

    def unload_due(self, idle: float) -> bool:
        """Whether a loaded model has been idle for too long."""
        return self._info.loaded and 0 < self._info.idle_unload < idle

    def models(self) -> Models:
        """The answer to AskModels; looks at files only."""
        from huggingface_hub import constants  # 0.3 s that the start should not wait for

        from genesis_server.hub.download import status

        folder = Path(constants.HF_HUB_CACHE)
        while not folder.exists():
            folder = folder.parent
        found = tuple(ModelInfo(item.id, item.state, item.missing_bytes, len(item.missing), item.gated) for item in status())
        return Models(found, shutil.disk_usage(folder).free)
