# SPDX-License-Identifier: Apache-2.0
"""The static repository: Blender's own tool would list the same, and Blender installs from its URL; the edition with weights
holds a server that works."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from places import BUILD_TIMEOUT, HERE, ROOT

TIMEOUT = 180  # seconds for Blender
# runs in Blender, as a user who adds the URL and presses Install; the last line of its output is the report
ADD_REPOSITORY = """
import importlib, json, os, sys
import bpy, addon_utils
addon_utils.enable("bl_pkg", default_set=True)
bpy.context.preferences.system.use_online_access = True
repositories = bpy.context.preferences.extensions.repos
repositories.new(name="Genesis", module="genesis_repository", remote_url=sys.argv[1])
index = len(repositories) - 1
bpy.ops.extensions.repo_sync(repo_index=index)
bpy.ops.extensions.package_install(repo_index=index, pkg_id="genesis", enable_on_install=True)
name = "bl_ext.genesis_repository.genesis"
bundle = importlib.import_module(name + ".backend").find_bundle()
report = {"enabled": name in bpy.context.preferences.addons, "server": str(bundle.server), "torch": bundle.torch}
print("\\n" + json.dumps(report), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository of the edition with weights, for this platform."""
    folder = tmp_path_factory.mktemp("repository")
    command = [sys.executable, "build_addon.py", "--edition", "mini", "--platform", HERE, "--repo", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    """Where it is served, by a web server that knows nothing of it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.json"
        server.shutdown()


def test_blenders_own_tool_would_list_the_same(repository: Path, blender_tool: list[str]) -> None:
    ours = json.loads((repository / "index.json").read_text("utf-8"))
    subprocess.run(
        [*blender_tool, "server-generate", "--repo-dir", str(repository)], check=True, capture_output=True, timeout=TIMEOUT
    )
    assert json.loads((repository / "index.json").read_text("utf-8")) == ours


def test_blender_installs_from_the_url(url: str, bpy_python: Path, tmp_path: Path) -> None:
    script = tmp_path / "add.py"
    script.write_text(ADD_REPOSITORY)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and "proxy" not in name.lower()}
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "blender")
    done = subprocess.run(
        [bpy_python, script, url], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["enabled"] and report["torch"]
    assert Path(report["server"]).is_relative_to(tmp_path)


def test_the_servers_wheel_works_by_itself(repository: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(repository.glob("*.zip"))) as archive:
        (name,) = [name for name in archive.namelist() if name.startswith("bundle/genesis_server")]
        archive.extract(name, tmp_path)
        requirements = archive.read("bundle/requirements.txt").decode()
    assert "pytest" not in requirements and "torch==" in requirements
    venv.create(tmp_path / "environment", with_pip=False)
    python = tmp_path / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # its packages are those of this environment, itself is the wheel, which Python reads as it is
    places = [str(tmp_path / name), *(place for place in sys.path if place.endswith("site-packages"))]
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import genesis_server, native_ext; from genesis_server.cli.root import main; "
        "print(genesis_server.__file__); main(['--version'])"
    )
    said = subprocess.run(
        [python, "-c", code, *places], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=True
    ).stdout
    assert str(tmp_path / name) in said and "genesis, version" in said
    with zipfile.ZipFile(tmp_path / name) as wheel:
        names = set(wheel.namelist())
    assert "genesis_server/mini/weights/pipeline.json" in names and "native_ext/rasterize.py" in names
    assert any(name.endswith("entry_points.txt") for name in names)


def test_the_edition_without_weights_has_none(zips: dict[str, Path]) -> None:
    with zipfile.ZipFile(zips[HERE]) as archive:
        (name,) = [name for name in archive.namelist() if name.startswith("bundle/genesis_server")]
        with archive.open(name) as file, zipfile.ZipFile(file) as wheel:
            assert not [inner for inner in wheel.namelist() if "weights" in inner]
