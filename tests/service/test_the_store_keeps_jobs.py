# SPDX-License-Identifier: Apache-2.0
"""Jobs come back from the file as they were put in, in order, and one folder has one server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import JobState, Rebake, Submit
from genesis_server.service import store as store_module
from genesis_server.service.faults import as_genesis_error
from genesis_server.service.store import JobStore


@pytest.fixture
def store(tmp_path):
    one = JobStore(tmp_path)
    yield one
    one.close()


def test_a_job_and_its_request_survive_reopening(tmp_path) -> None:
    store = JobStore(tmp_path)
    request = Submit(("/ä.png",), "/a.genesis", changes={"shape.steps": 3})
    job = store.add(request)
    failed = replace(job, state=JobState.FAILED, error={"code": "internal", "message": "x"}, attempts=2, fraction=0.25)
    store.save(failed)
    store.close()
    again = JobStore(tmp_path)
    assert again.get(job.id) == failed
    assert again.request(job.id) == request
    again.close()


def test_the_queue_is_first_in_first_out(store) -> None:
    first, second = store.add(Rebake("/a")), store.add(Rebake("/b"))
    assert store.queued() == [first, second]
    store.save(replace(first, state=JobState.RUNNING))
    assert store.queued() == [second]
    assert [job.id for job in store.running()] == [first.id]
    assert [job.id for job in store.newest()] == [second.id, first.id]


def test_a_second_store_in_the_folder_is_refused(store, tmp_path) -> None:
    with pytest.raises(GenesisError) as caught:
        JobStore(tmp_path)
    assert caught.value.code == ErrorCode.ALREADY_RUNNING


def test_old_finished_jobs_are_forgotten_and_waiting_ones_are_not(store, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "KEPT_JOBS", 3)
    jobs = [store.add(Rebake(f"/{number}")) for number in range(3)]
    store.save(replace(jobs[0], state=JobState.FINISHED))
    for number in range(3):
        store.add(Rebake(f"/more{number}"))
    assert [job.asset for job in store.newest()][-2:] == ["/2", "/1"]


def test_an_unknown_job_is_named(store) -> None:
    with pytest.raises(GenesisError) as caught:
        store.get("nothing")
    assert caught.value.code == ErrorCode.JOB_UNKNOWN
    assert "nothing" in caught.value.message


def test_on_a_full_disk_jobs_are_remembered_until_they_can_be_written(tmp_path) -> None:
    store = JobStore(tmp_path)
    first, second = store.add(Rebake("/a")), store.add(Rebake("/b"))
    database = store._database
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    failed = replace(first, state=JobState.FAILED, error={"code": "disk_full", "message": "x" * 20_000})
    store.save(failed)
    assert store.get(first.id) == failed
    assert store.queued() == [second]
    with pytest.raises(Exception, match="full") as caught:
        store.add(Rebake("/" + "c" * 20_000))
    assert as_genesis_error(caught.value).code == ErrorCode.DISK_FULL
    database.execute("PRAGMA max_page_count = 100000")
    store.save(replace(second, state=JobState.FINISHED))
    store.close()
    again = JobStore(tmp_path)
    assert again.get(first.id) == failed
    again.close()
