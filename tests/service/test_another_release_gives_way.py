# SPDX-License-Identifier: Apache-2.0
"""A server of another release is named, and ends when it is asked to, so that the one of this release can take its place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_server import PATIENCE

from genesis_server.protocol.connection import read_connection
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.launch import stop_other_release

NEWER = Path(__file__).resolve().parent / "serve_newer.py"


def test_a_server_of_another_release_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    process = subprocess.Popen([sys.executable, str(NEWER), str(file)], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        with pytest.raises(GenesisError) as caught:
            read_connection(file)
        assert caught.value.code == ErrorCode.VERSION_MISMATCH
        stop_other_release(file)
        assert process.wait(PATIENCE) == 0 and not file.exists()
    finally:
        process.kill()


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"protocol": 9, "address": "nowhere", "server_key": "x" * 40})])
def test_one_that_cannot_be_asked_is_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "server.json"
    file.write_text(content)
    stop_other_release(file)
    assert file.read_text() == content
