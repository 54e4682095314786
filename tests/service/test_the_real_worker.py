# SPDX-License-Identifier: Apache-2.0
"""The whole server with the real pipeline and a tiny model of random weights: generate, resume, re-bake, re-texture."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from running_server import Server

from genesis_server.assets import Asset
from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import (
    AskServer,
    Cancel,
    Configure,
    CutOut,
    Estimate,
    JobEvent,
    JobState,
    Preview,
    Rebake,
    Regenerate,
    Retry,
    Submit,
    TextureMesh,
    Watch,
)
from tests.pipeline.glb_files import write_scene
from tests.small_disk import mounted

pytestmark = pytest.mark.slow  # loads torch in processes of its own
PATIENCE = 120.0  # seconds for one job; the first loads torch and compiles kernels
FAST = {"bake.faces": 300, "bake.texture_size": 256}


class RealServer(Server):
    """A server as the extension starts it."""

    program = ()

    def generate(self, picture: Path, name: str, model: Path, **changes) -> str:
        """Submits a generation; returns the job's id."""
        request = Submit((str(picture),), str(self.folder / f"{name}.genesis"), str(model), "draft", {**FAST, **changes})
        return self.client.request(request).jobs[0].id

    def over(self, job: str) -> list[JobEvent]:
        """The events of a job up to its end."""
        events = self.events_until(lambda event: event.job.id == job and event.job.state.over, PATIENCE)
        return [event for event in events if event.job.id == job]

    def until_sampling(self, job: str, stage: str) -> None:
        """Waits for a sampler step of a stage."""
        wanted = (job, stage, "step")
        self.events_until(lambda event: (event.job.id, event.job.stage, event.kind) == wanted, PATIENCE)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = Path(__file__).resolve().parents[1] / "pipeline" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "ball.png"
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=(200, 80, 40, 255))
    image.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def real(folder) -> Iterator[RealServer]:
    server = RealServer(folder)
    server.client.request(Watch())
    yield server
    server.end()


@pytest.fixture(scope="module")
def finished(real, picture, model) -> tuple[Path, list[JobEvent]]:
    """An asset, and the events of its making."""
    events = real.over(real.generate(picture, "ball", model))
    return real.folder / "ball.genesis", events


def stages(events: list[JobEvent]) -> list[str]:
    return [event.job.stage for event in events if event.kind == "stage_started"]


def test_a_picture_becomes_a_glb_and_every_step_is_an_event(finished) -> None:
    folder, events = finished
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error
    assert stages(events) == ["cutout", "structure", "shape", "texture", "voxels", "mesh", "bake"]
    for stage in ("structure", "shape", "texture"):
        steps = [event.job.step for event in events if event.kind == "step" and event.job.stage == stage]
        assert steps == list(range(7))  # the draft preset's six, and that the first begins
    assert (folder / "model.glb").read_bytes()[:4] == b"glTF"
    assert events[-1].thumbnail == (folder / "thumbnail.png").read_bytes()


def test_another_texture_seed_runs_the_texture_stage_onward(real, finished) -> None:
    job = real.client.request(Regenerate(str(finished[0]), {"texture_seed": 5})).jobs[0].id
    assert stages(real.over(job)) == ["texture", "voxels", "mesh", "bake"]


def test_a_rebake_runs_mesh_and_bake_only(real, finished) -> None:
    job = real.client.request(Rebake(str(finished[0]), {"bake.texture_size": 512})).jobs[0].id
    events = real.over(job)
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error
    assert stages(events) == ["mesh", "bake"]
    assert Asset.open(finished[0]).statistics["mesh"]["texture_size"] == 512


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_worker_killed_while_sampling_is_replaced_and_finished_stages_are_not_made_again(real, picture, model) -> None:
    job = real.generate(picture, "killed", model, **{"shape.steps": 100})
    real.until_sampling(job, "shape")
    os.kill(worker_pid(real), signal.SIGKILL)
    events = real.over(job)
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error
    assert events[-1].job.attempts == 2
    assert stages(events) == ["shape", "texture", "voxels", "mesh", "bake"]


def test_cancel_stops_the_sampler_and_a_retry_goes_on(real, picture, model) -> None:
    job = real.generate(picture, "cancelled", model, **{"shape.steps": 100})
    real.until_sampling(job, "shape")
    began = time.monotonic()
    real.client.request(Cancel(job))
    events = real.over(job)
    assert events[-1].job.state == JobState.CANCELLED
    assert time.monotonic() - began < 2.0  # steps of this model take milliseconds; the whole stage takes longer
    assert events[-1].job.step < 100
    real.client.request(Retry(job))
    again = real.over(job)
    assert again[-1].job.state == JobState.FINISHED, again[-1].job.error
    assert stages(again)[0] == "shape"


