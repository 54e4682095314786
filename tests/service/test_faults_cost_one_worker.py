# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed, hangs, fails or cannot start; a supervisor that dies: jobs resume or fail with the reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_server import PATIENCE

from genesis_server.protocol import client as client_module
from genesis_server.protocol.connection import process_alive
from genesis_server.protocol.errors import ErrorCode, Remedy
from genesis_server.protocol.messages import JobState, ListJobs, Retry, Status, Watch
from genesis_server.service.faults import as_genesis_error, breaks_the_process

HERE = Path(__file__).resolve().parent


def test_a_killed_worker_is_replaced_and_the_job_resumes_at_its_unfinished_stage(server) -> None:
    job = server.submit("once")
    events = server.until_over(job)
    assert events[-1].job.state == JobState.FINISHED
    assert events[-1].job.attempts == 2
    begun = [event.job.stage for event in events if event.kind == "stage_started"]
    assert begun == ["structure", "shape", "shape"]
    assert any("SIGKILL" in event.job.message for event in events)


def test_a_job_that_kills_every_worker_fails_with_the_reason_and_the_next_runs(server) -> None:
    job, following = server.submit("killed"), server.submit("quick")
    failed = server.until_over(job)[-1].job
    assert failed.state == JobState.FAILED
    assert failed.attempts == 2
    assert failed.error["code"] == ErrorCode.WORKER_LOST
    assert "SIGKILL" in failed.error["message"]
    assert server.until_over(following)[-1].job.state == JobState.FINISHED


def test_a_worker_killed_from_outside_in_mid_stage_is_replaced(server) -> None:
    job = server.submit("slow")
    server.until_step(job)
    os.kill(worker_pid(server), signal.SIGKILL)
    events = server.events_until(lambda event: event.job.attempts == 2 and event.kind == "step")
    assert events[-1].job.state == JobState.RUNNING


@pytest.mark.parametrize(
    ("behaviour", "code", "said"),
    [("raises", ErrorCode.INTERNAL, "a mistake in the code"), ("memory", ErrorCode.OUT_OF_MEMORY, "99 GB")],
)
def test_an_error_in_a_job_fails_it_and_keeps_the_worker(server, behaviour, code, said) -> None:
    failed = server.until_over(server.submit(behaviour))[-1].job
    assert (failed.state, failed.error["code"]) == (JobState.FAILED, code)
    assert said in failed.error["message"]
    assert server.until_over(server.submit("quick"))[-1].job.state == JobState.FINISHED
    assert "worker 2" not in log_of(server)


def test_a_worker_that_hangs_is_replaced(start) -> None:
    server = start("--silence", "0.5")
    server.client.request(Watch())
    hanging, following = server.submit("hangs"), server.submit("quick")
    failed = server.until_over(hanging)[-1].job
    assert failed.error["code"] == ErrorCode.WORKER_LOST
    assert "silent" in failed.error["message"]
    assert server.client.request(Status(following.id), PATIENCE).jobs[0].state != JobState.FAILED


def test_what_a_library_prints_is_logged_with_the_job_and_breaks_nothing(server) -> None:
    job = server.submit("prints")
    assert server.until_over(job)[-1].job.state == JobState.FINISHED
    assert any(f"[{job.id}]" in line and "a library says something" in line for line in log_of(server).splitlines())


def test_a_worker_that_cannot_start_fails_the_job_after_a_few_attempts(start) -> None:
    server = start("--worker", str(HERE / "deaf_worker.py"))
    server.client.request(Watch())
    job = server.submit("quick")
    failed = server.until_over(job)[-1].job
    assert failed.error["code"] == ErrorCode.WORKER_LOST
    assert "no module named torch" in failed.error["message"]
    assert log_of(server).count("started as process") <= 5  # two at the start, two for the job, and one of a race between them
    server.client.request(Retry(job.id))
    assert server.until_over(job)[-1].job.state == JobState.FAILED


def test_jobs_survive_the_death_of_the_supervisor(start) -> None:
    server = start()
    server.client.request(Watch())
    done = server.submit("quick")
    server.until_over(done)
    running, waiting = server.submit("slow"), server.submit("quick", "waiting")
    server.until_step(running)
    worker = worker_pid(server)
    server.kill()
    again = start()
    jobs = {job.id: job for job in again.client.request(ListJobs(), PATIENCE).jobs}
    assert jobs[done.id].state == JobState.FINISHED
    assert jobs[running.id].state in (JobState.QUEUED, JobState.RUNNING)
    assert jobs[waiting.id].state == JobState.QUEUED
    assert not process_alive(worker)  # a worker ends with its supervisor
    again.client.request(Watch(running.id))
    assert again.events_until(lambda event: event.kind == "step")[-1].job.attempts == 2


def test_the_server_ends_with_its_parent(start) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        server = start(parent=parent.pid)
        parent.communicate(b"\n", timeout=PATIENCE)
    assert server.launch.process.wait(10) == 0
    assert not server.file.exists()


def worker_pid(server) -> int:
    lines = [line for line in log_of(server).splitlines() if "started as process" in line]
    return int(lines[-1].rpartition(" ")[2])


def log_of(server) -> str:
    return (server.folder / "genesis.log").read_text("utf-8")


def test_the_server_stays_for_another_client_when_its_parent_is_gone_and_ends_after_that_one(start, monkeypatch) -> None:
    monkeypatch.setattr(client_module, "SPEAK_EVERY", 0.3)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        server = start(parent=parent.pid)
        server.client.request(Watch())
        job = server.submit("slow")
        server.until_step(job)
        parent.communicate(b"\n", timeout=PATIENCE)
    deadline = time.monotonic() + 4.0  # four times as long as a silent server would stay
    while time.monotonic() < deadline:
        server.client.wait(0.2)
    assert server.launch.process.poll() is None
    server.client.close()
    assert server.launch.process.wait(10) == 0


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs to look into a process")
def test_a_workers_threads_do_not_spin_while_others_want_the_processor(server) -> None:
    server.until_over(server.submit("quick"))
    variables = Path(f"/proc/{worker_pid(server)}/environ").read_bytes().split(b"\0")
    assert os.environ.get("OMP_WAIT_POLICY") or b"OMP_WAIT_POLICY=PASSIVE" in variables


def test_a_gpu_that_stops_working_is_named_and_costs_its_process() -> None:
    error = RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")
    assert breaks_the_process(error)
    shown = as_genesis_error(error)
    assert (shown.code, shown.action) == (ErrorCode.GPU_LOST, Remedy.RETRY)
    assert "unspecified launch failure." in shown.message and "reported later" not in shown.message
