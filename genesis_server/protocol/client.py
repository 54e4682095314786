# SPDX-License-Identifier: Apache-2.0
"""The client's end of the wire: a DEALER socket under CURVE that never blocks a user interface.

`send` and `poll` return at once and suit a timer; `request` waits and suits a script. After a loss of the server the next
`poll` opens a new socket from the connection file as it is then, so that a restarted server is found by itself.
Needs pyzmq and the standard library only (docs/spec/platform.md 5, ZeroMQ).
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import zmq

from genesis_server.protocol.codec import decode, encode
from genesis_server.protocol.connection import REMOTE, Connection, default_connection_file, read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.protocol.messages import (
    MAX_FRAME,
    Answer,
    CutOut,
    Estimate,
    Failure,
    Hello,
    JobEvent,
    Message,
    Ping,
    Preview,
    Request,
    Unwatch,
    Watch,
    Welcome,
)

REQUEST_TIMEOUT = 5.0  # seconds; the server answers in milliseconds
WORKER_TIMEOUT = 90.0  # for what a worker answers, which may have to start first
_ASKS_WORKER = (CutOut, Estimate)
PING_AFTER = 1.0  # seconds of silence before the client asks whether the server is there
SPEAK_EVERY = 5.0  # seconds after which it also says that it is here itself, however much it hears
PONG_WITHIN = 5.0  # seconds; longer than a busy machine ever delays the supervisor
RECONNECT_EVERY = 1.0  # seconds between looks at the connection file while there is no server
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 1000, 3000


@dataclass(frozen=True)
class Received:
    """What `Client.poll` gives: an answer with the id of its request; an event or a preview with an empty id."""

    request: str
    message: Answer | JobEvent | Preview


class Client:
    """One connection to the server of a connection file; use it from one thread.

    Attributes:
        server: what the server said in its Welcome; None while there is no connection.
    """

    def __init__(self, connection_file: Path | None = None, name: str = "genesis") -> None:
        """Opens nothing yet: the first `poll`, `request` or `connect` does."""
        self.server: Welcome | None = None
        self._file = Path(connection_file) if connection_file is not None else default_connection_file()
        self._name = name
        self._context = zmq.Context()
        self._socket: zmq.Socket | None = None
        self._pending: dict[str, float] = {}  # request id -> time at which it is given up
        self._own: set[str] = set()  # pending requests of the client itself: pings, hello, watching again
        self._queue: deque[Received] = deque()
        self._watched: dict[str, Watch] = {}
        self._far = ""  # address of a server on another machine
        self._heard = self._spoke = self._tried = 0.0

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed this client and has not been lost since."""
        return self.server is not None

    def connect(self, timeout: float = REQUEST_TIMEOUT) -> Welcome:
        """Waits until the server has welcomed this client.

        Raises:
            GenesisError: NOT_CONNECTED, VERSION_MISMATCH.
        """
        if self._socket is None:
            self._open()
        deadline = time.monotonic() + timeout
        while self.server is None:
            self._receive(min(0.1, max(0.0, deadline - time.monotonic())))
            for item in [item for item in self._queue if isinstance(item.message, Failure) and not item.request]:
                self._queue.remove(item)
                self.close_socket()
                raise item.message.to_error()
            if self.server is None and time.monotonic() > deadline:
                self.close_socket()
                raise _no_answer(self._far)
        return self.server

    def send(self, message: Request, timeout: float | None = None) -> str:
        """Sends a request without waiting; its answer comes from `poll` under the returned id, a Failure after `timeout`.

        Raises:
            GenesisError: NOT_CONNECTED where no server can be reached.
        """
        if self._socket is None:
            self._open()
        request_id = self._send(message, _patience(message) if timeout is None else timeout)
        if isinstance(message, Watch):
            self._watched[message.job] = message
        elif isinstance(message, Unwatch):
            self._watched.pop(message.job, None)
        return request_id

    def poll(self) -> list[Received]:
        """Everything that has arrived, without waiting; keeps the connection alive and opens it again after a loss."""
        now = time.monotonic()
        if self._socket is None:
            if now - self._tried >= RECONNECT_EVERY:
                try:
                    self._open()
                except GenesisError as error:
                    if error.code != ErrorCode.NOT_CONNECTED:
                        self._queue.append(Received("", Failure(error.to_json())))
        else:
            self._receive(0.0)
            self._look_after(now)
        items, self._queue = list(self._queue), deque()
        return items

    def request(self, message: Request, timeout: float | None = None) -> Answer:
        """Sends a request and waits for its answer; events that arrive meanwhile are kept for `poll`.

        Raises:
            GenesisError: what the server refused it with, or NOT_CONNECTED.
        """
        timeout = _patience(message) if timeout is None else timeout
        if self.server is None:
            self.connect(timeout)
        request_id, deadline = self.send(message, timeout), time.monotonic() + timeout
        while True:
            for item in self._queue:
                if item.request == request_id:
                    self._queue.remove(item)
                    if isinstance(item.message, Failure):
                        raise item.message.to_error()
                    return item.message
            if time.monotonic() > deadline:
                self._pending.pop(request_id, None)
                raise _no_answer(self._far)
            self._receive(min(0.1, max(0.0, deadline - time.monotonic())))

    def wait(self, timeout: float) -> list[Received]:
        """As `poll`, but waits up to `timeout` seconds for something to arrive; for scripts, not for a user interface."""
        deadline = time.monotonic() + timeout
        while not (items := self.poll()) and time.monotonic() < deadline:
            if self._socket is None:
                time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
            else:
                self._receive(min(0.1, max(0.0, deadline - time.monotonic())))
        return items

    def close(self) -> None:
        """Ends the connection; jobs on the server go on."""
        self.close_socket()
        self._context.term()

    def close_socket(self) -> None:
        """Drops the connection and fails every open request; the next `poll` begins a new one."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self.server = None
        for request_id in [pending for pending in self._pending if pending not in self._own]:
            self._queue.append(Received(request_id, Failure(_lost().to_json())))
        self._pending.clear()
        self._own.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self._tried = time.monotonic()
        connection = read_connection(self._file)
        self._far = connection.address if connection.pid == REMOTE else ""
        self._socket = _dealer(self._context, connection)
        self._heard = time.monotonic()
        self._own.add(self._send(Hello(self._name), REQUEST_TIMEOUT))

    def _send(self, message: Request, timeout: float) -> str:
        request_id = uuid.uuid4().hex
        try:
            self._socket.send_multipart(encode(message, request_id), zmq.NOBLOCK)
        except zmq.Again:
            self.close_socket()
            raise _lost() from None
        self._spoke = time.monotonic()
        self._pending[request_id] = self._spoke + timeout
        return request_id

    def _receive(self, timeout: float) -> None:
        """Queues what has arrived, waiting up to `timeout` seconds for the first message."""
        while self._socket is not None and self._socket.poll(round(timeout * 1000)):
            timeout = 0.0
            frames = self._socket.recv_multipart()
            self._heard = time.monotonic()
            try:
                request_id, message = decode(frames)
            except GenesisError as error:
                self._queue.append(Received("", Failure(error.to_json())))
                continue
            self._take(request_id, message)

    def _take(self, request_id: str, message: Message) -> None:
        if isinstance(message, (JobEvent, Preview)):
            self._queue.append(Received("", message))
        elif self._pending.pop(request_id, None) is None:
            pass  # the answer to a request that was given up
        elif request_id not in self._own:
            self._queue.append(Received(request_id, message))
        else:
            self._own.discard(request_id)
            if isinstance(message, Welcome):
                self.server = message
                for watch in self._watched.values():
                    self._send(watch, REQUEST_TIMEOUT)  # its answer reaches `poll`: the jobs as they are now
            elif isinstance(message, Failure):
                self._queue.append(Received("", message))

    def _look_after(self, now: float) -> None:
        """Gives up late requests, pings a silent server and drops one that does not answer."""
        if self._socket is None:
            return
        for request_id, deadline in list(self._pending.items()):
            if now > deadline and request_id in self._own:
                self.close_socket()
                return
            if now > deadline:
                del self._pending[request_id]
                self._queue.append(Received(request_id, Failure(_no_answer(self._far).to_json())))
        if (now - self._heard > PING_AFTER or now - self._spoke > SPEAK_EVERY) and not self._own:
            self._own.add(self._send(Ping(), PONG_WITHIN))


def _patience(message: Request) -> float:
    return WORKER_TIMEOUT if isinstance(message, _ASKS_WORKER) else REQUEST_TIMEOUT


def _dealer(context: zmq.Context, connection: Connection) -> zmq.Socket:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.maxmsgsize = MAX_FRAME
    socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS
    socket.curve_serverkey = connection.server_key.encode("ascii")
    socket.curve_publickey = connection.client_public.encode("ascii")
    socket.curve_secretkey = connection.client_secret.encode("ascii")
    socket.connect(connection.address)
    return socket


def _lost() -> GenesisError:
    return GenesisError(
        ErrorCode.NOT_CONNECTED, "The connection to the Genesis server was lost.", "Start it again.", Remedy.START_SERVER
    )


def _no_answer(far: str) -> GenesisError:
    if far:  # a server that does not know the key is silent too
        return GenesisError(
            ErrorCode.NOT_CONNECTED,
            f"The Genesis server at {far} does not answer.",
            "See that it runs, that the network lets you reach it, and that the key file is the one that it has written.",
        )
    return GenesisError(
        ErrorCode.NOT_CONNECTED,
        "The Genesis server did not answer in time.",
        "Stop it and start it again.",
        Remedy.START_SERVER,
    )
