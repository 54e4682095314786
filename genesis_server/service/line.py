# SPDX-License-Identifier: Apache-2.0
"""Jobs as clients see them: running, waiting in order with their places and times, then those that are over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genesis_server.protocol.messages import MAX_LISTED_JOBS, JobInfo, JobState
from genesis_server.service.lane import Lane
from genesis_server.service.store import JobStore


class Line:
    """The store's jobs together with what the lanes know of those that run."""

    def __init__(self, store: JobStore, lanes: Sequence[tuple[Lane, bool]]) -> None:
        """`lanes` with whether each is that of the downloads."""
        self._store, self._lanes = store, lanes
        self._places: dict[str, int] = {}  # as last told

    def promised(self) -> set[str]:
        """Folders that jobs will still make, or would if they were tried again."""
        return {job.asset for job in self.everything() if job.asset and job.state != JobState.FINISHED}

    def everything(self) -> tuple[JobInfo, ...]:
        """MAX_LISTED_JOBS at most; of those that are over the newest first."""
        jobs = self.in_line()
        known = {job.id for job in jobs}
        return tuple([*jobs, *(job for job in self._store.newest() if job.id not in known)][:MAX_LISTED_JOBS])

    def as_it_is(self, job: JobInfo) -> JobInfo:
        """A job of the store with its progress or place."""
        return next((other for other in self.in_line() if other.id == job.id), job)

    def in_line(self) -> list[JobInfo]:
        """Running and waiting jobs, the latter with their places and the time until their end."""
        jobs = [lane.running.job for lane, _ in self._lanes if lane.running]
        for lane, downloads in self._lanes:
            until = lane.busy_for()
            for position, job in enumerate(self._store.queued(downloads), 1):
                seconds = self._store.typical_seconds(job.kind, job.model)
                until = until + seconds if min(until, seconds) >= 0 else -1.0
                jobs.append(replace(job, position=position, eta=round(until, 1)))
        return jobs

    def moved(self) -> list[JobInfo]:
        """Waiting jobs whose place is another than when this was last asked."""
        waiting = [job for job in self.in_line() if job.position]
        changed = [job for job in waiting if self._places.get(job.id) != job.position]
        self._places = {job.id: job.position for job in waiting}
        return changed
