# SPDX-License-Identifier: Apache-2.0
"""Progress, summary, failure and Ctrl-C of a run, with a stand-in for the pipeline that reports as the real one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

PATIENCE = 60.0  # seconds; starting Python on a busy machine takes a few

# a JobRunner that finishes stages in a real asset folder, and behaves as the picture is called
PROGRAM = textwrap.dedent(
    """
    import sys, time, types
    from pathlib import Path
    from PIL import Image
    from genesis_server.assets import Asset
    from genesis_server.cli import main
    from genesis_server.protocol.errors import ErrorCode, GenesisError
    from genesis_server.protocol.events import Event, EventKind
    from genesis_server.protocol.parameters import GenerateSettings

    class JobRunner:
        def run(self, request, on_event, cancelled):
            asset = Asset.create(request.asset, [Image.open(request.pictures[0])], GenerateSettings(), "mini")
            on_event(Event(EventKind.NOTE, "cutout", note="a note for the user"))
            for stage in ("structure", "mesh"):
                on_event(Event(EventKind.STAGE_STARTED, stage))
                with asset.replacing(stage, "key") as writer:
                    for step in range(1, 101 if "slow" in request.pictures[0] and stage == "mesh" else 3):
                        on_event(Event(EventKind.STEP, stage, 0, step, 100))
                        time.sleep(0.05)
                        if cancelled():
                            raise GenesisError(ErrorCode.CANCELLED, "Cancelled.", "Finished stages are kept.")
                    if "full" in request.pictures[0]:
                        raise OSError(28, "No space left on device")
                    if stage == "mesh":
                        writer.file("model.glb").write_bytes(b"0" * 2_000_000)
                        writer.statistics.update(faces=4321, texture_size=512)
                on_event(Event(EventKind.STAGE_FINISHED, stage, seconds=0.1))
            return asset

    sys.modules["genesis_server.service.jobs"] = types.SimpleNamespace(JobRunner=JobRunner)
    main(sys.argv[1:])
    """
)


def start(tmp_path: Path, behaviour: str, *arguments: str, **options) -> subprocess.Popen:
    picture = tmp_path / f"{behaviour}.png"
    Image.new("RGB", (16, 16)).save(picture)
    command = [sys.executable, "-c", PROGRAM, "generate", str(picture), "--out", str(tmp_path), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, **{"stdout": pipe, "stderr": pipe, "text": True, **options})


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_the_summary_says_where_the_result_is_and_what_it_contains(tmp_path) -> None:
    code, out, err = finish(start(tmp_path, "chair"))
    assert code == 0
    assert str(tmp_path / "chair.genesis" / "model.glb") in out
    for said in ("4321 faces", "2.0 MB", "512 x 512", "structure", "glTF"):
        assert said in out
    assert "a note for the user" in err
    assert "\x1b" not in out + err


def test_json_is_the_only_thing_on_standard_output(tmp_path) -> None:
    code, out, err = finish(start(tmp_path, "chair", "--json"))
    assert code == 0
    assert (json.loads(out)["faces"], json.loads(out)["asset"]) == (4321, str(tmp_path / "chair.genesis"))
    assert err == ""


def test_a_failure_is_one_sentence_and_a_remedy(tmp_path) -> None:
    code, out, err = finish(start(tmp_path, "full"))
    assert code == 1
    assert out == ""
    assert "disk" in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to another process there")
def test_ctrl_c_stops_between_steps_and_keeps_finished_stages(tmp_path) -> None:
    process = start(tmp_path, "slow", "--json")
    record = tmp_path / "slow.genesis" / "asset.json"
    deadline = time.monotonic() + PATIENCE
    while not (record.exists() and "structure" in json.loads(record.read_text("utf-8"))["stages"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # into the steps of the next stage
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, out, _ = finish(process)
    assert code == 130
    assert json.loads(out)["error"]["code"] == "cancelled"
    assert time.monotonic() - began < 2.0  # a step of 50 ms and the end of the process; the whole stage takes 5 s
    assert "structure" in json.loads(record.read_text("utf-8"))["stages"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_per_stage_with_steps(tmp_path) -> None:
    import pty

    master, slave = pty.openpty()
    process = start(tmp_path, "chair", stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    process.communicate(timeout=PATIENCE)
    text = shown.decode()
    for said in ("structure", "mesh", "2/100", "a note for the user"):
        assert said in text
