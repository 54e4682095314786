# SPDX-License-Identifier: Apache-2.0
"""Every bad input gets one error with code, offending value and remedy, before any network is loaded; nothing is lost.

The command line's half of the list; what comes over the wire is in tests/service, what a file may hold in tests/pipeline.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.assets.asset import RECORD
from genesis_server.cli import main
from genesis_server.pipeline.model import Model
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings
from tests.small_disk import mounted

FAILED, BAD_USAGE = 1, 2


@pytest.fixture(autouse=True)
def no_network_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(model: Model, role: str, work: object = None, precision: str = "auto") -> None:
        raise AssertionError(f"{role} was loaded before the input had been looked at")

    monkeypatch.setattr(Model, "use", refuse)
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path / "home"))


@pytest.fixture
def finished(tmp_path: Path) -> Asset:
    """An asset whose last stages have files; what is in them no refusal may need."""
    asset = Asset.create(tmp_path / "chair.genesis", [Image.new("RGBA", (8, 8))], GenerateSettings(), "mini")
    with asset.replacing("voxels", "key") as stage:
        stage.file("ovoxel.vxz").write_bytes(b"voxels" * 100)
    with asset.replacing("mesh", "key") as stage:
        stage.file("model.glb").write_bytes(b"a mesh" * 100)
    return asset


def genesis(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(status: int, code: ErrorCode, said: str, *arguments: object) -> None:
    """Says it in words with nothing on standard output, and in JSON; both with the exit code."""
    plain = genesis(*arguments)
    assert (plain.exit_code, plain.stdout) == (status, "")
    assert said in plain.stderr and "Traceback" not in plain.stderr
    machine = genesis(*arguments, "--json")
    error = json.loads(machine.stdout)["error"]
    assert (machine.exit_code, error["code"]) == (status, code)
    assert said in error["message"] and error["remedy"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("missing", ErrorCode.BAD_IMAGE, "missing.png does not exist"),
        ("folder", ErrorCode.BAD_IMAGE, "folder.png is a folder"),
        ("empty", ErrorCode.BAD_IMAGE, "empty.png is empty"),
        ("text", ErrorCode.BAD_IMAGE, "text.png is not a picture"),
        ("truncated", ErrorCode.BAD_IMAGE, "truncated.png is damaged or cut short"),
        ("huge", ErrorCode.BAD_IMAGE, "huge.png has 381 megapixels"),
        ("transparent", ErrorCode.NO_FOREGROUND, "transparent.png is fully transparent"),
        ("faint", ErrorCode.NO_FOREGROUND, "faint.png is nowhere more opaque than 100"),
        ("blank", ErrorCode.NO_FOREGROUND, "shows no object once its background is removed"),
        ("dot", ErrorCode.NO_FOREGROUND, "dot.png shows an object of only 1 x 1 pixels"),
    ],
)
def test_a_bad_picture(pictures: Path, model: Path, tmp_path: Path, name: str, code: ErrorCode, said: str) -> None:
    refused(FAILED, code, said, "generate", pictures / f"{name}.png", "--model", model, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "shape.speed=3"), "shape.speed"),
        (("--set", "shape.steps"), "shape.steps"),
        (("--set", "shape.steps=0"), "shape.steps is 0"),
        (("--set", "shape.steps=101"), "shape.steps is 101"),
        (("--set", "shape.steps=2.5"), "shape.steps is '2.5'"),
        (("--set", "shape.guidance_strength=nan"), "nan"),
        (("--set", "shape.guidance_interval=0.9,0.2"), "0.9, 0.2"),
        (("--set", "bake.alpha=yes"), "'yes'"),
        (("--set", "resolution=4096"), "4096"),
        (("--texture-size", "60"), "bake.texture_size is 60"),
        (("--texture-size", "1023"), "bake.texture_size is 1023"),
        (("--texture-size", "100000"), "bake.texture_size is 100000"),
        (("--faces", "99"), "bake.faces is 99"),
        (("--faces", "99999999"), "bake.faces is 99999999"),
        (("--seed", "-1"), "seed is -1"),
        (("--preset", "best"), "'best'"),
        (("--name", "../chair"), "'../chair'"),
        (("--speed",), "--speed"),
    ],
)
def test_a_bad_setting(pictures: Path, model: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    out = tmp_path / "out"
    command = ("generate", pictures / "good.png", "--model", model, "--out", out, *arguments)
    if arguments[0] in ("--preset", "--speed"):  # click's own words; JSON where it was asked for
        assert genesis(*command).exit_code == BAD_USAGE
        answer = genesis(*command, "--json")
        assert answer.exit_code == BAD_USAGE and said in json.loads(answer.stdout)["error"]["message"]
    else:
        refused(BAD_USAGE, ErrorCode.BAD_PARAMETER, said, *command)
    assert not list(tmp_path.glob("**/*.genesis"))


def test_a_missing_model_and_a_folder_that_is_none(pictures: Path, tmp_path: Path) -> None:
    for model in ("nowhere", pictures):
        command = ("generate", pictures / "good.png", "--model", model, "--out", tmp_path / "out")
        refused(FAILED, ErrorCode.MODEL_MISSING, str(model), *command)
    assert not list(tmp_path.glob("**/*.genesis"))


def test_a_place_where_nothing_can_be_put(pictures: Path, model: Path, tmp_path: Path) -> None:
    command = ("generate", pictures / "good.png", "--model", model, "--out")
    refused(BAD_USAGE, ErrorCode.BAD_PARAMETER, "below", *command, pictures / "good.png" / "below")
    (tmp_path / "good.genesis").mkdir()
    (tmp_path / "good.genesis" / "diary.txt").touch()
    refused(FAILED, ErrorCode.BAD_ASSET, "good.genesis", *command, tmp_path)
    assert [path.name for path in (tmp_path / "good.genesis").iterdir()] == ["diary.txt"]


def test_bad_input_leaves_an_earlier_result_as_it_was(pictures: Path, model: Path, finished: Asset) -> None:
    before = {path.name: path.read_bytes() for path in finished.folder.iterdir()}
    out = ("--out", finished.folder.parent, "--name", "chair")
    for wrong in (
        (pictures / "transparent.png", "--model", model),
        (pictures / "good.png", "--model", "nowhere"),
        (pictures / "good.png", "--model", model, "--set", "resolution=4096"),
    ):
        assert genesis("generate", *wrong, *out).exit_code in (FAILED, BAD_USAGE)
    assert {path.name: path.read_bytes() for path in finished.folder.iterdir()} == before


@pytest.mark.parametrize("file", ["ovoxel.vxz", "input_0.png"])
def test_an_asset_that_lacks_a_file(finished: Asset, file: str) -> None:
    finished.path(file).unlink()
    refused(FAILED, ErrorCode.BAD_ASSET, f"{file} is missing", "rebake", finished.folder)


def test_an_asset_with_a_file_cut_short(finished: Asset) -> None:
    finished.path("ovoxel.vxz").write_bytes(b"voxel")
    refused(FAILED, ErrorCode.BAD_ASSET, "ovoxel.vxz has 5 bytes instead of 600", "rebake", finished.folder)


def test_an_asset_with_a_broken_record_or_a_newer_one(finished: Asset) -> None:
    record = finished.path(RECORD).read_text("utf-8")
    for text, code, said in (
        (record[:50], ErrorCode.BAD_ASSET, "asset.json is cut short"),
        (json.dumps({**json.loads(record), "schema": 7}), ErrorCode.NEWER_SCHEMA, "schema is 7"),
    ):
        finished.path(RECORD).write_text(text, "utf-8")
        refused(FAILED, code, said, "rebake", finished.folder)


def test_what_is_no_asset(pictures: Path, tmp_path: Path) -> None:
    refused(FAILED, ErrorCode.BAD_ASSET, "does not exist", "rebake", tmp_path / "nothing")
    refused(FAILED, ErrorCode.BAD_ASSET, "is a file", "rebake", pictures / "good.png")
    refused(FAILED, ErrorCode.BAD_ASSET, "has no asset.json", "rebake", pictures)
    refused(FAILED, ErrorCode.BAD_MESH, "none.glb", "inspect", tmp_path / "none.glb")
    refused(FAILED, ErrorCode.BAD_MESH, "good.png", "inspect", pictures / "good.png")


def test_a_rebake_in_an_impossible_size(finished: Asset) -> None:
    before = finished.path(RECORD).read_bytes()
    refused(BAD_USAGE, ErrorCode.BAD_PARAMETER, "is 60", "rebake", finished.folder, "--texture-size", 60)
    refused(BAD_USAGE, ErrorCode.BAD_PARAMETER, "is 5", "rebake", finished.folder, "--faces", 5)
    assert finished.path(RECORD).read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this machine lets us have one."""
    with mounted(tmp_path / "disk", 1_000_000) as folder:
        yield folder


