# SPDX-License-Identifier: Apache-2.0
"""Models come from a Hub whole, verified, resumed, or with an error that says what to do. Each case is a fresh process."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB

CALL = """
import json, sys
from genesis_server.hub import download as hub, fetch
from genesis_server.protocol.errors import GenesisError
fetch.WAIT = 0.01
try:
    result = getattr(hub, sys.argv[1])(*json.loads(sys.argv[2]))
    print(json.dumps({"result": result if isinstance(result, list) else str(result)}, default=str))
except GenesisError as error:
    print(json.dumps(error.to_json()))
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    config = {
        "args": {
            "models": {"shape_slat_decoder": "ckpts/dec"},
            "image_cond_model": {"args": {"model_name": "image_encoder"}},
        }
    }
    for name, data in {
        "pipeline.json": json.dumps(config).encode(),
        "ckpts/dec.json": b"{}",
        "ckpts/dec.safetensors": WEIGHTS,
        "image_encoder/config.json": b"{}",
        "image_encoder/model.safetensors": WEIGHTS[::-1],
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@contextmanager
def hub(folder: Path, mode: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """A running Hub: its address, and a function that stops it and returns what it was asked."""
    command = [sys.executable, str(HERE / "fake_hub.py"), str(folder), mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def requests() -> str:
        process.kill()
        return process.communicate(timeout=10)[0]

    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", requests
    finally:
        process.kill()
        process.communicate(timeout=10)


def call(tmp_path: Path, endpoint: str, function: str, *arguments: object, **environment: str) -> dict:
    settings = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        **environment,
    }
    command = [sys.executable, "-c", CALL, function, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_is_downloaded_once_and_found_offline(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "plain") as (endpoint, requests):
        folder = call(tmp_path, endpoint, "download", "acme/tiny")["result"]
        asked = requests()
    assert (Path(folder) / "ckpts/dec.safetensors").read_bytes() == WEIGHTS
    assert asked.count("GET /acme/tiny/resolve/main/ckpts/dec.safetensors") == 1
    again = call(tmp_path, endpoint, "download", "acme/tiny", HF_HUB_OFFLINE="1")
    assert again == {"result": folder}  # nothing is listening any more
    assert str(tmp_path / "home") in folder


def test_a_single_network_is_downloaded_without_the_rest(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "plain") as (endpoint, requests):
        stem = call(tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")["result"]
        asked = requests()
    assert Path(f"{stem}.safetensors").read_bytes() == WEIGHTS and Path(f"{stem}.json").is_file()
    assert "image_encoder" not in asked


def test_an_interrupted_download_continues_where_it_stopped(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "broken") as (endpoint, requests):
        folder = call(tmp_path, endpoint, "download", "acme/tiny")["result"]
        asked = requests()
    assert (Path(folder) / "ckpts/dec.safetensors").read_bytes() == WEIGHTS
    assert f"GET /acme/tiny/resolve/main/ckpts/dec.safetensors bytes={len(WEIGHTS) // 2}-" in asked


def test_a_download_whose_process_ended_continues_in_the_next(repository: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "home" / "hub" / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.part").write_bytes(WEIGHTS[:1000])
    with hub(repository, "plain") as (endpoint, requests):
        folder = call(tmp_path, endpoint, "download", "acme/tiny")["result"]
        asked = requests()
    assert (Path(folder) / "ckpts/dec.safetensors").read_bytes() == WEIGHTS
    assert "GET /acme/tiny/resolve/main/ckpts/dec.safetensors bytes=1000-" in asked
    assert not list(blobs.glob("*.part"))


def test_a_connection_that_breaks_again_and_again_gets_there(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "flaky") as (endpoint, requests):  # more often than a try is repeated that brings nothing
        folder = call(tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")["result"]
        asked = requests()
    assert Path(f"{folder}.safetensors").read_bytes() == WEIGHTS
    assert asked.count("GET /acme/tiny/resolve/main/ckpts/dec.safetensors") > 7


def test_an_address_that_has_expired_is_asked_for_again(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "moved") as (endpoint, requests):
        stem = call(tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")["result"]
        asked = requests()
    assert Path(f"{stem}.safetensors").read_bytes() == WEIGHTS
    assert "GET /storage/0/" in asked and asked.count("GET /acme/tiny/resolve/main/ckpts/dec.safetensors") == 1


@pytest.mark.parametrize("damage", ["cut short", "other bytes"])
def test_a_damaged_file_that_was_deleted_is_not_taken_from_behind_its_link(
    repository: Path, tmp_path: Path, damage: str
) -> None:
    with hub(repository, "plain") as (endpoint, _):
        stem = Path(call(tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")["result"])
        weights = stem.with_suffix(".safetensors")
        weights.resolve().write_bytes(WEIGHTS[:100] if damage == "cut short" else WEIGHTS[::-1])
        weights.unlink()
        call(tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")
    assert weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize("links", [True, False])
def test_two_downloads_at_once_do_not_spoil_each_other(repository: Path, tmp_path: Path, links: bool) -> None:
    (repository / "ckpts/dec.safetensors").write_bytes(WEIGHTS * 4)
    with hub(repository, "slow") as (endpoint, requests), ThreadPoolExecutor(2) as pool:
        settings = {} if links else {"HF_HUB_DISABLE_SYMLINKS": "1"}
        arguments = (tmp_path, endpoint, "download_checkpoint", "acme/tiny/ckpts/dec")
        tasks = [pool.submit(call, *arguments, **settings) for _ in range(2)]
        stems = {task.result()["result"] for task in tasks}
        asked = requests()
    assert Path(f"{stems.pop()}.safetensors").read_bytes() == WEIGHTS * 4 and not stems
    assert asked.count("GET /acme/tiny/resolve/main/ckpts/dec.safetensors") == 1


def test_without_links_a_file_is_kept_once(repository: Path, tmp_path: Path) -> None:
    settings = {"HF_HUB_DISABLE_SYMLINKS": "1"}
    with hub(repository, "plain") as (endpoint, requests):
        folder = call(tmp_path, endpoint, "download", "acme/tiny", **settings)["result"]
        assert call(tmp_path, endpoint, "download", "acme/tiny", **settings)["result"] == folder
        asked = requests()
    here = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.stat().st_size == len(WEIGHTS)]
    assert sorted(path.relative_to(folder).as_posix() for path in here) == [
        "ckpts/dec.safetensors",
        "image_encoder/model.safetensors",
    ]
    assert asked.count("GET /acme/tiny/resolve/main/ckpts/dec.safetensors") == 1
    assert call(tmp_path, endpoint, "download", "acme/tiny", HF_HUB_OFFLINE="1", **settings)["result"] == folder


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="everything may be written")
def test_a_cache_that_may_not_be_written_is_said_so(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)
    with hub(repository, "plain") as (endpoint, _):
        error = call(tmp_path, endpoint, "download", "acme/tiny")
    assert error["code"] == "no_permission" and str(tmp_path / "home") in error["message"]


def test_weights_with_another_digest_are_refused_and_deleted(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "corrupt") as (endpoint, _):
        error = call(tmp_path, endpoint, "download", "acme/tiny")
    assert error["code"] == "bad_model" and "ckpts/dec.safetensors" in error["message"]
    assert WEIGHTS[1:] not in [path.read_bytes()[1:] for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_gated_repository_is_found_out_before_any_weights(repository: Path, tmp_path: Path) -> None:
    with hub(repository, "gated") as (endpoint, requests):
        error = call(tmp_path, endpoint, "download", "microsoft/TRELLIS.2-4B")
        asked = requests()
    assert error["code"] == "gated_model"
    assert "facebook/dinov3" in error["message"] and "hf auth login" in error["remedy"]
    assert "GENESIS_IMAGE_ENCODER" in error["remedy"] and "GET /facebook" not in asked and "TRELLIS" not in asked


@pytest.mark.parametrize(("model", "code"), [("acme/other", "model_missing"), ("no such thing", "model_missing")])
def test_an_unknown_model_is_named(repository: Path, tmp_path: Path, model: str, code: str) -> None:
    with hub(repository, "plain") as (endpoint, _):
        error = call(tmp_path, endpoint, "download", model)
    assert error["code"] == code and model in error["message"] and error["remedy"]


def test_a_repository_that_lacks_a_file_is_refused_before_its_weights(repository: Path, tmp_path: Path) -> None:
    (repository / "image_encoder/model.safetensors").unlink()
    with hub(repository, "plain") as (endpoint, requests):
        error = call(tmp_path, endpoint, "download", "acme/tiny")
        asked = requests()
    assert error["code"] == "model_missing" and "image_encoder/model.safetensors" in error["message"]
    assert "GET /acme/tiny/resolve/main/ckpts/dec.safetensors" not in asked


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_network_is_said_so(tmp_path: Path, offline: str) -> None:
    error = call(tmp_path, "http://127.0.0.1:9", "download", "acme/tiny", HF_HUB_OFFLINE=offline)
    assert error["code"] == "offline" and error["remedy"]
