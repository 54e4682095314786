# SPDX-License-Identifier: Apache-2.0
"""Time and memory of the main job on the CPU: a picture to a GLB with genesis-mini, and a re-bake, on two threads.

    python -m tests.benchmarks.generate [--model FOLDER] [--picture FILE] [--seed N]

*Cold* is the command in a process of its own, from its start to its end. *Warm* is the second picture of one process, as the
server's worker has it. Prints a table and one JSON line. The aims are those for two cores without a GPU. Beside the seconds
stands the processor's time: on a machine that does other things too, seconds are an upper bound, and two cores that had
nothing else to do would need about half of the processor's time, or more where one thread works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from genesis_server.service.threads import wait_asleep
from tests.benchmarks.server_latency import machine

ROOT = Path(__file__).resolve().parent.parent.parent
THREADS = 2
TIMEOUT = 600  # seconds for one process
AIMS = {"generate warm": 30.0, "re-bake cold": 10.0, "re-bake warm": 10.0}  # seconds
AIM_MEMORY = 3.0  # GB resident
SIZE, OTHER_SIZE = 1024, 512  # the re-bake is timed at the first; the second makes that there is something to do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "chair.png")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)  # this process is the warm one, and puts assets there
    options = parser.parse_args()
    if options.warm:
        print(json.dumps(warm(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options, Path(folder))
    print_table(report)
    print(json.dumps(report))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of the three processes."""
    genesis = [sys.executable, "-m", "genesis_server"]
    asset = folder / "cold.genesis"
    command = [*genesis, "generate", str(options.picture), "--model", options.model, "--seed", str(options.seed)]
    cold, cold_seconds, cold_cpu, cold_peak = run([*command, "-o", str(folder), "--name", "cold", "--json"])
    run([*genesis, "rebake", str(asset), "--texture-size", str(OTHER_SIZE), "--json"])
    _, rebake_seconds, rebake_cpu, rebake_peak = run([*genesis, "rebake", str(asset), "--texture-size", str(SIZE), "--json"])
    again = ["--model", options.model, "--picture", str(options.picture), "--seed", str(options.seed)]
    second, _, _, warm_peak = run([sys.executable, "-m", "tests.benchmarks.generate", "--warm", str(folder), *again])
    return {
        "benchmark": "generate",
        **machine(),
        "threads": THREADS,
        "model": options.model,
        "picture": options.picture.name,
        "seed": options.seed,
        "faces": cold["faces"],
        "seconds": {
            "generate cold": cold_seconds,
            "generate warm": second["generate"],
            "re-bake cold": rebake_seconds,
            "re-bake warm": second["rebake"],
        },
        "cpu_seconds": {
            "generate cold": cold_cpu,
            "generate warm": second["generate_cpu"],
            "re-bake cold": rebake_cpu,
            "re-bake warm": second["rebake_cpu"],
        },
        "stages": {"generate cold": cold["seconds"], "generate warm": second["stages"]},
        "peak_gb": {"generate cold": cold_peak, "re-bake cold": rebake_peak, "generate warm": warm_peak},
    }


def run(command: list[str]) -> tuple[dict[str, Any], float, float, float]:
    """What a process printed, its seconds from start to end, those of the processor, and its peak memory in GB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    wait_asleep(environment)  # as the worker and the command do
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.perf_counter() - start > TIMEOUT:
                process.kill()
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        output.seek(0)
        said = output.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said}")
    kilobytes = ended[2].ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    cpu = ended[2].ru_utime + ended[2].ru_stime
    return json.loads(said), round(seconds, 2), round(cpu, 2), round(kilobytes / 1e6, 2)


def warm(options: argparse.Namespace) -> dict[str, Any]:
    """The second generation and a re-bake in this process; seconds, the generation's also by stage."""
    from genesis_server.cli.quiet import start_warp

    start_warp()
    from genesis_server.protocol.messages import Rebake, Submit
    from genesis_server.service.jobs import JobRunner

    runner = JobRunner()

    def do(request: Submit | Rebake) -> tuple[dict[str, float], float, float]:
        start, cpu = time.perf_counter(), time.process_time()
        asset = runner.run(request, lambda event: None, lambda: False)
        return asset.seconds, round(time.perf_counter() - start, 2), round(time.process_time() - cpu, 2)

    picture, asset = str(options.picture.absolute()), str(options.warm / "warm.genesis")
    do(Submit((picture,), str(options.warm / "first.genesis"), options.model, changes={"seed": options.seed + 1}))
    stages, seconds, cpu = do(Submit((picture,), asset, options.model, changes={"seed": options.seed}))
    do(Rebake(asset, {"bake.texture_size": OTHER_SIZE}))
    _, rebake, rebake_cpu = do(Rebake(asset, {"bake.texture_size": SIZE}))
    return {"generate": seconds, "generate_cpu": cpu, "stages": stages, "rebake": rebake, "rebake_cpu": rebake_cpu}


def print_table(report: dict[str, Any]) -> None:
    """Seconds by stage, then the sums and memory beside their aims."""
    stages = report["stages"]
    print(f"{report['model']}, {report['picture']}, {report['faces']} faces; {report['machine']}, {THREADS} threads used")
    print(f"{'stage':16}{'cold':>8}{'warm':>8}  seconds")
    for stage, seconds in stages["generate cold"].items():
        print(f"{stage:16}{seconds:8.2f}{stages['generate warm'][stage]:8.2f}")
    print()
    for name, seconds in report["seconds"].items():
        aim = f"aim {AIMS[name]:g} s" if name in AIMS else ""
        peak = f"{report['peak_gb'][name]:.2f} GB of {AIM_MEMORY:g}" if name in report["peak_gb"] else ""
        print(f"{name:16}{seconds:8.2f} s  {aim:10}  {report['cpu_seconds'][name]:8.2f} s of the processor  {peak}")
    print(f"load of the machine {report['load']:.1f}")


if __name__ == "__main__":
    main()
