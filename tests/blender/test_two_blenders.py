# SPDX-License-Identifier: Apache-2.0
"""Two Blenders at the same time, each a process of its own: one server for both, and neither gets in the other's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
from conftest import ROOT, Blender
from test_generate import generate

# what each of them does: start the server if there is none, make two objects of one picture, tell what came
SCRIPT = """
import json, os, sys
import bpy
picture, model, python, file = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.preferences.addons.new().module = "blender_addon"
import blender_addon
blender_addon.register()
chosen = bpy.context.preferences.addons["blender_addon"].preferences
chosen.python, chosen.model, chosen.connection_file = python, model, file
scene = bpy.context.scene.genesis
scene.preset = "draft"
scene.settings.bake.faces, scene.settings.bake.texture_size = 800, 128
bpy.ops.genesis.add_pictures(filepath=picture)
for _ in range(2):
    bpy.ops.genesis.generate()
bpy.ops.genesis.wait(timeout=200)
made = [[item.name, item.data.genesis.imported, item.data.genesis.asset] for item in bpy.data.objects]
pid = json.load(open(file))["pid"]
blender_addon.unregister()
sys.stdout.write("MADE " + json.dumps({"made": made, "pid": pid}) + chr(10))
sys.stdout.flush()
os._exit(0)
"""


def test_two_blenders_share_one_server(
    blender: Blender, picture: Path, model: str, server_python: Path, tmp_path: Path
) -> None:
    script, file = tmp_path / "one.py", tmp_path / "server.json"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(picture), model, str(server_python), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GENESIS_HOME": str(tmp_path)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) for _ in range(2)]
    said = [process.communicate(timeout=230)[0].decode() for process in both]
    told = []
    for text in said:
        lines = [line for line in text.splitlines() if line.startswith("MADE ")]
        assert lines, text
        told.append(json.loads(lines[0].removeprefix("MADE ")))
    assert told[0]["pid"] == told[1]["pid"], "both started one, and the second gave way"
    assets = [asset for one in told for _, imported, asset in one["made"] if imported]
    assert len(set(assets)) == 4, "no two results share a folder"


def test_a_server_of_another_release_is_replaced_by_its_button(
    blender: Blender, picture: Path, server_python: Path, tmp_path: Path
) -> None:
    file = tmp_path / "server.json"
    command = [str(server_python), str(ROOT / "tests/service/serve_newer.py"), str(file)]
    newer = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        blender.pump_until(file.exists, patience=60.0)
        blender.preferences.connection_file = str(file)
        assert bpy.ops.genesis.start_server() == {"FINISHED"}
        blender.pump_until(lambda: blender.session.connected, patience=60.0)
        assert newer.wait(30) == 0 and blender.session.error is None
        generate(blender, picture)
        blender.session.stop()
        blender.pump_until(lambda: not blender.session.link.stopping, patience=30.0)
    finally:
        newer.kill()
