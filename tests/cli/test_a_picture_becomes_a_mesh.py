# SPDX-License-Identifier: Apache-2.0
"""`genesis generate`, again, `rebake`: the command as a user runs it, with the real pipeline and a tiny random model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

pytestmark = pytest.mark.slow  # loads torch in processes of its own
PATIENCE = 120.0  # seconds; each call loads torch, the first compiles kernels
SMALL = ("--preset", "draft", "--faces", "300", "--texture-size", "256")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model and two views of a ball."""
    folder = tmp_path_factory.mktemp("cli")
    path = Path(__file__).resolve().parents[1] / "pipeline" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_tiny_model(folder / "model")
    for name, colour in (("front", (200, 80, 40)), ("back", (40, 80, 200))):
        image = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=(*colour, 255))
        image.save(folder / f"{name}.png")
    return folder


def genesis(place: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "genesis_server", *arguments, "--json"]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def test_two_views_become_one_asset_and_the_same_command_again_changes_nothing(place) -> None:
    arguments = ("generate", "front.png", "back.png", "--name", "ball", "-o", "out", "--model", "model", *SMALL)
    first = genesis(place, *arguments)
    glb = Path(first["glb"])
    assert glb == place / "out" / "ball.genesis" / "model.glb"
    assert glb.read_bytes()[:4] == b"glTF"
    assert 0 < first["faces"] <= 300
    assert list(first["seconds"]) == ["cutout", "structure", "shape", "texture", "voxels", "mesh"]
    assert (glb.parent / "cutout_1.png").exists()
    written = glb.stat().st_mtime_ns
    assert genesis(place, *arguments) == first
    assert glb.stat().st_mtime_ns == written
    again = genesis(place, "rebake", "out/ball.genesis", "--texture-size", "512")
    assert again["texture_size"] == 512
    assert {**again["seconds"], "mesh": 0} == {**first["seconds"], "mesh": 0}  # no other stage was run again
    seen = genesis(place, "inspect", str(glb))
    assert seen["faces"] == again["faces"]
    assert seen["textures"]["base_color"] == [512, 512]
