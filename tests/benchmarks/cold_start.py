# SPDX-License-Identifier: Apache-2.0
"""From weights in the page cache to the first step: `python -m tests.benchmarks.cold_start [--folder DIR] [--json FILE]`.

Writes all networks of the published model with random weights, in the published layout, to a folder in memory (16.5 GB); then
new processes load them as every run does and begin an object. Two ways are timed: as a run goes, each network when it is first
used, until the first step of the first stage is done; and with all networks brought to the device before that. The first
process compiles the kernels, which the second finds on the disk. `--tiny` does all of it with small networks on any device.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BAR = 8.0  # seconds, everything on the device and the first step done


def start(folder: Path, everything: bool, started: float) -> dict[str, float]:
    """Seconds since the process was started, at each event."""
    events: dict[str, float] = {}

    def note(name: str) -> None:
        events[name] = time.time() - started

    import torch
    from PIL import Image

    import genesis_server.networks.image_encoder  # noqa: F401  transformers, which the first picture would bring in
    from genesis_server.assets import Asset
    from genesis_server.pipeline.generate import generate
    from genesis_server.pipeline.model import ENCODER, Model
    from genesis_server.protocol.errors import ErrorCode, GenesisError
    from genesis_server.protocol.events import Event, EventKind
    from genesis_server.protocol.parameters import GenerateSettings

    note("imported")
    model = Model.load(str(folder), "cuda" if torch.cuda.is_available() else "cpu")
    note("checked")
    for role, load in list(model._loaders.items()):

        def loading(*arguments: Any, role: str = role, load: Any = load, **keywords: Any) -> Any:
            note(f"{role} begun")
            network = load(*arguments, **keywords)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            note(role)
            return network

        model._loaders[role] = loading
    if everything:
        for role in (*model.config.models, ENCODER):
            with model.use(role):
                pass
    picture = Image.new("RGBA", (512, 512))
    picture.paste((200, 120, 40, 255), (100, 100, 400, 400))
    begun = False

    def tell(event: Event) -> None:
        nonlocal begun
        if event.kind == EventKind.STAGE_FINISHED:
            note(event.stage)
        if event.kind == EventKind.STEP and event.stage == "structure" and event.step == 0:
            note("sampling begins")
        if event.kind == EventKind.STEP and event.stage == "structure" and event.step >= 1 and not begun:
            begun = True
            note("first step")

    with tempfile.TemporaryDirectory() as place:
        asset = Asset.create(Path(place) / "a.genesis", [picture], GenerateSettings(), "random")
        try:
            generate(asset, model, tell, lambda: begun)
        except GenesisError as error:
            if error.code != ErrorCode.CANCELLED:
                raise
    return events


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the weights are written, and removed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--start", nargs=3, metavar=("FOLDER", "ALL", "TIME"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.start:
        folder, everything, started = chosen.start
        print(json.dumps(start(Path(folder), everything == "1", float(started))), flush=True)
        return 0
    from tests.benchmarks.published_model import write_model  # not in the processes that are timed

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        began = time.perf_counter()
        size = write_model(Path(place), chosen.tiny)
        print(f"{size / 1e9:.1f} GB written in {time.perf_counter() - began:.0f} s", flush=True)
        for everything in ("0", "1"):
            command = [sys.executable, "-m", __spec__.name, "--start", place, everything, str(time.time())]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                print(done.stderr[-2000:], flush=True)
                return 1
            events = json.loads(done.stdout.splitlines()[-1])
            results.append({"everything": everything == "1", "events": events, "bytes": size})
            whole, imports = events["first step"], events["imported"]
            name = "all networks on the device first" if everything == "1" else "as a run goes"
            print(f"{name}: first step after {whole - imports:.2f} s, and {imports:.2f} s of imports before", flush=True)
            print("   " + "  ".join(f"{key} {value:.2f}" for key, value in events.items()), flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(results, indent=1))
    print(f"bar {BAR:.0f} s: {'met' if whole - imports <= BAR else 'OVER'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