def test_a_disk_that_fills_up_keeps_the_previous_result(small_disk: Path) -> None:
    asset = Asset.create(small_disk / "chair.genesis", [Image.new("RGB", (8, 8))], GenerateSettings(), "mini")
    with asset.replacing("mesh", "first") as stage:
        stage.file("model.glb").write_bytes(b"first" * 1000)
    with pytest.raises(GenesisError) as caught, asset.replacing("mesh", "second") as stage:
        stage.file("model.glb").write_bytes(bytes(2_000_000))
    assert caught.value.code == ErrorCode.DISK_FULL and "chair.genesis" in caught.value.message
    again = Asset.open(asset.folder)
    assert again.stage("mesh").key == "first" and again.path("model.glb").read_bytes() == b"first" * 1000
    assert not list(asset.folder.glob(".writing*"))


def test_a_server_whose_disk_is_full_says_so(small_disk: Path) -> None:
    with pytest.raises(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    command = [sys.executable, "-m", "genesis_server", "serve", "--connection-file", str(small_disk / "home" / "server.json")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == FAILED
    assert "disk is full" in ended.stderr


def test_a_mesh_to_texture_is_looked_at_first(tmp_path: Path) -> None:
    picture = tmp_path / "chair.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    (tmp_path / "chair.obj").write_text("v 0 0 0\n")
    command = ("texture", tmp_path / "chair.obj", picture, "--out", tmp_path)
    refused(FAILED, ErrorCode.BAD_MESH, "does not start as a GLB", *command)
    refused(FAILED, ErrorCode.BAD_MESH, "nothing.glb", "texture", tmp_path / "nothing.glb", picture, "--out", tmp_path)
    refused(BAD_USAGE, ErrorCode.BAD_PARAMETER, "memory budget is 'lots'", "generate", picture, "--vram-budget", "lots")
