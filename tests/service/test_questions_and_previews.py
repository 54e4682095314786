# SPDX-License-Identifier: Apache-2.0
"""What clients may ask beside their jobs, and what they are shown on the way; over real sockets, with a real worker process."""

from __future__ import annotations

import os
import signal
import time

import pytest
from running_server import PATIENCE, Server

from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    AskModels,
    AskServer,
    Cancel,
    Configure,
    CutOut,
    Estimate,
    JobEvent,
    Log,
    Preview,
    Submit,
    Watch,
)


def picture(server: Server, name: str):
    path = server.folder / f"{name}.png"
    path.write_bytes(b"not looked at by the fake worker")
    return path


def test_a_cut_out_is_made_while_a_job_runs(server) -> None:
    job = server.submit("deaf")
    server.until_step(job)
    path = picture(server, "cup")
    made = server.client.request(CutOut(str(path)))
    assert made.png == b"png of " + str(path).encode()
    assert server.client.request(Estimate(pictures=2)).stages == ("mesh", "bake")
    server.client.request(Cancel(job.id))


def test_a_question_waits_for_a_worker_that_is_starting(start) -> None:
    server = start()
    assert server.client.request(Estimate(), PATIENCE).measured


def test_a_question_whose_worker_dies_is_answered_and_the_next_one_too(server) -> None:
    server.client.request(Estimate())
    with pytest.raises(GenesisError) as caught:
        server.client.request(CutOut(str(picture(server, "dies"))))
    assert caught.value.code == ErrorCode.WORKER_LOST
    assert server.client.request(Estimate(), PATIENCE).seconds == (1.0, 2.0)


def test_a_question_to_a_worker_that_cannot_start_is_answered(start) -> None:
    from running_server import HERE

    server = start("--worker", str(HERE / "deaf_worker.py"))
    with pytest.raises(GenesisError, match="no module named torch"):
        server.client.request(Estimate(), PATIENCE)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (CutOut("/nowhere.png"), ErrorCode.BAD_IMAGE),
        (CutOut("cup.png"), ErrorCode.BAD_IMAGE),
        (CutOut(__file__, "blue"), ErrorCode.BAD_PARAMETER),
        (CutOut(__file__, size=5000), ErrorCode.BAD_PARAMETER),
        (Estimate("/nowhere.genesis"), ErrorCode.BAD_ASSET),
        (Estimate(changes={"shape.speed": 1}), ErrorCode.BAD_PARAMETER),
        (Estimate(preset="best"), ErrorCode.BAD_PARAMETER),
        (Log(0), ErrorCode.BAD_PARAMETER),
        (Configure(-1.0), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", backgrounds=("auto", "keep")), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", backgrounds=("blue",)), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", group="g" * 65), ErrorCode.BAD_PARAMETER),
    ],
    ids=str,
)
def test_a_question_that_cannot_be_answered_is_refused_at_once(server, question, code) -> None:
    with pytest.raises(GenesisError) as caught:
        server.client.request(question)
    assert caught.value.code == code


def test_previews_reach_those_who_ask_for_them_whole(server) -> None:
    from fake_worker import COORDS

    with Client(server.file) as curious:
        curious.request(Watch(previews=True))
        path = picture(server, "slow")
        job = server.client.request(Submit((str(path),), "shown", previews=True)).jobs[0]
        shown = previews_of(curious, 1)
        assert shown == [Preview(job.id, "voxels", 32, coords=COORDS)]
        with Client(server.file) as late:
            late.request(Watch(job.id, previews=True))
            assert previews_of(late, 1) == shown
        server.until_step(job)  # the client that did not ask has got none
        assert not any(isinstance(item.message, Preview) for item in server.client.wait(0.2))
        server.client.request(Cancel(job.id))
        server.until_over(job)
        plain = server.client.request(Submit((str(path),), "plain")).jobs[0]
        server.until_step(plain)
        assert not [item for item in curious.wait(0.3) if isinstance(item.message, Preview)]
        server.client.request(Cancel(plain.id))


def previews_of(client: Client, count: int) -> list[Preview]:
    found, deadline = [], time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        found += [item.message for item in client.wait(0.2) if isinstance(item.message, Preview)]
    return found


def test_the_server_tells_its_device_and_a_model_that_nobody_uses_leaves_memory(server) -> None:
    server.until_over(server.submit("quick"))
    known = until(server, lambda info: info.loaded)
    assert (known.device, known.accelerated, known.memory_total, known.memory_free) == ("Abacus", True, 8, 3)
    assert (known.model, known.worker, known.remote) == ("mini", "idle", False)
    assert server.client.request(Configure(0.2)).idle_unload == 0.2
    assert not until(server, lambda info: not info.loaded).loaded
    assert "leaves memory" in server.client.request(Log(50)).text


def test_a_dead_worker_has_no_model(server) -> None:
    server.until_over(server.submit("quick"))
    until(server, lambda info: info.loaded)
    pid = int(server.client.request(Log(500)).text.rpartition("started as process ")[2].split()[0])
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    until(server, lambda info: not info.loaded)


def until(server: Server, wanted):
    deadline = time.monotonic() + PATIENCE
    while not wanted(info := server.client.request(AskServer())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted(info)
    return info


def test_the_log_can_be_read_for_one_job(server) -> None:
    job, other = server.submit("raises"), server.submit("quick")
    server.until_over(other)
    text = server.client.request(Log(job=job.id)).text
    assert "a mistake in the code" in text and other.id not in text
    assert "Traceback" in server.client.request(Log(2000)).text
    assert len(server.client.request(Log(3)).text.splitlines()) == 3


def test_the_weights_and_their_sizes_are_known_without_the_network(server) -> None:
    models = server.client.request(AskModels(), PATIENCE)
    mini, published = models.models[0], models.models[1]
    assert (mini.id, mini.state, mini.missing_bytes) == ("mini", "packaged", 0)
    assert published.id == "microsoft/TRELLIS.2-4B" and published.state in ("absent", "incomplete", "ready")
    assert models.free_bytes > 0


def test_events_of_jobs_go_on_after_a_client_with_previews_is_gone(server) -> None:
    with Client(server.file) as curious:
        curious.request(Watch(previews=True))
    job = server.client.request(Submit((str(picture(server, "quick")),), "shown", previews=True)).jobs[0]
    assert isinstance(server.until_over(job)[-1], JobEvent)
