# SPDX-License-Identifier: Apache-2.0
"""Questions of clients that only a worker can answer: kept until there is one, and until it has spoken."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import CutOut, Estimate, Failure
from genesis_server.service.endpoint import Endpoint
from genesis_server.service.lane import Lane

MAX_WAITING = 64  # beyond, clients ask too much


@dataclass
class _Question:
    peer: bytes
    request_id: str
    request: CutOut | Estimate
    asked: bool = False


class Questions:
    """All that are open, in the order they came."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._open: dict[str, _Question] = {}

    def add(self, peer: bytes, request_id: str, request: CutOut | Estimate) -> None:
        """Takes one up.

        Raises:
            GenesisError: INTERNAL where too many wait.
        """
        if len(self._open) >= MAX_WAITING:
            raise GenesisError(ErrorCode.INTERNAL, f"{MAX_WAITING} questions are waiting.", "Ask again in a moment.")
        self._open[secrets.token_hex(6)] = _Question(peer, request_id, request)

    def ask(self, lane: Lane) -> None:
        """Puts those that wait to the worker, if it listens."""
        if lane.worker is None or not lane.worker.ready:
            return
        for word, question in self._open.items():
            if not question.asked:
                question.asked = True
                lane.ask(word, question.request_id, question.request)

    def answered(self, word: str, frames: list[bytes]) -> None:
        """Sends a worker's answer on."""
        self._endpoint.forward(self._open.pop(word).peer, frames)

    def refuse(self, error: GenesisError, asked_only: bool) -> None:
        """The worker is gone: no answer to what it had been asked, or, where there will be no other, to anything."""
        for word, question in list(self._open.items()):
            if question.asked or not asked_only:
                del self._open[word]
                self._endpoint.answer(question.peer, question.request_id, Failure(error.to_json()))
