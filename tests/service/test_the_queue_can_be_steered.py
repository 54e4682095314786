# SPDX-License-Identifier: Apache-2.0
"""Jobs have places in the queue that can be changed, times until their end, and groups; over real sockets."""

from __future__ import annotations

import contextlib
import sqlite3

from running_server import Server

from genesis_server.protocol import PROTOCOL_VERSION
from genesis_server.protocol.codec import encode
from genesis_server.protocol.errors import ErrorCode
from genesis_server.protocol.messages import Cancel, JobInfo, Jobs, JobState, ListJobs, Move, Retry, Status, Submit
from genesis_server.protocol.variants import different_seeds, variants
from genesis_server.service.store import JobStore


def listed(server: Server) -> list[JobInfo]:
    return list(server.client.request(ListJobs()).jobs)


def test_the_list_is_in_order_of_work_and_says_each_place(server) -> None:
    done = server.submit("quick")
    server.until_over(done)
    running = server.submit("slow")
    server.until_step(running)
    waiting = [server.submit("quick", name) for name in ("first", "second")]
    jobs = listed(server)
    assert [job.id for job in jobs] == [running.id, *(job.id for job in waiting), done.id]
    assert [job.position for job in jobs] == [0, 1, 2, 0]


def test_a_job_can_be_moved_and_is_then_done_in_that_order(server) -> None:
    slow = server.submit("slow")
    first, second, third = (server.submit("quick", name) for name in ("first", "second", "third"))
    server.until_step(slow)
    answer = server.client.request(Move(third.id, 1))
    assert isinstance(answer, Jobs)
    assert [job.id for job in answer.jobs if job.position] == [third.id, first.id, second.id]
    events = server.events_until(lambda event: event.kind == "queue" and event.job.id == second.id and event.job.position == 3)
    assert {event.job.id for event in events if event.kind == "queue"} >= {first.id, second.id, third.id}
    server.client.request(Move(third.id, 99))
    assert [job.id for job in listed(server) if job.position] == [first.id, second.id, third.id]
    server.client.request(Move(slow.id, 1))  # it runs: nothing happens
    server.client.request(Move(second.id, -5))
    server.client.request(Cancel(slow.id))
    server.until_over(third)
    began = {job.id: job.started for job in listed(server)}
    assert began[second.id] < began[first.id] < began[third.id]


def test_a_retried_job_waits_behind_the_others(server) -> None:
    slow, again, other = server.submit("slow"), server.submit("quick", "again"), server.submit("quick", "other")
    server.until_step(slow)
    server.client.request(Cancel(again.id))
    job = server.client.request(Retry(again.id)).jobs[0]
    assert (job.state, job.position) == (JobState.QUEUED, 2)
    assert [job.id for job in listed(server)] == [slow.id, other.id, again.id]


def test_waiting_jobs_know_how_long_once_their_like_has_run(server) -> None:
    unknown = server.submit("quick")
    assert unknown.eta < 0
    server.until_over(unknown)
    picture = unknown and server.folder / "quick.png"
    request = Submit((str(picture),), "timed")
    blocked = server.submit("deaf")  # its own end is unknown, and so is that of whatever comes after
    server.until_step(blocked)
    after = server.client.request(request).jobs[0]
    assert after.eta < 0
    server.client.request(Cancel(after.id))
    server.client.request(Cancel(blocked.id))
    server.until_over(blocked)


def test_variants_are_jobs_of_one_group_with_names_of_their_own(server) -> None:
    picture = server.folder / "quick.png"
    picture.write_bytes(b"not looked at")
    base = Submit((str(picture),), "chair", changes={"shape.steps": 4})
    requests = variants(base, different_seeds(7, 3))
    assert [request.changes["seed"] for request in requests][0] == 7
    jobs = [server.client.request(request).jobs[0] for request in requests]
    assert len({job.group for job in jobs}) == 1 and jobs[0].group
    assert jobs[0].asset.endswith("chair_seed7.genesis")
    assert len({job.asset for job in jobs}) == 3
    server.until_over(jobs[-1])
    assert {job.group for job in listed(server)} == {jobs[0].group}


def test_variants_keep_folder_and_ending() -> None:
    made = variants(Submit(("/a.png",), "/out/chair.genesis", group="set"), [1, 2])
    assert [(request.asset, request.group) for request in made] == [
        ("/out/chair_seed1.genesis", "set"),
        ("/out/chair_seed2.genesis", "set"),
    ]
    assert len(set(different_seeds(5, 40))) == 40 and different_seeds(5, 40) == different_seeds(5, 40)


def test_a_job_queued_by_another_release_fails_with_the_reason_and_the_rest_goes_on(start, tmp_path) -> None:
    store = JobStore(tmp_path)
    picture = tmp_path / "quick.png"
    picture.write_bytes(b"not looked at")
    job = store.add(Submit((str(picture),), str(tmp_path / "old.genesis")))
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database, database:
        old = encode(Submit((str(picture),), "x"))[0].replace(f'{{"v": {PROTOCOL_VERSION}'.encode(), b'{"v": 1')
        database.execute("UPDATE jobs SET request = ? WHERE id = ?", (old, job.id))
        database.execute("ALTER TABLE jobs DROP COLUMN place")
        database.execute('ALTER TABLE jobs DROP COLUMN "group"')
    server = start()
    kept = server.client.request(Status(job.id)).jobs[0]
    for _ in range(100):
        if kept.state.over:
            break
        server.client.wait(0.1)
        kept = server.client.request(Status(job.id)).jobs[0]
    assert kept.error["code"] == ErrorCode.VERSION_MISMATCH
    assert server.submit("quick").group == ""
