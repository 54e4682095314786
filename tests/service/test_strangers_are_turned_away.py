# SPDX-License-Identifier: Apache-2.0
"""Random bytes, clients without the key, other versions, broken messages, stale files, taken ports: refused, never fatal."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from running_server import PATIENCE, Server

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.client import Client, _dealer
from genesis_server.protocol.codec import decode, encode
from genesis_server.protocol.connection import read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from genesis_server.protocol.launch import start_server
from genesis_server.protocol.messages import Hello, Ping

ANSWER_MS = 5000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("running"))
    yield server
    server.end()


@pytest.fixture
def dealer(running):
    with zmq.Context() as context, _dealer(context, read_connection(running.file)) as one:
        yield one


def still_serves(server: Server) -> bool:
    with Client(server.file) as client:
        return client.connect(PATIENCE).pid == server.launch.process.pid


def test_random_bytes_are_ignored(running) -> None:
    noise = random.Random(0)
    port = int(read_connection(running.file).address.rpartition(":")[2])
    for size in (1, 64, 4096, 200_000):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger, contextlib.suppress(OSError):
            stranger.sendall(noise.randbytes(size))  # may be hung up on already
    assert still_serves(running)


@pytest.mark.parametrize("mechanism", ["no key", "another key"])
def test_a_client_without_the_key_gets_no_answer(running, mechanism) -> None:
    connection = read_connection(running.file)
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        if mechanism == "another key":
            stranger.curve_serverkey = connection.server_key.encode()
            stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
        stranger.connect(connection.address)
        stranger.send_multipart(encode(Hello("stranger"), "1"))
        assert stranger.poll(700) == 0
    assert still_serves(running)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xff\xfe\x00"],
        [b"[]"],
        [b"{}" * 3],
        [b"[" * 100_000],
        [json.dumps({"v": PROTOCOL_VERSION, "kind": "sudo", "id": "1", "body": {}, "frames": []}).encode()],
        [json.dumps({"v": PROTOCOL_VERSION, "kind": "jobs", "id": "1", "body": {"jobs": []}, "frames": []}).encode()],
        [*encode(Ping(), "1"), b"one", b"two"],
        [b" " * 2_000_000],
    ],
    ids=["empty", "not text", "a list", "two objects", "deep", "unknown kind", "an answer", "extra frames", "too long"],
)
def test_a_broken_message_gets_an_error_and_the_next_is_answered(dealer, frames) -> None:
    dealer.send_multipart(frames)
    assert dealer.poll(ANSWER_MS)
    answer = decode(dealer.recv_multipart())[1]
    assert answer.to_error().code in (ErrorCode.BAD_MESSAGE, ErrorCode.VERSION_MISMATCH)
    dealer.send_multipart(encode(Ping(), "2"))
    assert dealer.poll(ANSWER_MS)
    assert decode(dealer.recv_multipart())[0] == "2"


def test_another_protocol_version_is_told_so_under_its_own_request_id(dealer) -> None:
    dealer.send(json.dumps({"v": 99, "kind": "greet", "id": "7", "news": True}).encode())
    assert dealer.poll(ANSWER_MS)
    request_id, answer = decode(dealer.recv_multipart())
    assert request_id == "7"
    assert answer.to_error().code == ErrorCode.VERSION_MISMATCH
    assert "99" in answer.to_error().message


def test_a_server_of_another_version_is_named_before_connecting(running, tmp_path) -> None:
    fields = json.loads(running.file.read_text("utf-8"))
    file = tmp_path / "server.json"
    file.write_text(json.dumps({**fields, "protocol": 99, "address": "ipc://new"}), "utf-8")
    with Client(file) as client, pytest.raises(GenesisError) as caught:
        client.connect()
    assert caught.value.code == ErrorCode.VERSION_MISMATCH


@pytest.mark.skipif(os.name == "nt", reason="the mode of a file means nothing there")
def test_only_the_user_can_read_the_connection_file(running) -> None:
    assert stat.S_IMODE(running.file.stat().st_mode) == 0o600


def test_a_stale_file_of_another_release_is_stale_first(running, tmp_path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(PATIENCE)
    file = tmp_path / "server.json"
    file.write_text(json.dumps({**json.loads(running.file.read_text("utf-8")), "protocol": 99, "pid": gone.pid}), "utf-8")
    with pytest.raises(GenesisError) as caught:
        read_connection(file)
    assert caught.value.code == ErrorCode.NOT_CONNECTED  # so that a new server may be started over it


def test_a_stale_connection_file_is_named_at_once_and_overwritten_by_the_next_server(start, tmp_path) -> None:
    first = start()
    key = read_connection(first.file).server_key
    first.kill()
    with Client(first.file) as client, pytest.raises(GenesisError) as caught:
        client.connect()
    assert caught.value.code == ErrorCode.NOT_CONNECTED
    assert caught.value.action == Remedy.START_SERVER
    assert "gone" in caught.value.message
    assert read_connection(start().file).server_key != key


@pytest.mark.parametrize("content", ["", "{}", "[1]", f'{{"protocol": {PROTOCOL_VERSION}, "pid": "x"}}', "\x00"])
def test_a_broken_connection_file_is_named(tmp_path, content) -> None:
    file = tmp_path / "server.json"
    file.write_text(content, "utf-8")
    with pytest.raises(GenesisError) as caught:
        read_connection(file)
    assert caught.value.code == ErrorCode.NOT_CONNECTED


def test_a_second_server_in_the_same_folder_gives_way_to_the_first(running) -> None:
    second = start_server(sys.executable, running.file)
    assert second.process.wait(PATIENCE) == 1
    assert second.ready()  # the first one will do
    assert "Another Genesis server" in running.file.with_suffix(".start.log").read_text("utf-8")
    assert still_serves(running)


def test_a_taken_port_is_named(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "genesis_server", "serve", "--port", port]
        environment = {**os.environ, "GENESIS_HOME": str(tmp_path)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    assert port in ended.stderr
    assert not (tmp_path / "server.json").exists()


def test_a_server_that_cannot_start_says_why(tmp_path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit('a module is missing')", "utf-8")
    launch = start_server(sys.executable, tmp_path / "server.json", arguments=(str(program),))
    with pytest.raises(GenesisError, match="a module is missing"):
        launch.wait(PATIENCE)
    with pytest.raises(GenesisError) as caught:
        start_server(Path("/nowhere/python"), tmp_path / "server.json")
    assert caught.value.code == ErrorCode.NOT_CONNECTED
