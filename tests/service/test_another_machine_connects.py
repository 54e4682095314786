# SPDX-License-Identifier: Apache-2.0
"""A server that is open to other machines, which have its key file and nothing else: files go there and results come back."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest
import zmq
from running_server import PATIENCE, Server

from genesis_server.protocol import transfer
from genesis_server.protocol.client import Client, _dealer
from genesis_server.protocol.codec import encode
from genesis_server.protocol.connection import REMOTE, read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import Fetch, Hello, JobState, Status, Submit, Upload
from genesis_server.service.access import parse_bind


class OpenServer(Server):
    """A server as `genesis serve --bind 127.0.0.1:PORT --key-file FILE`, with the fake worker."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.key_file = folder / "away" / "key.json"
        self.key_file.parent.mkdir(exist_ok=True)
        super().__init__(folder, "--bind", f"127.0.0.1:{port}", "--key-file", str(self.key_file))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = OpenServer(tmp_path_factory.mktemp("home"))
    yield one
    one.end()


@pytest.fixture
def away(server):
    with Client(server.key_file) as client:
        client.connect(PATIENCE)
        yield client


def over(client: Client, job: str):
    deadline = time.monotonic() + PATIENCE
    while not (info := client.request(Status(job)).jobs[0]).state.over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return info


def test_the_key_file_has_address_and_keys_but_not_the_servers_secret(server) -> None:
    connection = read_connection(server.key_file)
    assert connection.pid == REMOTE and connection.address.startswith("tcp://127.0.0.1:")
    kept = json.loads((server.folder / "keys.json").read_text("utf-8"))
    assert kept["server_secret"] not in server.key_file.read_text("utf-8")
    if os.name != "nt":
        for file in (server.key_file, server.folder / "keys.json"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_pictures_go_there_and_the_result_comes_back(server, away, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "PIECE", 7)  # many pieces
    assert away.server.remote
    picture = tmp_path / "quick.png"
    picture.write_bytes(bytes(range(100)))
    seen = []
    asset = tmp_path / "chair 1.genesis"
    request = transfer.send_files(
        server.key_file, Submit((str(picture),), str(asset)), lambda done, size: seen.append((done, size))
    )
    assert Path(request.pictures[0]).read_bytes() == picture.read_bytes()
    assert Path(request.pictures[0]).is_relative_to(server.folder) and request.asset == "chair 1"
    assert seen[-1] == (100, 100) and len(seen) == 15
    job = over(away, away.request(request).jobs[0].id)
    assert job.state == JobState.FINISHED
    there = Path(job.asset)
    (there / "model.glb").write_bytes(b"glTF" * 5000)
    (there / "asset.json").write_text("{}")
    model = transfer.fetch_results(server.key_file, job.id, asset)
    assert model.read_bytes() == b"glTF" * 5000 and (asset / "thumbnail.png").read_bytes() == b"a picture"
    assert not list(asset.glob(".*"))
    (there / "thumbnail.png").unlink()  # a bake whose picture failed is finished all the same
    assert transfer.fetch_results(server.key_file, job.id, tmp_path / "again").read_bytes() == b"glTF" * 5000
    assert not (tmp_path / "again" / "thumbnail.png").exists()


def test_on_this_machine_nothing_is_copied(start, tmp_path) -> None:
    server = start()
    request = Submit(("/a.png",), "/a.genesis")
    assert transfer.send_files(server.file, request) == request


@pytest.mark.parametrize(
    "piece",
    [
        Upload("token1234", "../a.png", 0, 3, b"abc"),
        Upload("../token", "a.png", 0, 3, b"abc"),
        Upload("token1234", "a.png", 5, 10, b"abc"),
        Upload("token1234", "a.png", 0, 2, b"abc"),
        Upload("token1234", "a.png", 0, 0, b""),
        Upload("token1234", "a.png", 0, 1 << 40, b"abc"),
    ],
    ids=str,
)
def test_an_upload_that_is_not_plain_is_refused(server, away, piece) -> None:
    with pytest.raises(GenesisError) as caught:
        away.request(piece)
    assert caught.value.code in (ErrorCode.BAD_MESSAGE, ErrorCode.BAD_PARAMETER)
    assert not list(server.folder.glob("*.png"))


def test_only_files_of_an_asset_can_be_fetched(server, away) -> None:
    job = away.request(transfer.send_files(server.key_file, picture_request(server))).jobs[0].id
    over(away, job)
    for name, code in (("../../jobs.sqlite", ErrorCode.BAD_PARAMETER), ("none.glb", ErrorCode.BAD_ASSET)):
        with pytest.raises(GenesisError) as caught:
            away.request(Fetch(job, name))
        assert caught.value.code == code
    with pytest.raises(GenesisError):
        away.request(Fetch("nothing", "model.glb"))


def picture_request(server) -> Submit:
    path = server.folder / "away" / "quick.png"
    path.write_bytes(b"not looked at")
    return Submit((str(path),), "cup")


def test_a_wrong_key_gets_no_answer(server) -> None:
    connection = read_connection(server.key_file)
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.curve_serverkey = connection.server_key.encode()
        stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
        stranger.connect(connection.address)
        stranger.send_multipart(encode(Hello("stranger"), "1"))
        assert stranger.poll(700) == 0


def test_the_key_file_stays_good_after_a_restart(tmp_path) -> None:
    first = OpenServer(tmp_path)
    key = read_connection(first.key_file)
    first.end()
    second = OpenServer(tmp_path)
    try:
        again = read_connection(second.key_file)
        assert (again.server_key, again.client_secret) == (key.server_key, key.client_secret)
        with zmq.Context() as context, _dealer(context, again) as dealer:
            dealer.send_multipart(encode(Hello("old key"), "1"))
            assert dealer.poll(5000)
    finally:
        second.end()


def test_a_server_that_is_not_there_does_not_answer_and_says_so(tmp_path, server) -> None:
    fields = json.loads(server.key_file.read_text("utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "key.json"
    file.write_text(json.dumps({**fields, "address": f"tcp://127.0.0.1:{port}"}), "utf-8")
    with Client(file) as client, pytest.raises(GenesisError) as caught:
        client.connect(0.5)
    assert caught.value.code == ErrorCode.NOT_CONNECTED
    assert str(port) in caught.value.message and "key file" in caught.value.remedy


@pytest.mark.parametrize("text", ["7788", "host:7788", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:99999", "1.2.3.4:x", ":7788"])
def test_an_address_that_is_none_is_named(text) -> None:
    with pytest.raises(GenesisError) as caught:
        parse_bind(text)
    assert caught.value.code == ErrorCode.BAD_PARAMETER and text in caught.value.message
    assert parse_bind("0.0.0.0:7788") == ("0.0.0.0", 7788)