@pytest.mark.parametrize("kind", ["text", "truncated", "transparent"])
def test_a_bad_picture_fails_the_job_with_its_code_and_makes_nothing(real, picture, model, tmp_path, kind) -> None:
    bad = tmp_path / "bad.png"
    if kind == "text":
        bad.write_text("this is no picture", "utf-8")
    elif kind == "truncated":
        bad.write_bytes(picture.read_bytes()[:100])
    else:
        Image.new("RGBA", (64, 64)).save(bad)
    failed = real.over(real.generate(bad, f"bad {kind}", model))[-1].job
    assert failed.state == JobState.FAILED
    assert failed.error["code"] == (ErrorCode.NO_FOREGROUND if kind == "transparent" else ErrorCode.BAD_IMAGE)
    assert not (real.folder / f"bad {kind}.genesis" / "model.glb").exists()


def blocked(real, picture: Path, model: Path, name: str) -> str:
    """A job that keeps the worker busy while the next ones wait."""
    job = real.generate(picture, name, model, **{"shape.steps": 100})
    real.until_sampling(job, "shape")
    return job


def test_a_picture_deleted_while_its_job_waits_is_named_and_nothing_is_made(real, picture, model, tmp_path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.read_bytes())
    busy = blocked(real, picture, model, "busy 1")
    waiting = real.generate(copy, "deleted", model)
    copy.unlink()
    real.client.request(Cancel(busy))
    failed = real.over(waiting)[-1].job
    assert failed.error["code"] == ErrorCode.BAD_IMAGE and "copy.png" in failed.error["message"]
    assert not (real.folder / "deleted.genesis").exists()
    copy.write_bytes(picture.read_bytes())  # put back, it goes on
    real.client.request(Retry(waiting))
    assert real.over(waiting)[-1].job.state == JobState.FINISHED


def test_an_asset_moved_while_its_job_waits_is_named_and_untouched(real, finished, picture, model) -> None:
    busy = blocked(real, picture, model, "busy 2")
    waiting = real.client.request(Rebake(str(finished[0]), {"bake.texture_size": 128})).jobs[0].id
    moved = finished[0].rename(finished[0].with_name("elsewhere.genesis"))
    real.client.request(Cancel(busy))
    failed = real.over(waiting)[-1].job
    assert failed.error["code"] == ErrorCode.BAD_ASSET and "ball.genesis" in failed.error["message"]
    assert Asset.open(moved).stage("mesh") is not None
    moved.rename(finished[0])


def test_a_disk_that_fills_up_in_the_middle_keeps_the_finished_stages(real, picture, model, tmp_path) -> None:
    with mounted(tmp_path / "disk", 150_000) as disk:
        asset = disk / "full.genesis"
        request = Submit((str(picture),), str(asset), str(model), "draft", {**FAST, "bake.texture_size": 1024})
        job = real.client.request(request).jobs[0].id
        failed = real.over(job)[-1].job
        assert failed.error["code"] == ErrorCode.DISK_FULL, failed.error
        kept = Asset.open(asset)
        assert kept.stage("structure") is not None and kept.stage("mesh") is None
        assert not list(asset.glob(".writing*"))


def test_a_missing_model_is_named(real, picture, tmp_path) -> None:
    failed = real.over(real.generate(picture, "no model", tmp_path / "nowhere"))[-1].job
    assert failed.error["code"] == ErrorCode.MODEL_MISSING


def test_a_rebake_heals_a_missing_model(real, finished) -> None:
    (finished[0] / "model.glb").unlink()
    job = real.client.request(Rebake(str(finished[0]))).jobs[0].id
    events = real.over(job)
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error
    assert (finished[0] / "model.glb").read_bytes()[:4] == b"glTF"


def test_an_estimate_names_the_stages_and_knows_their_times_once_they_have_run(real, finished, picture, model) -> None:
    asset = str(finished[0])
    forecast = real.client.request(Estimate(asset, changes={"bake.texture_size": 1024}))
    assert forecast.stages == ("mesh", "bake") and forecast.measured and min(forecast.seconds) > 0
    assert real.client.request(Estimate(asset)).stages == ()
    other_texture = real.client.request(Estimate(asset, changes={"texture_seed": 77}))
    assert other_texture.stages == ("texture", "voxels", "mesh", "bake")
    assert "cutout" in real.client.request(Estimate(asset, backgrounds=("keep",))).stages
    fresh = real.client.request(Estimate(pictures=1, model=str(model), preset="draft"))
    assert len(fresh.stages) == 7 and fresh.measured
    assert Asset.open(asset).settings.texture_seed == 5  # nothing was changed


def test_structure_and_bare_shape_are_shown_on_the_way_and_change_nothing(real, picture, model) -> None:
    with Client(real.file) as curious:
        curious.request(Watch(previews=True))
        plain = real.generate(picture, "plain", model, seed=9)
        real.over(plain)
        folder = real.folder / "shown.genesis"
        changes = {**FAST, "seed": 9}
        job = real.client.request(Submit((str(picture),), str(folder), str(model), "draft", changes, previews=True)).jobs[0].id
        assert real.over(job)[-1].job.state == JobState.FINISHED
        shown = [item.message for item in curious.wait(1.0) if isinstance(item.message, Preview)]
    assert [(preview.kind, preview.job) for preview in shown] == [("voxels", job), ("mesh", job)]
    coords = np.frombuffer(shown[0].coords, "<u2").reshape(-1, 3)
    assert len(coords) == Asset.open(folder).statistics["structure"]["cells"]
    assert coords.max() < shown[0].resolution
    vertices = np.frombuffer(shown[1].vertices, "<f4").reshape(-1, 3)
    faces = np.frombuffer(shown[1].faces, "<i4").reshape(-1, 3)
    assert faces.min() == 0 and faces.max() == len(vertices) - 1 and 0 < len(faces) <= 20_000
    assert np.abs(vertices).max() < 0.6
    assert (folder / "model.glb").read_bytes() == (real.folder / "plain.genesis" / "model.glb").read_bytes()


