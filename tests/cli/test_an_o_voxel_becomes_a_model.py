# SPDX-License-Identifier: Apache-2.0
"""`genesis bake`, `inspect` and `compare` on real files, with good and bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trimesh
from click.testing import CliRunner, Result

from genesis_server.bake.read_gltf import read_glb
from genesis_server.cli import main
from genesis_server.ovoxel.vxz import write_vxz
from tests import analytic

QUICK = ("--faces", "600", "--texture-size", "128")


def genesis(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def vxz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voxels") / "torus.vxz"
    write_vxz(path, analytic.voxelize(analytic.torus(), 32))
    return path


def test_one_call_makes_every_level_and_texture(vxz: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.glb"
    result = genesis("bake", vxz, "-o", out, *QUICK, "--lods", 2, "--texture-format", "webp", "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    fine, coarse = read_glb(out), read_glb(out, 1)
    assert made["level_faces"] == [len(fine.faces), len(coarse.faces)] and fine.levels == 2
    assert fine.material.normal.shape == (128, 128, 3) and fine.tangents is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.glb"]
    assert genesis("bake", vxz, "-o", out, *QUICK, "--no-normal-map").exit_code == 0
    assert read_glb(out).material.normal is None


def test_places_that_cannot_be_read_or_written_are_refused_before_work(
    vxz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = genesis("bake", ".", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["error"]["message"] == ". is a folder."
    may = os.access  # tests may run as a user who may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and may(path, mode, **more))
    result = genesis("bake", vxz, "-o", tmp_path / "a.glb", "--json")
    assert result.exit_code == 2 and str(tmp_path) in json.loads(result.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--faces", "0"), "bake.faces is 0"),
        (("--faces", "1000000000"), "bake.faces is 1000000000"),
        (("--texture-size", "3"), "bake.texture_size is 3"),
        (("--texture-size", "100000"), "bake.texture_size is 100000"),
        (("--lods", "7"), "bake.lods is 7"),
        (("-o", "a.obj"), "a.obj"),
        (("-o", "/nowhere/at/all.glb"), "/nowhere/at"),
    ],
)
def test_bad_settings_are_refused_before_work(vxz: Path, arguments: tuple[str, ...], said: str) -> None:
    result = genesis("bake", vxz, *arguments, "--json")
    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["error"]["message"]
    assert not vxz.with_suffix(".glb").exists()


@pytest.mark.parametrize("content", [None, b"", b"VXZ\0 and then nothing"])
def test_a_bad_file_leaves_what_was_there(tmp_path: Path, content: bytes | None) -> None:
    asset, out = tmp_path / "a.vxz", tmp_path / "a.glb"
    out.write_bytes(b"precious")
    if content is not None:
        asset.write_bytes(content)
    result = genesis("bake", asset, "-o", out, "--json")
    assert result.exit_code == 1 and str(asset) in json.loads(result.stdout)["error"]["message"]
    assert out.read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == (1 if content is None else 2)


@pytest.mark.parametrize(
    ("cells", "resolution", "code"),
    [(0, 16, "empty_structure"), (1, 16, "empty_structure"), (100, 4, "bad_asset")],
    ids=["no voxel", "one voxel", "outside of its grid"],
)
def test_voxels_without_a_surface_leave_what_was_there(tmp_path: Path, cells: int, resolution: int, code: str) -> None:
    voxels, out = analytic.voxelize(analytic.sphere(), 16), tmp_path / "a.glb"
    names = ("coords", "dual_vertices", "intersected", "attributes")
    rows = {name: getattr(voxels, name)[:cells] for name in names}
    write_vxz(tmp_path / "a.vxz", type(voxels)(**rows, resolution=resolution))
    out.write_bytes(b"precious")
    result = genesis("bake", tmp_path / "a.vxz", "-o", out, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["error"]["code"] == code
    assert out.read_bytes() == b"precious" and len(list(tmp_path.iterdir())) == 2


def test_inspect_judges_and_compare_scores(vxz: Path, tmp_path: Path) -> None:
    assert genesis("bake", vxz, "-o", tmp_path / "a.glb", *QUICK).exit_code == 0
    told = genesis("inspect", tmp_path / "a.glb")
    assert told.exit_code == 0 and "watertight" in told.output and "good" in told.output
    found = json.loads(genesis("inspect", tmp_path / "a.glb", "--json").stdout)
    assert {"name", "value", "verdict", "meaning"} == set(found["findings"][0])
    page = tmp_path / "page.html"
    result = genesis("compare", tmp_path / "a.glb", tmp_path / "a.glb", "--html", page, "--json")
    assert result.exit_code == 0 and len(json.loads(result.stdout)["scores"]) == 7 and page.stat().st_size > 10_000


def test_a_model_without_uvs_is_named(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "bare.glb")
    for command in (("inspect", tmp_path / "bare.glb"), ("compare", tmp_path / "bare.glb", tmp_path / "bare.glb")):
        result = genesis(*command, "--json")
        assert result.exit_code == 1 and "no texture coordinates" in json.loads(result.stdout)["error"]["message"]
