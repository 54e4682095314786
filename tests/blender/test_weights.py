# SPDX-License-Identifier: Apache-2.0
"""Weights are downloaded from the panel, from a Hub on this machine: stopped, continued, verified, refused offline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import pytest
from conftest import ROOT, Blender

from blender_addon.panels.card import weights_words
from blender_addon.questions import questions
from genesis_server.protocol.errors import ErrorCode, Remedy

WEIGHTS = bytes(range(256)) * 8192  # 2 MiB, two thirds of a second when slow
TRELLIS = "microsoft/TRELLIS.2-4B"


@pytest.fixture
def hub(blender: Blender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Starts a Hub with a small model in the published layout, and tells Blender's server of it."""
    models = {"models": {"shape_slat_decoder": "ckpts/dec"}, "image_cond_model": {"args": {"model_name": "image_encoder"}}}
    for name, data in {
        "pipeline.json": json.dumps({"args": models, "limits": "Only spheres."}).encode(),
        "ckpts/dec.json": b"{}",
        "ckpts/dec.safetensors": WEIGHTS,
        "image_encoder/config.json": b"{}",
        "image_encoder/model.safetensors": WEIGHTS[::-1],
    }.items():
        (tmp_path / "served" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "served" / name).write_bytes(data)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    blender.preferences.connection_file = str(tmp_path / "server.json")
    blender.preferences.model = "acme/tiny"
    bpy.context.preferences.system.use_online_access = True
    running: list[subprocess.Popen] = []

    def begin(mode: str) -> None:
        command = [sys.executable, str(ROOT / "tests/hub/fake_hub.py"), str(tmp_path / "served"), mode]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{int(running[0].stdout.readline())}")
        assert bpy.ops.genesis.start_server() == {"FINISHED"}
        blender.pump_until(lambda: questions.model() is not None, patience=60.0)

    yield begin
    if blender.session.connected:
        blender.session.stop()
        blender.pump_until(lambda: not blender.session.link.stopping, patience=30.0)
    for process in running:
        process.kill()
        process.wait(10)


def the_job(blender: Blender) -> object:
    (task,) = blender.session.tasks.values()
    return task


def test_a_download_is_stopped_and_goes_on_from_where_it_was(blender: Blender, hub, tmp_path: Path) -> None:
    hub("slow")
    assert questions.model().state == "absent"
    assert bpy.ops.genesis.download_weights() == {"FINISHED"}
    blender.pump_until(lambda: the_job(blender).fraction > 0.2, patience=60.0)
    assert "GB" in the_job(blender).words(True, False), "it says how much of it has come"
    assert bpy.ops.genesis.cancel() == {"FINISHED"}
    blender.pump_until(lambda: not blender.session.tasks, patience=60.0)
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.is_symlink())
    assert kept > 1 << 18, "what has come is kept"
    assert bpy.ops.genesis.download_weights() == {"FINISHED"}
    blender.pump_until(lambda: not blender.session.busy, patience=60.0)
    assert blender.session.error is None and the_job(blender).error is None
    questions.look_again()
    blender.pump_until(lambda: questions.model().state == "ready", patience=30.0)
    assert questions.model().limits == "Only spheres." and not bpy.data.objects


@pytest.mark.parametrize(("mode", "code"), [("corrupt", ErrorCode.BAD_MODEL), ("gated", ErrorCode.GATED_MODEL)])
def test_a_download_that_cannot_be_says_why_and_can_be_tried_again(blender: Blender, hub, mode: str, code: ErrorCode) -> None:
    hub(mode)
    assert bpy.ops.genesis.download_weights() == {"FINISHED"}
    blender.pump_until(lambda: the_job(blender).error is not None, patience=60.0)
    assert the_job(blender).error.code == code and the_job(blender).error.remedy
    assert questions.model().state != "ready"
    assert bpy.ops.genesis.retry() == {"FINISHED"}
    blender.pump_until(lambda: the_job(blender).error is not None, patience=60.0)


def test_the_size_is_said_before_and_blenders_word_on_the_network_counts(blender: Blender, hub) -> None:
    bpy.context.preferences.system.use_online_access = False
    hub("plain")
    words = weights_words(questions.models[TRELLIS], questions.free_bytes)
    assert "GB to download" in words and "GB free" in words
    assert 10e9 < questions.models[TRELLIS].missing_bytes < 30e9
    assert questions.server is not None and questions.server.offline, "the server may not use the network either"
    with pytest.raises(RuntimeError, match="network"):
        bpy.ops.genesis.download_weights()
    assert blender.session.error.action == Remedy.ALLOW_ONLINE
    assert bpy.ops.genesis.allow_online() == {"FINISHED"}
    questions.look_again()
    blender.pump_until(lambda: questions.server is not None and not questions.server.offline, patience=30.0)
    assert bpy.ops.genesis.download_weights() == {"FINISHED"}
    blender.pump_until(lambda: not blender.session.busy, patience=60.0)
    assert the_job(blender).error is None


def test_the_token_of_an_account_reaches_the_server_and_is_written_nowhere(blender: Blender, hub, tmp_path: Path) -> None:
    hub("gated")
    blender.preferences.token = "hf_a_secret_of_the_user"
    blender.pump_until(lambda: questions._network[1] == blender.preferences.token, patience=30.0)
    assert bpy.ops.genesis.download_weights() == {"FINISHED"}
    blender.pump_until(lambda: the_job(blender).error is not None, patience=60.0)
    assert "Hub Token" in the_job(blender).error.remedy
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_a_secret" in path.read_bytes()]
    assert not written, "neither in the log nor in the list of jobs"
    blender.preferences.token = ""
