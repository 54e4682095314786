# SPDX-License-Identifier: Apache-2.0
"""A real Blender window under a virtual display, used as a person would, with a picture of each step.

    python tests/gui/run.py [--suite trixie|sid] [--shots FOLDER] [--batch]

Needs root on Debian (gui_blender.sh). The server runs outside of the tree in this interpreter's environment; Blender finds it
by its connection file in the shared /tmp. `walk.py` runs inside of Blender and asks for what only the display can do (clicks,
keys, pictures of the screen) by a file for each request; the loop below does it. Whether it worked says the report of the
script inside Blender, not a picture.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PICTURE = ROOT / "examples/cupcake.png"
SHOTS = ROOT / "docs/images"
TIME_LIMIT = 2400  # seconds for everything after the tree is there
PREPARE_LIMIT = 1800  # seconds to make the tree, once

# Does each request of the script in Blender once, in order, until it is done. Pictures get few colours: they are for a page.
DRIVE = """set -u
number=1
for _ in $(seq 1 {ticks}); do
  request={folder}/request.$number
  if [ -e "$request" ]; then
    read -r verb rest <"$request"
    case $verb in
      click) set -- $rest; xdotool mousemove "$1" "$2" sleep 0.3 click 1 sleep 0.2 mousemove 400 640;;
      point) xdotool mousemove $rest sleep 0.3;;
      drag) "{python}" "{here}/x11_offer.py" drag $rest;;
      copy) "{python}" "{here}/x11_offer.py" clipboard $rest & sleep 2;;
      key) set -- $rest; xdotool key "$1";;
      shot) set -- $rest
            import -silent -window root "{shots}/$1.png"
            [ -n "${{2:-}}" ] && mogrify -crop "$2" +repage "{shots}/$1.png"
            mogrify -strip -dither None -colors 200 "{shots}/$1.png";;
    esac
    touch "{folder}/answer.$number"
    number=$((number + 1))
  fi
  [ -e {folder}/done ] && exit 0
  sleep 0.1
done
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
    parser.add_argument("--batch", action="store_true", help="no window: the example of docs/scripting.md in `blender -b`")
    parser.add_argument("--shots", type=Path, default=SHOTS, help="where the pictures go")
    options = parser.parse_args()
    tool = HERE / "gui_blender.sh"
    subprocess.run(["bash", tool, "--suite", options.suite, "--prepare"], check=True, timeout=PREPARE_LIMIT)
    subprocess.run([sys.executable, ROOT / "build_addon.py", "--platform", "linux-x64"], check=True, cwd=ROOT, timeout=600)
    with tempfile.TemporaryDirectory(prefix="genesis-gui-", dir="/tmp") as name:
        report = drive(tool, Path(name), options)
    print(json.dumps(report, indent=1))
    if not report.get("ok"):
        raise SystemExit(report.get("failed", "The script in Blender did not come to its end."))


def window(tool: Path, folder: Path, options: argparse.Namespace) -> list[object]:
    """The command that opens Blender and follows walk.py."""
    options.shots.mkdir(parents=True, exist_ok=True)
    script = folder / "drive.sh"
    script.write_text(
        DRIVE.format(shots=options.shots.resolve(), ticks=10 * TIME_LIMIT, folder=folder, python=sys.executable, here=HERE)
    )
    command = ["bash", tool, "--suite", options.suite, "--script", HERE / "walk.py", "--ready", folder / "ready"]
    return [*command, "--drive", script, "--", "--factory-startup"]


def batch(tool: Path, folder: Path, job: dict, options: argparse.Namespace) -> list[object]:
    """The command that runs the example of docs/scripting.md without a window, on two pictures."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/scripting.md").read_text("utf-8"), re.DOTALL)
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("apple.png", "cupcake.png"):
        shutil.copy(ROOT / "examples" / name, pictures)
    job["example"] = str(folder / "example.py")
    Path(job["example"]).write_text(example, "utf-8")
    command = ["bash", tool, "--suite", options.suite, "--background", "--script", HERE / "batch.py", "--"]
    return [*command, "--", pictures, folder / "assets.blend"]


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
    command = batch(tool, folder, job, options) if options.batch else window(tool, folder, options)
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


if __name__ == "__main__":
    main()
