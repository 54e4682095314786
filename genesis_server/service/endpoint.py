# SPDX-License-Identifier: Apache-2.0
"""The server's end of the wire: a ROUTER socket under CURVE that lets in only the key of the connection file.

Whoever has no key, or speaks something else than ZeroMQ, is turned away by libzmq before any of our code sees a byte.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import zmq
from zmq.auth.thread import ThreadAuthenticator

from genesis_server.protocol.codec import encode
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import MAX_FRAME, Answer, JobEvent
from genesis_server.service.connection import Keys
from genesis_server.service.log import log

LOOPBACK = "127.0.0.1"
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

    def __init__(self, context: zmq.Context, keys: Keys, port: int = 0, host: str = LOOPBACK) -> None:
        """Binds to `port` of the address `host`, or to a free port for 0.

        Raises:
            GenesisError: PORT_TAKEN.
        """
        self._watchers: dict[str, dict[bytes, bool]] = {}  # job -> client -> whether previews too
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
                self.socket.bind(f"tcp://{host}:{port}")
            else:
                port = self.socket.bind_to_random_port(f"tcp://{host}")
        except zmq.ZMQError as error:
            self.close()
            raise GenesisError(
                ErrorCode.PORT_TAKEN,
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                "Name another one, or an address of this machine.",
            ) from error
        self.port = port
        self.address = f"tcp://{host}:{port}"

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

    def forward(self, peer: bytes, frames: Sequence[bytes]) -> None:
        """Sends what has been encoded elsewhere."""
        self._send(peer, list(frames))

    def watch(self, peer: bytes, job: str, previews: bool) -> None:
        """From now on the client gets the events of a job, of all jobs for an empty id, and its previews if it wants them."""
        self._watchers.setdefault(job, {})[peer] = previews

    def unwatch(self, peer: bytes, job: str) -> None:
        """Ends a `watch`."""
        self._watchers.get(job, {}).pop(peer, None)

    def publish(self, event: JobEvent) -> None:
        """Sends an event to everyone who watches its job."""
        self._publish(event.job.id, encode(event), previews_only=False)

    def show(self, job: str, frames: Sequence[bytes]) -> None:
        """Sends a preview, encoded already, to everyone who watches its job with previews."""
        self._publish(job, list(frames), previews_only=True)

    def close(self) -> None:
        """Gives what was sent a moment to leave, then closes."""
        self.socket.close(linger=500)
        self._authenticator.stop()

    def _publish(self, job: str, frames: list[bytes], previews_only: bool) -> None:
        watchers: dict[bytes, bool] = {}
        for peer, previews in (*self._watchers.get("", {}).items(), *self._watchers.get(job, {}).items()):
            watchers[peer] = watchers.get(peer, False) or previews
        for peer, previews in watchers.items():
            if (previews or not previews_only) and not self._send(peer, frames):
                for known in self._watchers.values():
                    known.pop(peer, None)

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
