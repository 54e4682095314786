# SPDX-License-Identifier: Apache-2.0
"""A real Blender window under a virtual display: install the zip, click Generate, wait for the object, take screenshots.

    python tests/gui/run.py [--suite trixie|sid]

Needs root on Debian (gui_blender.sh). The server runs outside of the tree in this interpreter's environment; Blender finds
it by its connection file in the shared /tmp. Whether it worked says the report of the script inside Blender, not a picture.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PICTURE = ROOT / "examples/cupcake.png"
SHOTS = ROOT / "docs/images"
TIME_LIMIT = 600  # seconds for everything after the tree is there
PREPARE_LIMIT = 1800  # seconds to make the tree, once

# clicks on Generate where the script in Blender says that it is, and waits for that script
DRIVE = """set -eu
import -silent -window root {panel}
read -r x y <{folder}/button
xdotool mousemove "$x" "$y" sleep 0.3 click 1 sleep 0.2 mousemove 400 300
for _ in $(seq 1 {seconds}); do [ -e {folder}/done ] && exit 0; sleep 1; done
exit 5
"""


def model_id(folder: Path) -> str:
    """genesis-mini, or where its weights are not there a tiny model of random weights in the same schema."""
    if (ROOT / "genesis_server/mini/weights/pipeline.json").exists():
        return "mini"
    spec = importlib.util.spec_from_file_location("tiny_model", ROOT / "tests/pipeline/tiny_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.write_tiny_model(folder / "tiny"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("trixie", "sid"), default="trixie", help="Blender 4.3, or the newest")
    options = parser.parse_args()
    tool = HERE / "gui_blender.sh"
    subprocess.run(["bash", tool, "--suite", options.suite, "--prepare"], check=True, timeout=PREPARE_LIMIT)
    subprocess.run([sys.executable, ROOT / "build_addon.py", "--platform", "linux-x64"], check=True, cwd=ROOT, timeout=600)
    with tempfile.TemporaryDirectory(prefix="genesis-gui-", dir="/tmp") as name:
        report = drive(tool, Path(name), options)
    print(json.dumps(report, indent=1))
    check(report)


def drive(tool: Path, folder: Path, options: argparse.Namespace) -> dict:
    """What the script in Blender reported."""
    from genesis_server.protocol.client import Client
    from genesis_server.protocol.launch import start_server
    from genesis_server.protocol.messages import Shutdown

    connection = folder / "server.json"
    picture = Path(shutil.copy(PICTURE, folder))
    archive = Path(shutil.copy(next((ROOT / "dist").glob("genesis-*-linux-x64.zip")), folder))
    job = {"zip": str(archive), "picture": str(picture), "connection_file": str(connection), "folder": str(folder)}
    job["model"] = model_id(folder)
    SHOTS.mkdir(parents=True, exist_ok=True)
    script = folder / "drive.sh"
    script.write_text(DRIVE.format(panel=SHOTS / "panel.png", seconds=TIME_LIMIT // 2, folder=folder))
    command = ["bash", tool, "--suite", options.suite, "--script", HERE / "show_panel.py", "--ready", folder / "panel_ready"]
    command += ["--drive", script, "--shot", SHOTS / "result_in_blender.png", "--", "--factory-startup"]
    environment = {**os.environ, "GENESIS_GUI_JOB": json.dumps(job)}
    launch = start_server(sys.executable, connection, os.getpid())
    launch.wait()
    try:
        # /tmp is the working directory, because gui_blender.sh shows the tree the one it is called from
        code = subprocess.run(command, env=environment, cwd=folder, timeout=TIME_LIMIT, check=False).returncode
    finally:
        with Client(connection) as client:
            client.request(Shutdown())
        launch.process.wait(30)
    if not (folder / "report.json").exists():
        raise SystemExit(f"Blender gave no report (gui_blender.sh ended with {code}).")
    return json.loads((folder / "report.json").read_text("utf-8"))


def check(report: dict) -> None:
    """Ends with an error where something is not as it should be."""
    if not report.get("ok"):
        raise SystemExit(report.get("failed", "The script in Blender did not come to its end."))
    made = report["object"]
    wrong = [
        words
        for words, right in (
            ("the object is a mesh with faces", made["type"] == "MESH" and made["faces"] > 0),
            ("it has its two textures", len(made["images"]) == 2),
            ("it is at the 3D cursor", made["at_cursor"]),
            ("its settings are stored", "seed" in made["stored"]),
            ("undo gives the placeholder back", report["undo"]["placeholders"] == ["EMPTY"]),
            ("redo gives the object back, once", report["undo"]["after_redo"] == ["MESH"]),
        )
        if not right
    ]
    if wrong:
        raise SystemExit("Not so: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
