# SPDX-License-Identifier: Apache-2.0
"""Pictures from the clipboard of X11, from another program on a virtual display."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from blender_addon import x11_clipboard

OFFER = ROOT / "tests/gui/x11_offer.py"


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An X server of this test's own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-noreset", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        monkeypatch.setenv("DISPLAY", f":{int(told.readline())}")
    yield
    server.kill()
    server.wait(10)


@pytest.mark.parametrize("size", [300, 200_000], ids=["at once", "in pieces"])
def test_a_copied_picture_arrives_whole(display: None, tmp_path: Path, size: int) -> None:
    copied = tmp_path / "copied.png"
    copied.write_bytes(b"\x89PNG" + os.urandom(size))
    program = subprocess.Popen([sys.executable, str(OFFER), "clipboard", str(copied)])
    try:
        end, pasted = time.monotonic() + 30.0, None
        while pasted is None and time.monotonic() < end:
            pasted = x11_clipboard.picture()
        assert pasted == copied.read_bytes()
    finally:
        program.kill()
        program.wait(10)
    assert x11_clipboard.picture() is None, "nobody has copied anything"


def test_without_a_display_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert x11_clipboard.picture() is None
    monkeypatch.setenv("DISPLAY", ":9999")
    assert x11_clipboard.picture() is None
