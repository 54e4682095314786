# SPDX-License-Identifier: Apache-2.0
"""Expected times come from the last runs, scale with the work, survive the process, and are a guess before the first."""

from __future__ import annotations

import pytest

from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.events import REPORTED_STAGES
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.service.timings import TIMINGS_FILE, Timings, work_of

WORK = {"shape": 10.0, "bake": 1.5}


def test_the_median_of_the_last_runs_is_expected_and_kept(tmp_path) -> None:
    times = Timings(tmp_path)
    assert not times.measured("mini", ["shape"])
    for seconds in (90.0, 5.0, 5.0, 6.0):
        times.record("mini", "shape", 10.0, seconds)
    again = Timings(tmp_path)
    assert again.expect("mini", ["shape"], {"shape": 20.0}, False) == {"shape": pytest.approx(11.0)}
    assert again.measured("mini", ["shape"]) and not again.measured("mini", ["shape", "bake"])
    assert again.expect("other", ["shape"], WORK, False) != again.expect("other", ["shape"], WORK, True)


@pytest.mark.parametrize("text", ["", "[]", '{"mini": 3}', '{"mini": {"shape": ["x"]}}', '{"mini": {"shape": 4}}'])
def test_a_broken_file_of_times_is_a_new_beginning(tmp_path, text) -> None:
    (tmp_path / TIMINGS_FILE).write_text(text, "utf-8")
    times = Timings(tmp_path)
    assert times.expect("mini", ["shape"], WORK, False)["shape"] > 0
    times.record("mini", "shape", 1.0, 2.0)
    assert Timings(tmp_path).measured("mini", ["shape"])


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path) -> None:
    times = Timings(tmp_path / "nowhere")
    times.record("mini", "shape", 1.0, 2.0)
    assert times.measured("mini", ["shape"])


def test_work_follows_the_settings() -> None:
    settings = GenerateSettings().with_values({"shape.steps": 30, "bake.texture_size": 4096})
    assert work_of("shape", settings, 1) == 30
    assert work_of("texture", settings, 1, {"texture": 7}) == 7
    assert work_of("cutout", settings, 3) == 3
    assert work_of("bake", settings, 1) > 10 * work_of("bake", GenerateSettings(), 1)
    several = settings.with_values({"multi_view": "multidiffusion"})
    assert work_of("shape", several, 4) == 120


def test_progress_is_weighted_by_expected_seconds_and_says_what_remains() -> None:
    events = []
    expected = dict.fromkeys(REPORTED_STAGES, 1.0) | {"shape": 14.0}
    progress = Progress(REPORTED_STAGES, events.append, lambda: False, expected)
    for stage in REPORTED_STAGES:
        progress.started(stage)
        progress.finished(stage)
    starts = {event.stage: event for event in events if event.kind == "stage_started"}
    assert starts["shape"].fraction == pytest.approx(0.1) and starts["texture"].fraction == pytest.approx(0.8)
    assert starts["cutout"].remaining == pytest.approx(20.0) and starts["texture"].remaining == pytest.approx(4.0)
    assert events[-1].fraction == 1.0 and events[-1].remaining == 0.0


def test_progress_without_expectations_does_not_pretend_to_know() -> None:
    events = []
    Progress(["shape"], events.append, lambda: False).started("shape")
    assert events[0].remaining < 0
