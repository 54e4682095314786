# SPDX-License-Identifier: Apache-2.0
"""The client beside a server that is silent, late, gone and back; a scripted ROUTER stands in where time has to be bent."""

from __future__ import annotations

import json
import os
import time

import pytest
import zmq

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol import client as client_module
from genesis_server.protocol.client import Client
from genesis_server.protocol.codec import decode, encode
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    Done,
    Failure,
    Jobs,
    ListJobs,
    Ping,
    Watch,
    Welcome,
)

WELCOME = Welcome("0", 1, "", "idle")


class Script:
    """A server that answers only when told to."""

    def __init__(self, context: zmq.Context, file) -> None:
        public, secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.curve_server, self.socket.curve_publickey, self.socket.curve_secretkey = True, public, secret
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        fields = {
            "protocol": PROTOCOL_VERSION,
            "address": f"tcp://127.0.0.1:{port}",
            "server_key": public.decode(),
            "client_public": client_public.decode(),
            "client_secret": client_secret.decode(),
            "pid": os.getpid(),
            "version": "0",
        }
        file.write_text(json.dumps(fields), "utf-8")

    def next(self):
        assert self.socket.poll(5000)
        peer, *frames = self.socket.recv_multipart()
        return peer, *decode(frames)

    def answer(self, peer, request_id, message) -> None:
        self.socket.send_multipart([peer, *encode(message, request_id)])

    def welcome(self):
        peer, request_id, _ = self.next()
        self.answer(peer, request_id, WELCOME)
        return peer


@pytest.fixture
def script(tmp_path):
    with zmq.Context() as context:
        one = Script(context, tmp_path / "server.json")
        yield one
        one.socket.close()


@pytest.fixture
def client(tmp_path):
    with Client(tmp_path / "server.json") as one:
        yield one


def poll_until(client: Client, wanted, seconds: float = 5.0) -> list:
    items, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        items += client.poll()
        if wanted(items):
            return items
        time.sleep(0.01)
    raise AssertionError(f"waited in vain, after {items}")


def test_without_a_server_poll_stays_calm_and_send_says_so(client) -> None:
    assert client.poll() == []
    assert not client.connected
    with pytest.raises(GenesisError) as caught:
        client.send(Ping())
    assert caught.value.code == ErrorCode.NOT_CONNECTED


def test_poll_connects_by_itself(script, client) -> None:
    client.poll()
    script.welcome()
    poll_until(client, lambda _: client.connected)
    assert client.server == WELCOME


def test_the_answer_to_a_request_that_was_given_up_is_dropped(script, client) -> None:
    client.poll()
    peer = script.welcome()
    poll_until(client, lambda _: client.connected)
    with pytest.raises(GenesisError) as caught:
        client.request(ListJobs(), timeout=0.2)
    assert caught.value.code == ErrorCode.NOT_CONNECTED
    _, late, _ = script.next()
    current = client.send(Ping())
    _, second, _ = script.next()
    script.answer(peer, late, Jobs(()))
    script.answer(peer, second, Done())
    items = poll_until(client, bool)
    assert [(item.request, item.message) for item in items] == [(current, Done())]


def test_poll_gives_up_a_request_after_its_time(script, client) -> None:
    client.poll()
    script.welcome()
    poll_until(client, lambda _: client.connected)
    request_id = client.send(ListJobs(), timeout=0.1)
    items = poll_until(client, bool)
    assert items[0].request == request_id
    assert isinstance(items[0].message, Failure)


def test_a_silent_server_is_pinged_dropped_and_found_again_with_what_was_watched(script, client, tmp_path, monkeypatch) -> None:
    for name in ("PING_AFTER", "PONG_WITHIN", "RECONNECT_EVERY"):
        monkeypatch.setattr(client_module, name, 0.1)
    client.poll()
    peer = script.welcome()
    poll_until(client, lambda _: client.connected)
    client.send(Watch(previews=True))
    _, watching, _ = script.next()
    script.answer(peer, watching, Jobs(()))
    open_request = client.send(ListJobs())
    items = poll_until(client, lambda _: not client.connected)
    assert [item.request for item in items if isinstance(item.message, Failure)] == [open_request]
    with zmq.Context() as context:
        second = Script(context, tmp_path / "server.json")
        poll_until(client, lambda _: second.socket.poll(0))
        peer = second.welcome()
        poll_until(client, lambda _: client.connected)
        _, again, message = second.next()
        assert message == Watch(previews=True)
        second.answer(peer, again, Jobs(()))
        assert any(isinstance(item.message, Jobs) for item in poll_until(client, bool))
        second.socket.close()
