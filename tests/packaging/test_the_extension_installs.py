# SPDX-License-Identifier: Apache-2.0
"""The built zips: valid, complete, and installable into a fresh Blender that has no zmq of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import HERE, PLATFORMS, ROOT

MAX_SIZE = 10_000_000  # bytes of a zip without weights

# runs in Blender; the last line of its output is the report. The environment's own zmq is hidden, so that only the bundled
# one can be imported. Ends at once: bpy 4.x hangs when anything is still registered (docs/spec/platform.md 2)
INSTALL = """
import importlib.abc, json, os, sys
sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != sys.argv[2]]
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "zmq" or name == "genesis_server":
            from importlib.machinery import PathFinder
            home = os.environ["BLENDER_USER_RESOURCES"]
            return PathFinder.find_spec(name, [entry for entry in sys.path if entry.startswith(home)])
import bpy, addon_utils
sys.meta_path.insert(0, Hide())
addon_utils.enable("bl_pkg", default_set=True)
bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo="user_default", enable_on_install=True)
import zmq, genesis_server.protocol.client
report = {
    "enabled": "bl_ext.user_default.genesis" in bpy.context.preferences.addons,
    "zmq": zmq.__file__, "curve": zmq.has("curve"), "protocol": genesis_server.protocol.client.__file__,
    "operator": bpy.ops.genesis.generate.idname_py(), "blender": bpy.app.version_string,
}
print(json.dumps(report), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_zip_holds_what_its_manifest_says(zips: dict[str, Path], platform: str) -> None:
    assert zips[platform].stat().st_size < MAX_SIZE
    with zipfile.ZipFile(zips[platform]) as archive:
        names = set(archive.namelist())
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert manifest["platforms"] == [platform]
    wheels = {name for name in names if name.startswith("wheels/")}
    assert {wheel.removeprefix("./") for wheel in manifest["wheels"]} == wheels
    assert not any("abi3" in name for name in names), "Blender refuses an abi3 wheel beside a cp311 one"
    assert {"__init__.py", "panels/main.py", "LICENSE"} <= names


def test_the_protocol_wheel_holds_the_protocol_alone(zips: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(zips[HERE]) as archive:
        (wheel,) = [name for name in archive.namelist() if "genesis_protocol" in name]
        with zipfile.ZipFile(archive.open(wheel)) as inner:
            modules = {name for name in inner.namelist() if name.endswith(".py")}
    rooms = {name.split("/")[1] for name in modules}
    assert rooms == {"__init__.py", "protocol"}


def test_the_same_sources_give_the_same_bytes(zips: dict[str, Path]) -> None:
    before = zips[HERE].read_bytes()
    command = [sys.executable, "build_addon.py", "--platform", HERE]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert zips[HERE].read_bytes() == before


def test_blender_finds_the_zip_valid(zips: dict[str, Path], bpy_python: Path) -> None:
    command = [sys.executable, "build_addon.py", "--platform", HERE, "--validate", str(bpy_python)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_extension_brings_its_own_zmq_and_protocol(
    zips: dict[str, Path], bpy_python: Path, tmp_path: Path
) -> None:
    script = tmp_path / "install.py"
    script.write_text(INSTALL)
    home = tmp_path / "blender"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["BLENDER_USER_RESOURCES"] = str(home)
    done = subprocess.run(
        [bpy_python, script, zips[HERE], ROOT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    assert report["enabled"] and report["curve"]
    assert Path(report["zmq"]).is_relative_to(home) and Path(report["protocol"]).is_relative_to(home)
    assert report["operator"] == "genesis.generate"
