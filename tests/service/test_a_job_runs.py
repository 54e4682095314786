# SPDX-License-Identifier: Apache-2.0
"""Submit, list, watch, cancel, re-bake, retry, shut down: over real sockets to a real server with a real worker process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image
from running_server import Server

from genesis_server.assets import Asset
from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    Cancel,
    JobState,
    ListJobs,
    Rebake,
    Regenerate,
    Retry,
    Shutdown,
    Status,
    Submit,
    Watch,
)
from genesis_server.protocol.parameters import GenerateSettings


def test_every_step_arrives_in_order_and_then_the_result(server) -> None:
    job = server.submit("quick")
    events = server.until_over(job)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events].count("step") == 6
    assert [event.job.fraction for event in events] == sorted(event.job.fraction for event in events)
    assert [event.job.state for event in events if event.kind == "state"] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.FINISHED,
    ]
    assert events[-1].thumbnail == b"a picture"
    assert events[-1].job.asset == str(server.folder / "assets" / "quick.genesis")


def test_jobs_are_done_one_by_one_and_those_over_listed_newest_first(server) -> None:
    jobs = [server.submit("quick", name) for name in ("first", "second", "third")]
    server.until_over(jobs[-1])
    listed = server.client.request(ListJobs()).jobs
    assert [job.id for job in listed] == [job.id for job in reversed(jobs)]
    assert {job.state for job in listed} == {JobState.FINISHED}
    assert listed[0].started >= listed[1].finished


def test_a_name_that_is_taken_gets_a_number(server) -> None:
    server.until_over(server.submit("quick", "chair"))
    assert Path(server.submit("quick", "chair").asset).name == "chair 2.genesis"


def test_cancel_takes_effect_within_a_step_and_the_worker_stays(server) -> None:
    job = server.submit("slow")
    server.until_step(job)
    began = time.monotonic()
    server.client.request(Cancel(job.id))
    events = server.until_over(job)
    assert time.monotonic() - began < 0.45  # one step of 50 ms, and the grace of 500 ms was not used up
    assert events[-1].job.state == JobState.CANCELLED
    server.until_over(server.submit("quick"))
    assert "worker 2" not in log_of(server)


def test_a_queued_job_is_cancelled_without_a_worker(server) -> None:
    slow, waiting = server.submit("slow"), server.submit("quick")
    assert server.client.request(Cancel(waiting.id)).jobs[0].state == JobState.CANCELLED
    server.client.request(Cancel(slow.id))
    server.until_over(slow)
    assert server.client.request(Status(waiting.id)).jobs[0].attempts == 0


def test_a_job_that_does_not_stop_is_ended_by_force(server) -> None:
    job = server.submit("deaf")
    server.until_step(job)
    server.client.request(Cancel(job.id))
    assert server.until_over(job)[-1].job.state == JobState.CANCELLED
    assert server.until_over(server.submit("quick"))[-1].job.state == JobState.FINISHED


def test_two_jobs_of_one_name_have_a_folder_each_although_neither_has_begun(server) -> None:
    first, second, third = (server.submit("slow", "cup") for _ in range(3))
    assert [Path(job.asset).name for job in (first, second, third)] == ["cup.genesis", "cup 2.genesis", "cup 3.genesis"]
    server.client.request(Cancel(second.id))
    assert Path(server.submit("slow", "cup").asset).name == "cup 4.genesis", "a cancelled job can be tried again"


def test_a_cancelled_job_can_be_tried_again(server) -> None:
    job = server.submit("slow")
    server.until_step(job)
    server.client.request(Cancel(job.id))
    server.until_over(job)
    assert server.client.request(Retry(job.id)).jobs[0].state == JobState.QUEUED
    server.until_step(job)


def test_rebake_and_regenerate_work_from_the_assets_folder(server, tmp_path) -> None:
    asset = str(tmp_path / "chair.genesis")
    Asset.create(asset, [Image.new("RGB", (8, 8))], GenerateSettings(), "mini")
    for request in (Rebake(asset, {"bake.texture_size": 2048}), Regenerate(asset, {"texture_seed": 7})):
        job = server.client.request(request).jobs[0]
        assert server.until_over(job)[-1].job.state == JobState.FINISHED
        assert job.asset == asset


def test_two_clients_watch_the_same_job_and_one_only_another(server) -> None:
    with Client(server.file) as second, Client(server.file) as third:
        second.request(Watch())
        job = server.submit("quick")
        other = server.submit("quick", "other")
        third.request(Watch(other.id))
        seen = server.until_over(other)
        heard = [item.message for item in collect(second, 1.0)]
        assert [event for event in heard if event.job.id == other.id] == seen
        assert {event.job.id for event in heard} == {job.id, other.id}
        assert {item.message.job.id for item in collect(third, 0.3)} <= {other.id}


def test_shutdown_ends_the_server_and_its_worker_and_keeps_the_job(start) -> None:
    server = start()
    server.client.request(Watch())
    job = server.submit("slow")
    server.until_step(job)
    server.client.request(Shutdown())
    assert server.launch.process.wait(10) == 0
    assert not server.file.exists()
    again = start()
    kept = again.client.request(Status(job.id)).jobs[0]
    assert kept.state in (JobState.QUEUED, JobState.RUNNING)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Submit((), "a"), ErrorCode.BAD_PARAMETER),
        (Submit(("/nowhere/a.png",), "a"), ErrorCode.BAD_IMAGE),
        (Submit(("a.png",), "a"), ErrorCode.BAD_IMAGE),
        (Submit((str(Path(__file__).parent),), "a"), ErrorCode.BAD_IMAGE),
        (Submit((__file__,), "../a"), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "/nowhere/a.genesis"), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", preset="best"), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", changes={"shape.steps": 0}), ErrorCode.BAD_PARAMETER),
        (Submit((__file__,), "a", changes={"shape.speed": 1}), ErrorCode.BAD_PARAMETER),
        (Rebake("/nowhere/a.genesis"), ErrorCode.BAD_ASSET),
        (Rebake(str(Path(__file__).parent)), ErrorCode.BAD_ASSET),
        (Rebake("/nowhere/a.genesis", {"seed": 1}), ErrorCode.BAD_PARAMETER),
        (Status("nothing"), ErrorCode.JOB_UNKNOWN),
        (Cancel("nothing"), ErrorCode.JOB_UNKNOWN),
        (Watch("nothing"), ErrorCode.JOB_UNKNOWN),
    ],
)
def test_bad_input_is_refused_before_it_is_queued(refusing, request_, code) -> None:
    with pytest.raises(GenesisError) as caught:
        refusing.client.request(request_)
    assert caught.value.code == code
    assert refusing.client.request(ListJobs()).jobs == ()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("refusing"))
    yield server
    server.end()


def collect(client: Client, seconds: float) -> list:
    items, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        items += client.wait(0.1)
    return items


def log_of(server) -> str:
    return (server.folder / "genesis.log").read_text("utf-8")
