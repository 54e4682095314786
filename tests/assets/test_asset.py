# SPDX-License-Identifier: Apache-2.0
"""An asset folder survives crashes, full disks, moves, and says which file is wrong."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.assets.keys import stage_key
from genesis_server.assets.tensors import load_tensors, save_tensors
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings

PICTURE = Image.new("RGB", (8, 8), "red")


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    made = Asset.create(tmp_path / "mug.genesis", [PICTURE, PICTURE], GenerateSettings(seed=3), "mini")
    with made.replacing("shape", "key-1") as stage:
        stage.file("shape.safetensors").write_bytes(b"first" * 100)
        stage.statistics["cells"] = 7
    return made


def code_of(call, *arguments) -> GenesisError:
    with pytest.raises(GenesisError) as caught:
        call(*arguments)
    return caught.value


def test_an_asset_reads_back_what_was_written(asset: Asset) -> None:
    again = Asset.open(asset.folder)
    assert again.settings.seed == 3 and again.model_id == "mini"
    assert [path.name for path in again.inputs] == ["input_0.png", "input_1.png"]
    assert again.stage("shape").key == "key-1" and again.statistics["shape"] == {"cells": 7}
    assert again.path("shape.safetensors").read_bytes() == b"first" * 100
    assert not list(asset.folder.glob(".writing*"))


def test_a_moved_asset_still_opens(asset: Asset, tmp_path: Path) -> None:
    moved = asset.folder.rename(tmp_path / "elsewhere")
    assert Asset.open(moved).stage("shape") is not None


def test_a_stage_that_fails_leaves_the_previous_result(asset: Asset) -> None:
    with pytest.raises(RuntimeError), asset.replacing("shape", "key-2") as stage:
        stage.file("shape.safetensors").write_bytes(b"half")
        raise RuntimeError("crash")
    again = Asset.open(asset.folder)
    assert again.stage("shape").key == "key-1"
    assert again.path("shape.safetensors").read_bytes() == b"first" * 100


@pytest.mark.parametrize("moment", ["while writing", "while syncing", "while recording"])
def test_a_full_disk_leaves_the_previous_result(asset: Asset, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    def replace_shape() -> None:
        with asset.replacing("shape", "key-2") as stage:
            if moment == "while writing":
                full()
            stage.file("shape.safetensors").write_bytes(b"second")
            if moment == "while syncing":
                monkeypatch.setattr("genesis_server.assets.asset.sync_file", full)
            elif moment == "while recording":
                monkeypatch.setattr(Path, "write_text", full)

    error = code_of(replace_shape)
    assert error.code == ErrorCode.DISK_FULL and str(asset.folder) in error.message and error.remedy
    again = Asset.open(asset.folder)
    assert again.stage("shape").key == "key-1"
    assert again.path("shape.safetensors").read_bytes() == b"first" * 100


def test_killed_between_its_renames_the_stage_is_only_stale(asset: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    renames = []
    original = Path.replace

    def dies_after_two(path: Path, target: Path) -> Path:
        if len(renames) == 2:
            raise KeyboardInterrupt
        renames.append(target)
        return original(path, target)

    monkeypatch.setattr(Path, "replace", dies_after_two)
    with pytest.raises(KeyboardInterrupt), asset.replacing("shape", "key-2") as stage:
        stage.file("shape.safetensors").write_bytes(b"second")
    monkeypatch.undo()
    assert Asset.open(asset.folder).stage("shape") is None  # to be run again, and nothing is called damaged


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("shape.safetensors", "missing"),
        ("shape.safetensors", "truncated"),
        ("input_1.png", "missing"),
        ("asset.json", "missing"),
        ("asset.json", "truncated"),
    ],
)
def test_a_damaged_file_is_named(asset: Asset, name: str, damage: str) -> None:
    path = asset.folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    error = code_of(Asset.open, asset.folder)
    assert error.code == ErrorCode.BAD_ASSET and name in error.message and error.remedy


def test_a_damaged_stage_that_is_not_needed_counts_as_unfinished(asset: Asset) -> None:
    with asset.replacing("mesh", "key-2") as stage:
        stage.file("model.glb").write_bytes(b"mesh")
    asset.path("model.glb").unlink()
    healed = Asset.open(asset.folder, needed=("shape",))
    assert healed.stage("mesh") is None and healed.stage("shape").key == "key-1"
    assert "model.glb" in code_of(Asset.open, asset.folder, ("mesh",)).message
    healed.change(GenerateSettings(seed=4))
    assert Asset.open(asset.folder).stage("mesh") is None  # so says the record from now on


def test_each_picture_has_its_own_background_or_the_settings(tmp_path: Path) -> None:
    settings = GenerateSettings(background="keep")
    asset = Asset.create(tmp_path / "a", [PICTURE, PICTURE], settings, "mini", ("", "remove"))
    assert Asset.open(asset.folder).backgrounds == ["keep", "remove"]
    assert asset.imagined(settings, ("auto", "auto")).backgrounds == ["auto", "auto"]
    asset.change(GenerateSettings())
    assert Asset.open(asset.folder).backgrounds == ["auto", "remove"]
    for wrong in (("blue", ""), ("auto",)):
        assert code_of(asset.change, settings, wrong).code == ErrorCode.BAD_PARAMETER
    record = asset.folder / "asset.json"
    record.write_text(record.read_text().replace('"remove"', '"blue"'))
    assert code_of(Asset.open, asset.folder).code == ErrorCode.BAD_ASSET


def test_a_newer_schema_is_refused_and_not_overwritten(asset: Asset) -> None:
    record = asset.folder / "asset.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema": 99}))
    assert code_of(Asset.open, asset.folder).code == ErrorCode.NEWER_SCHEMA
    assert code_of(Asset.create, asset.folder, [PICTURE], GenerateSettings(), "mini").code == ErrorCode.NEWER_SCHEMA
    assert json.loads(record.read_text())["schema"] == 99


@pytest.mark.parametrize(
    "change",
    [{"settings": {"seed": -4}}, {"stages": {"x": {"key": "k", "files": {"../x": 1}}}}, {"stages": 3}, {"schema": "1"}],
)
def test_a_record_with_nonsense_is_refused(asset: Asset, change: dict) -> None:
    record = asset.folder / "asset.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    error = code_of(Asset.open, asset.folder)
    assert error.code == ErrorCode.BAD_ASSET and "asset.json" in error.message


def test_creating_again_keeps_stages_and_drops_pictures_that_went(asset: Asset) -> None:
    again = Asset.create(asset.folder, [PICTURE], GenerateSettings(seed=4), "mini")
    assert again.stage("shape").key == "key-1" and again.settings.seed == 4
    assert not (asset.folder / "input_1.png").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    assert code_of(Asset.create, tmp_path, [PICTURE], GenerateSettings(), "mini").code == ErrorCode.BAD_ASSET
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]
    assert code_of(Asset.open, tmp_path).code == ErrorCode.BAD_ASSET


def test_no_pictures_and_too_many_are_refused(tmp_path: Path) -> None:
    for pictures in ([], [PICTURE] * 17):
        error = code_of(Asset.create, tmp_path / "a", pictures, GenerateSettings(), "mini")
        assert error.code == ErrorCode.BAD_PARAMETER
    assert not (tmp_path / "a").exists()


def test_settings_can_change_while_a_stage_runs(asset: Asset) -> None:
    with asset.replacing("texture", "key-3") as stage:
        stage.file("texture.safetensors").write_bytes(b"texture")
        asset.change(GenerateSettings(seed=9))
    again = Asset.open(asset.folder)
    assert again.settings.seed == 9 and again.stage("texture").key == "key-3"


def test_keys_follow_their_ingredients_and_the_stages_above() -> None:
    key = stage_key("shape", {"steps": 12, "seed": 1})
    assert key == stage_key("shape", {"seed": 1, "steps": 12})
    others = [
        stage_key("shape", {"steps": 12, "seed": 2}),
        stage_key("shape", {"steps": 12, "seed": 1}, "above"),
        stage_key("x", {}),
    ]
    assert len({key, *others}) == 4


def test_latents_read_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latent.safetensors"
    save_tensors(path, {"feats": torch.arange(6.0).view(2, 3).T}, {"resolution": "128"})
    tensors, notes = load_tensors(path, ("feats",))
    assert torch.equal(tensors["feats"], torch.arange(6.0).view(2, 3).T) and notes["resolution"] == "128"
    assert code_of(load_tensors, path, ("coords",)).code == ErrorCode.BAD_ASSET
    path.write_bytes(path.read_bytes()[:-3])
    assert str(path) in code_of(load_tensors, path, ("feats",)).message


def test_the_room_loads_without_torch() -> None:
    code = "import sys, genesis_server.assets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
