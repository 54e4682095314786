# SPDX-License-Identifier: Apache-2.0
"""The server's end of the wire: a ROUTER socket on loopback under CURVE that lets in only the key of the connection file.

Whoever has no key, or speaks something else than ZeroMQ, is turned away by libzmq before any of our code sees a byte.
"""

from __future__ import annotations

import logging

import zmq
from zmq.auth.thread import ThreadAuthenticator

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import MAX_FRAME, Answer, JobEvent, encode
from genesis_server.service.connection import Keys
from genesis_server.service.log import log

HOST = "tcp://127.0.0.1"
MAX_WAITING = 10_000  # messages kept for one slow client; beyond them events are lost and the sequence shows a gap
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000


class _OneKey:
    """Lets in clients that prove to hold the key of the connection file."""

    def __init__(self, public_key: str) -> None:
        self._public_key = public_key.encode("ascii")

    def callback(self, domain: str, key: bytes) -> bool:
        if key != self._public_key:
            log(logging.WARNING, "A client without the key was turned away.")
        return key == self._public_key


class Endpoint:
    """Receives requests, sends answers and events; used from one thread."""

    def __init__(self, context: zmq.Context, keys: Keys, port: int = 0) -> None:
        """Binds to `port`, or to a free one for 0.

        Raises:
            GenesisError: PORT_TAKEN.
        """
        self._watchers: dict[str, set[bytes]] = {}
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", _OneKey(keys.client_public))
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.maxmsgsize = MAX_FRAME
        self.socket.sndhwm = MAX_WAITING
        self.socket.router_mandatory = True
        self.socket.heartbeat_ivl, self.socket.heartbeat_timeout = HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS
        self.socket.curve_server = True
        self.socket.curve_publickey = keys.server_public.encode("ascii")
        self.socket.curve_secretkey = keys.server_secret.encode("ascii")
        try:
            if port:
                self.socket.bind(f"{HOST}:{port}")
            else:
                port = self.socket.bind_to_random_port(HOST)
        except zmq.ZMQError as error:
            self.close()
            raise GenesisError(
                ErrorCode.PORT_TAKEN,
                f"Port {port} cannot be used: {error.strerror}.",
                "Leave out --port, and a free one is taken.",
            ) from error
        self.address = f"{HOST}:{port}"

    def receive(self) -> list[tuple[bytes, list[bytes]]]:
        """The waiting messages, each with its sender; does not wait."""
        received = []
        while self.socket.poll(0):
            peer, *frames = self.socket.recv_multipart()
            received.append((peer, frames))
        return received

    def answer(self, peer: bytes, request_id: str, message: Answer) -> None:
        """Sends an answer; a client that has gone does not get it."""
        self._send(peer, encode(message, request_id))

    def watch(self, peer: bytes, job: str) -> None:
        """From now on the client gets the events of a job, of all jobs for an empty id."""
        self._watchers.setdefault(job, set()).add(peer)

    def unwatch(self, peer: bytes, job: str) -> None:
        """Ends a `watch`."""
        self._watchers.get(job, set()).discard(peer)

    def publish(self, event: JobEvent) -> None:
        """Sends an event to everyone who watches its job."""
        frames = encode(event)
        for peer in self._watchers.get("", set()) | self._watchers.get(event.job.id, set()):
            if not self._send(peer, frames):
                for watchers in self._watchers.values():
                    watchers.discard(peer)

    def close(self) -> None:
        """Gives what was sent a moment to leave, then closes."""
        self.socket.close(linger=500)
        self._authenticator.stop()

    def _send(self, peer: bytes, frames: list[bytes]) -> bool:
        """Whether the client is still there."""
        try:
            self.socket.send_multipart([peer, *frames], zmq.NOBLOCK)
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True
