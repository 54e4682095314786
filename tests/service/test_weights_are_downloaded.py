# SPDX-License-Identifier: Apache-2.0
"""A download is a job: with progress in bytes, beside generations, cancelled at once, continued, refused offline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_server import PATIENCE, Server

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import AskServer, Cancel, Configure, Download, JobEvent, JobState, Retry, Watch

HUB = Path(__file__).resolve().parents[1] / "hub" / "fake_hub.py"
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB, two thirds of a second when slow


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A small model in the published layout."""
    folder = tmp_path / "served"
    models = {"models": {"shape_slat_decoder": "ckpts/dec"}, "image_cond_model": {"args": {"model_name": "image_encoder"}}}
    for name, data in {
        "pipeline.json": json.dumps({"args": models}).encode(),
        "ckpts/dec.json": b"{}",
        "ckpts/dec.safetensors": WEIGHTS,
        "image_encoder/config.json": b"{}",
        "image_encoder/model.safetensors": WEIGHTS[::-1],
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@contextmanager
def hub(folder: Path, mode: str) -> Iterator[str]:
    command = [sys.executable, str(HUB), str(folder), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.fixture
def serve(start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Server]:
    """Starts a server that gets its weights from an address."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))

    def start_with(address: str) -> Server:
        monkeypatch.setenv("HF_ENDPOINT", address)
        server = start()
        server.client.request(Watch())
        return server

    return start_with


def parts(folder: Path) -> list[Path]:
    return list((folder / "cache").rglob("*.part"))


def test_progress_is_in_bytes_and_a_generation_runs_meanwhile(serve, served, tmp_path) -> None:
    with hub(served, "slow") as address:
        server = serve(address)
        job = server.client.request(Download("acme/tiny")).jobs[0]
        assert (job.kind, job.model, job.position) == ("download", "acme/tiny", 1)
        server.events_until(lambda event: event.job.id == job.id and event.kind == "step")
        made = server.submit("quick")
        events = server.events_until(lambda event: event.job.id == job.id and event.job.state.over, PATIENCE)
    over = [event.job.id for event in events if event.job.state == JobState.FINISHED]
    assert over == [made.id, job.id], events[-1].job.error
    steps = [event.job for event in events if event.job.id == job.id and event.kind == "step"]
    assert all(step.stage == "download" and " GB: acme/tiny/" in step.message for step in steps)
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    assert any(step.eta > 0 for step in steps)
    assert not parts(tmp_path)


def test_a_cancelled_download_keeps_what_has_come_and_goes_on_from_there(serve, served, tmp_path) -> None:
    with hub(served, "slow") as address:
        server = serve(address)
        job = server.client.request(Download("acme/tiny")).jobs[0]
        server.events_until(lambda event: event.kind == "step" and event.job.fraction > 0.2)
        server.client.request(Cancel(job.id))
        assert server.until_over(job)[-1].job.state == JobState.CANCELLED
        assert sum(part.stat().st_size for part in parts(tmp_path)) > 0 or list((tmp_path / "cache").rglob("*.safetensors"))
        server.client.request(Retry(job.id))
        again = server.until_over(job)
        assert again[-1].job.state == JobState.FINISHED, again[-1].job.error
        assert "worker" not in again[-1].job.message


@pytest.mark.parametrize(
    ("mode", "code"), [("gated", ErrorCode.GATED_MODEL), ("corrupt", ErrorCode.BAD_MODEL)], ids=["gated", "corrupt"]
)
def test_a_download_that_cannot_be_says_why(serve, served, mode, code) -> None:
    with hub(served, mode) as address:
        server = serve(address)
        failed = server.until_over(server.client.request(Download("acme/tiny")).jobs[0])[-1].job
    assert (failed.state, failed.error["code"]) == (JobState.FAILED, code)


def test_no_network_and_no_permission_to_use_it(serve, monkeypatch) -> None:
    server = serve("http://127.0.0.1:9")
    failed = server.until_over(server.client.request(Download("acme/tiny")).jobs[0])[-1].job
    assert failed.error["code"] == ErrorCode.OFFLINE
    assert not server.client.request(AskServer()).offline
    with pytest.raises(GenesisError) as caught:
        server.client.request(Download("no such model"))
    assert caught.value.code == ErrorCode.MODEL_MISSING


def test_a_client_may_allow_downloads_that_another_has_forbidden_and_name_an_account(serve, served, monkeypatch) -> None:
    monkeypatch.setenv("GENESIS_OFFLINE", "1")
    with hub(served, "plain") as address:
        server = serve(address)
        assert server.client.request(AskServer()).offline
        refused = server.until_over(server.client.request(Download("acme/tiny")).jobs[0])[-1].job
        assert refused.error["code"] == ErrorCode.OFFLINE
        assert not server.client.request(Configure(0.0, offline=False, token="hf_abcdefgh")).offline
        server.client.request(Retry(refused.id))
        assert server.until_over(refused)[-1].job.state == JobState.FINISHED
    with pytest.raises(GenesisError) as caught:
        server.client.request(Configure(0.0, token="two words"))
    assert caught.value.code == ErrorCode.BAD_PARAMETER and "two words" not in str(caught.value)


def test_an_offline_server_says_so(start, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server = start()
    server.client.request(Watch())
    assert server.client.request(AskServer()).offline
    events = server.until_over(server.client.request(Download("acme/tiny")).jobs[0])
    assert isinstance(events[-1], JobEvent) and events[-1].job.error["code"] == ErrorCode.OFFLINE
