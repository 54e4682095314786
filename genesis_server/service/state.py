# SPDX-License-Identifier: Apache-2.0
"""What the server knows about itself: versions, device, model, weights on the disk."""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from genesis_server import __version__
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.launch import OFFLINE_VARIABLE
from genesis_server.protocol.messages import ModelInfo, Models, ServerInfo, Welcome

MAX_IDLE = 7 * 24 * 3600.0  # seconds
# set by the user or an administrator, they hold; a client may change what another client has asked for (launch.py)
HUB_OFFLINE = "HF_HUB_OFFLINE"
OFFLINE_VARIABLES = (HUB_OFFLINE, "TRANSFORMERS_OFFLINE")
TOKEN_VARIABLE = "HF_TOKEN"
_TOKEN = re.compile(r"[!-~]{8,200}")
_YES = ("1", "TRUE", "YES", "ON")
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
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        self._forbidden = any(os.environ.get(name, "").upper() in _YES for name in OFFLINE_VARIABLES)
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
            offline=self._forbidden,
            home=str(folder),
        )
        if os.environ.get(OFFLINE_VARIABLE):
            self._set_offline(True)

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

    def configure(self, idle_unload: float, offline: bool | None = None, token: str | None = None) -> None:
        """Sets after how many idle seconds the model leaves memory (0 for never), and how downloads are to go.

        Raises:
            GenesisError: BAD_PARAMETER.
        """
        if not math.isfinite(idle_unload) or not 0 <= idle_unload <= MAX_IDLE:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, f"The idle time is {idle_unload} s.", f"Use 0 for never, or up to {MAX_IDLE:g} s."
            )
        if token and not _TOKEN.fullmatch(token):
            raise GenesisError(
                ErrorCode.BAD_PARAMETER, "The token is none of the Hub's.", "Copy it again from its settings page."
            )
        self._info = replace(self._info, idle_unload=idle_unload)
        if token is not None:
            self._set_token(token)
        if offline is not None:
            self._set_offline(offline)

    def _set_offline(self, offline: bool) -> None:
        """For the workers that start from now on: they inherit the variable that the Hub's library heeds."""
        if self._forbidden:
            return
        if offline:
            os.environ[HUB_OFFLINE] = "1"
        else:
            os.environ.pop(HUB_OFFLINE, None)
        self._info = replace(self._info, offline=offline)

    def _set_token(self, token: str) -> None:
        """As above; without one of this client's, the account of the machine counts again."""
        if token:
            os.environ[TOKEN_VARIABLE] = token
        elif self._token:
            os.environ[TOKEN_VARIABLE] = self._token
        else:
            os.environ.pop(TOKEN_VARIABLE, None)

    def unload_due(self, idle: float) -> bool:
        """Whether a loaded model has been idle for too long."""
        return self._info.loaded and 0 < self._info.idle_unload < idle

    def models(self, wanted: str = "") -> Models:
        """The answer to AskModels; looks at files only."""
        from huggingface_hub import constants  # 0.3 s that the start should not wait for

        from genesis_server.hub.catalog import CATALOG, MINI
        from genesis_server.hub.describe import describe
        from genesis_server.hub.download import ModelStatus, status

        def told(item: ModelStatus) -> ModelInfo:
            said = describe(item.id)
            return ModelInfo(item.id, item.state, item.missing_bytes, len(item.missing), item.gated, said.limits, said.defaults)

        folder = Path(constants.HF_HUB_CACHE)
        while not folder.exists():
            folder = folder.parent
        names = dict.fromkeys((MINI, *CATALOG))
        try:
            found = status(tuple(dict.fromkeys((*names, wanted or MINI))))
        except GenesisError:  # it names none: nothing is said of it
            found = status(tuple(names))
        return Models(tuple(map(told, found)), shutil.disk_usage(folder).free)