def test_a_cut_out_is_shown_and_each_picture_has_its_own_background(real, picture, model) -> None:
    made = real.client.request(CutOut(str(picture), model=str(model), size=32))
    shown = Image.open(io.BytesIO(made.png))
    assert (
        (made.method, shown.mode, shown.size) == ("alpha", "RGBA", (32, 32)) == (made.method, "RGBA", (made.width, made.height))
    )
    white = real.client.request(CutOut(str(picture), "remove", str(model)))
    assert "key" in white.method
    request = Submit(
        (str(picture), str(picture)), str(real.folder / "two.genesis"), str(model), "draft", FAST, backgrounds=("", "remove")
    )
    assert real.over(real.client.request(request).jobs[0].id)[-1].job.state == JobState.FINISHED
    methods = Asset.open(real.folder / "two.genesis").statistics["cutout"]["background"]
    assert methods[0] == "alpha" and "key" in methods[1]
    job = real.client.request(Regenerate(str(real.folder / "two.genesis"), backgrounds=("remove", "auto"))).jobs[0].id
    assert stages(real.over(job))[0] == "cutout"
    assert Asset.open(real.folder / "two.genesis").statistics["cutout"]["background"][1] == "alpha"


def test_a_mesh_is_textured_baked_again_and_forecast(real, picture, model, tmp_path) -> None:
    mesh = write_scene(tmp_path / "boxes.glb")
    asset = real.folder / "boxes.genesis"
    changes = {"bake.texture_size": 128}
    request = TextureMesh(str(mesh), (str(picture),), str(asset), str(model), "draft", changes, backgrounds=("remove",))
    events = real.over(real.client.request(request).jobs[0].id)
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error
    assert (events[-1].job.kind, stages(events)) == ("texture_mesh", ["cutout", "shape", "texture", "voxels", "bake"])
    assert (asset / "model.glb").read_bytes()[:4] == b"glTF"
    assert real.client.request(Estimate(str(asset), changes={"texture_seed": 4})).stages == ("texture", "voxels", "bake")
    again = real.over(real.client.request(Rebake(str(asset), {"bake.texture_size": 256})).jobs[0].id)
    assert stages(again) == ["bake"] and again[-1].job.state == JobState.FINISHED
    other = real.over(real.client.request(Regenerate(str(asset), {"texture_seed": 4})).jobs[0].id)
    assert stages(other) == ["texture", "voxels", "bake"]


def test_a_mesh_that_is_none_is_refused(real, picture, model, tmp_path) -> None:
    bad = tmp_path / "bad.glb"
    bad.write_bytes(b"glTF but no more")
    request = TextureMesh(str(bad), (str(picture),), "bad mesh", str(model))
    assert real.over(real.client.request(request).jobs[0].id)[-1].job.error["code"] == ErrorCode.BAD_MESH
    with pytest.raises(GenesisError) as caught:
        real.client.request(TextureMesh(str(tmp_path / "none.glb"), (str(picture),), "no mesh", str(model)))
    assert caught.value.code == ErrorCode.BAD_MESH


def test_progress_says_how_long_it_will_take(real, picture, model) -> None:
    events = real.over(real.generate(picture, "timed", model, seed=11))
    etas = [event.job.eta for event in events if event.kind in ("stage_started", "step")]
    assert min(etas) >= 0 and etas[-1] <= etas[0]
    info = real.client.request(AskServer())
    assert info.torch and info.memory_total > 0 and info.device and info.loaded


def test_a_model_that_left_memory_comes_back_with_the_next_job(real, finished) -> None:
    real.over(real.client.request(Regenerate(str(finished[0]), {"texture_seed": 50})).jobs[0].id)
    real.client.request(Configure(0.1))
    deadline = time.monotonic() + PATIENCE
    while real.client.request(AskServer()).loaded:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    real.client.request(Configure(600.0))
    events = real.over(real.client.request(Regenerate(str(finished[0]), {"texture_seed": 51})).jobs[0].id)
    assert events[-1].job.state == JobState.FINISHED, events[-1].job.error


def test_a_rebake_works_after_a_restart(real, finished) -> None:
    real.client.close()
    real.kill()
    again = RealServer(real.folder)
    try:
        again.client.request(Watch())
        job = again.client.request(Rebake(str(finished[0]), {"bake.faces": 200})).jobs[0].id
        assert stages(again.over(job)) == ["mesh", "bake"]
    finally:
        again.end()


def worker_pid(server: Server) -> int:
    lines = [line for line in (server.folder / "genesis.log").read_text("utf-8").splitlines() if "started as process" in line]
    return int(lines[-1].rpartition(" ")[2])
