# SPDX-License-Identifier: Apache-2.0
"""From a picture file to a GLB in an asset folder: events, resume, re-bake, texture seed, cancellation, bad input.

On a tiny model with random weights: its objects are nonsense, but every room takes part.
"""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw

from genesis_server.assets import Asset
from genesis_server.pipeline.generate import STAGES, generate, stages_to_run
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import REPORTED_STAGES, Event, EventKind
from genesis_server.protocol.messages import Rebake
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.service.jobs import JobRunner
from tests.pipeline.tiny_model import write_tiny_model

SMALL = GenerateSettings().with_values({"bake.texture_size": 256, "bake.faces": 400})
FILES = {
    "cutout": {"cutout_0.png"},
    "structure": {"structure.safetensors"},
    "shape": {"shape.safetensors"},
    "texture": {"texture.safetensors"},
    "voxels": {"ovoxel.vxz"},
    "mesh": {"model.glb", "thumbnail.png"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(str(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")), "cpu")


def draw_ball(path: Path) -> Path:
    image = Image.new("RGB", (200, 160), (250, 250, 250))
    ImageDraw.Draw(image).ellipse((60, 30, 150, 130), fill=(200, 60, 30))
    image.save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw_ball(tmp_path / "ball.png")


@pytest.fixture
def asset(tmp_path: Path, picture: Path) -> Asset:
    return Asset.create(tmp_path / "ball.genesis", [load_picture(picture)], SMALL, "tiny")


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    draw_ball(folder / "ball.png")
    asset = Asset.create(folder / "ball.genesis", [load_picture(folder / "ball.png")], SMALL, "tiny")
    run(asset, model)
    return asset.folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Asset:
    """A finished asset, moved here from where it was made."""
    return Asset.open(shutil.copytree(finished_once, tmp_path / "moved.genesis"))


def run(asset: Asset, model: Model | None, cancelled: Callable[[], bool] = lambda: False) -> list[Event]:
    events: list[Event] = []
    generate(asset, model, events.append, cancelled)
    return events


def started(events: list[Event]) -> list[str]:
    return [event.stage for event in events if event.kind == EventKind.STAGE_STARTED]


def stamps(asset: Asset) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in asset.folder.iterdir() if path.name != "asset.json"}


def changed_files(asset: Asset, before: dict[str, int]) -> set[str]:
    return {name for name, stamp in stamps(asset).items() if before.get(name) != stamp}


def test_a_picture_becomes_a_finished_asset(asset: Asset, model: Model) -> None:
    events = run(asset, model)
    names = {path.name for path in asset.folder.iterdir()}
    assert names == {"asset.json", "input_0.png"}.union(*FILES.values())
    scene = trimesh.load(asset.path("model.glb"), force="mesh")
    assert 0 < len(scene.faces) <= 400 and np.isfinite(scene.vertices).all()
    assert np.asarray(Image.open(asset.path("thumbnail.png")).convert("L")).std() > 1
    record = json.loads(asset.path("asset.json").read_text())
    assert record["schema"] == 1 and record["model"]["identity"] == model.identity
    assert all(record["stages"][stage]["seconds"] > 0 for stage in STAGES)
    assert record["stages"]["mesh"]["statistics"]["faces"] == len(scene.faces)
    assert any(event.kind == EventKind.NOTE and "no weights" in event.note for event in events)


def test_events_tell_stages_steps_and_a_fraction_that_never_falls(asset: Asset, model: Model) -> None:
    events = run(asset, model)
    assert started(events) == list(REPORTED_STAGES)
    assert [event.stage for event in events if event.kind == EventKind.STAGE_FINISHED] == list(REPORTED_STAGES)
    steps = [(event.step, event.steps) for event in events if event.stage == "shape" and event.kind == EventKind.STEP]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert all(Event.from_json(json.loads(json.dumps(event.to_json()))) == event for event in events)


def test_run_again_nothing_is_done(finished: Asset, model: Model) -> None:
    before = stamps(finished)
    assert run(Asset.open(finished.folder), model) == []
    assert changed_files(finished, before) == set()


def test_the_same_seed_gives_the_same_bytes(asset: Asset, finished: Asset, model: Model) -> None:
    run(asset, model)
    for name in set().union(*FILES.values()):
        assert asset.path(name).read_bytes() == finished.path(name).read_bytes(), name


def test_another_texture_seed_runs_the_texture_and_what_follows(finished: Asset, model: Model) -> None:
    before = stamps(finished)
    again = Asset.open(finished.folder)
    again.change(again.settings.with_values({"texture_seed": 77}))
    assert started(run(again, model)) == ["texture", "voxels", "mesh", "bake"]
    assert changed_files(finished, before) == FILES["texture"] | FILES["voxels"] | FILES["mesh"]


def test_following_the_seed_again_gives_the_first_texture_back(finished: Asset, model: Model) -> None:
    first = finished.path("texture.safetensors").read_bytes()
    finished.change(finished.settings.with_values({"texture_seed": 77}))
    run(finished, model)
    assert finished.path("texture.safetensors").read_bytes() != first
    finished.change(SMALL)
    run(finished, model)  # from the stored structure and shape, with their noise skipped
    assert finished.path("texture.safetensors").read_bytes() == first


def test_a_rebake_needs_neither_model_nor_weights(finished: Asset, model: Model) -> None:
    before = stamps(finished)
    again = Asset.open(finished.folder)
    again.change(again.settings.with_values({"bake.texture_size": 320, "bake.faces": 200}))
    assert started(run(again, None)) == ["mesh", "bake"]
    assert changed_files(finished, before) == FILES["mesh"]
    assert again.statistics["mesh"]["texture_size"] == 320 and again.statistics["mesh"]["faces"] <= 200
    assert stages_to_run(again, model) == []  # the model finds nothing left to do either


def test_a_cancelled_rebake_leaves_the_asset_as_it_was(finished: Asset) -> None:
    before = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    wanted, heard = Rebake(str(finished.folder), {"bake.texture_size": 320, "bake.faces": 200}), []
    with pytest.raises(GenesisError) as caught:
        JobRunner().run(wanted, heard.append, lambda: len(heard) > 3)
    assert caught.value.code == ErrorCode.CANCELLED and len(heard) > 3
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir()} == before, "settings included"
    assert JobRunner().run(wanted, heard.append, lambda: False).settings.bake.texture_size == 320
    assert Asset.open(finished.folder).settings.bake.faces == 200


def test_a_rebake_of_an_unfinished_asset_is_refused(asset: Asset) -> None:
    with pytest.raises(GenesisError, match="O-Voxel") as caught:
        run(asset, None)
    assert caught.value.code == ErrorCode.BAD_ASSET


@pytest.mark.parametrize("stage", ["shape", "texture", "voxels", "mesh"])
def test_after_a_crash_it_goes_on_at_the_unfinished_stage(
    asset: Asset, finished: Asset, model: Model, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    broken = {"shape": "sample_shape", "texture": "sample_texture", "voxels": "write_vxz", "mesh": "write_baked"}[stage]

    def crash(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(f"genesis_server.pipeline.generate.{broken}", crash)
        run(asset, model)
    again = Asset.open(asset.folder)
    assert stages_to_run(again, model) == list(STAGES[STAGES.index(stage) :])
    run(again, model)
    for name in set().union(*FILES.values()):
        assert again.path(name).read_bytes() == finished.path(name).read_bytes(), name


def test_cancelling_takes_effect_at_the_next_step_and_keeps_finished_stages(asset: Asset, model: Model) -> None:
    events: list[Event] = []

    def cancelled() -> bool:
        return any(event.stage == "shape" and event.step == 1 for event in events)

    with pytest.raises(GenesisError) as caught:
        generate(asset, model, events.append, cancelled)
    assert caught.value.code == ErrorCode.CANCELLED
    assert events[-1].stage == "shape" and events[-1].step == 1
    again = Asset.open(asset.folder)
    assert again.stage("structure") is not None and again.stage("shape") is None
    assert not list(asset.folder.glob(".writing*"))
    assert started(run(again, model))[0] == "shape"


@pytest.mark.parametrize("writes", ["save_tensors", "write_vxz", "write_baked"])
def test_a_full_disk_keeps_the_previous_result(
    finished: Asset, model: Model, monkeypatch: pytest.MonkeyPatch, writes: str
) -> None:
    before = {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.name != "finished.json"}

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    finished.change(finished.settings.with_values({"texture_seed": 5}))
    stage = {"save_tensors": "texture", "write_vxz": "voxels", "write_baked": "mesh"}[writes]
    with monkeypatch.context() as patch, pytest.raises(GenesisError) as caught:
        patch.setattr(f"genesis_server.pipeline.generate.{writes}", full)
        run(finished, model)
    assert caught.value.code == ErrorCode.DISK_FULL
    again = Asset.open(finished.folder)
    kept = set().union(*(FILES[name] for name in STAGES[STAGES.index(stage) :]))
    assert all(again.path(name).read_bytes() == before[name] for name in kept)
    assert stages_to_run(again, model)[0] == stage


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("no compiler for the CPU")])
def test_a_thumbnail_that_fails_is_a_warning_and_the_bake_stays(
    finished: Asset, model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(glb: Path, png: Path) -> None:
        png.write_bytes(b"half a pict")
        raise error

    again = Asset.open(finished.folder)
    again.change(again.settings.with_values({"bake.texture_size": 320}))
    with monkeypatch.context() as patch:
        patch.setattr("genesis_server.pipeline.thumbnail.render_thumbnail", broken)
        events = run(again, None)
    notes = [event.note for event in events if event.kind == EventKind.NOTE]
    assert len(notes) == 1 and "thumbnail" in notes[0] and str(error) in notes[0]
    assert events[-1].kind == EventKind.STAGE_FINISHED and events[-1].stage == "bake"
    reopened = Asset.open(finished.folder)
    assert reopened.statistics["mesh"]["texture_size"] == 320
    assert trimesh.load(reopened.path("model.glb"), force="mesh").visual.material.baseColorTexture.size == (320, 320)
    assert stages_to_run(reopened, model) == []  # nothing is missing


def test_several_views_make_one_object(tmp_path: Path, picture: Path, model: Model) -> None:
    views = [load_picture(picture), load_picture(picture).rotate(90)]
    asset = Asset.create(tmp_path / "views.genesis", views, SMALL, "tiny")
    run(asset, model)
    assert asset.path("cutout_1.png").is_file() and asset.path("model.glb").is_file()


def test_sampler_settings_reach_the_samplers(asset: Asset, model: Model) -> None:
    asset.change(asset.settings.with_values({"shape.steps": 5}))
    steps = [event.steps for event in run(asset, model) if event.stage == "shape" and event.kind == EventKind.STEP]
    assert steps == [5] * 6


def test_an_unknown_resolution_is_refused_before_work_starts(asset: Asset, model: Model) -> None:
    asset.change(asset.settings.with_values({"resolution": "4096"}))
    with pytest.raises(GenesisError) as caught:
        run(asset, model)
    assert caught.value.code == ErrorCode.BAD_PARAMETER and "32" in caught.value.remedy
    assert asset.stage("cutout") is None


def test_a_picture_without_an_object_stops_in_the_cutout(tmp_path: Path, model: Model) -> None:
    asset = Asset.create(tmp_path / "empty.genesis", [Image.new("RGB", (50, 50), "white")], SMALL, "tiny")
    with pytest.raises(GenesisError) as caught:
        run(asset, model)
    assert caught.value.code == ErrorCode.NO_FOREGROUND
    assert Asset.open(asset.folder).stage("cutout") is None


def test_a_truncated_stage_file_is_named_and_creating_again_heals(finished: Asset, model: Model, picture: Path) -> None:
    path = finished.path("shape.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(GenesisError, match="shape.safetensors"):
        Asset.open(finished.folder)
    healed = Asset.create(finished.folder, [load_picture(picture)], SMALL, "tiny")
    run(healed, model)
    assert Asset.open(finished.folder).stage("mesh") is not None
