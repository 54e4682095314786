# SPDX-License-Identifier: Apache-2.0
"""How fast the server reacts: ready, answers, first progress of a warm worker, cancel. Prints a table and one JSON line.

    python tests/benchmarks/server_latency.py [--picture examples/chair.png] [--repeat 5] [--seed 0]

Uses `genesis serve` with the real worker and genesis-mini, in a folder of its own. The aims are those of the project: ready
in under 1 s, first event under 2 s after submit when the worker is warm, cancel within one sampler step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from genesis_server.protocol.client import Client
from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.launch import start_server
from genesis_server.protocol.messages import Cancel, CutOut, Estimate, Hello, JobEvent, Ping, Shutdown, Submit, Watch

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0  # seconds for any one thing
PINGS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "chair.png")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genesis-latency-") as folder:
        rows = measure(Path(folder), options)
    width = max(map(len, rows))
    for name, values in rows.items():
        spread = f"(of {len(values)}, {min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        print(f"{name:{width}}  {statistics.median(values):8.4f} s  {spread}")
    medians = {name: round(statistics.median(values), 5) for name, values in rows.items()}
    print(json.dumps({"seconds": medians, "seed": options.seed, "model": options.model, **machine()}))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    ready = [start_and_stop(folder / f"start{index}") for index in range(options.repeat)]
    began = time.perf_counter()
    launch = start_server(sys.executable, folder / "server.json", os.getpid())
    launch.wait()
    with Client(folder / "server.json") as client:
        client.request(Watch())
        warm = wait_for(lambda: client.request(Hello("benchmark")).worker == "idle" and time.perf_counter()) - began
        pings = [timed(lambda: client.request(Ping())) for _ in range(PINGS)]
        question, cut = Estimate(model=options.model), CutOut(str(options.picture.resolve()), model=options.model)
        client.request(question)
        estimates = [timed(lambda: client.request(question)) for _ in range(options.repeat)]
        cutouts = [timed(lambda: client.request(cut)) for _ in range(options.repeat)]
        try:
            runs = [first_event_and_cancel(client, folder, options, index) for index in range(options.repeat + 1)]
        finally:
            client.request(Shutdown())
            launch.process.wait(PATIENCE)
    first, step, length, cancel = zip(*runs, strict=True)
    return {
        "supervisor ready": ready,
        "worker warm after start": [warm],
        "ping": pings,
        "estimate": estimates,
        "cut-out": cutouts,
        "first event, first job": [first[0]],
        "first event, warm worker": list(first[1:]),
        "first sampler step, first job": [step[0]],
        "first sampler step, warm worker": list(step[1:]),
        "one sampler step": list(length[1:]),
        "cancel during sampling": list(cancel[1:]),
    }


def start_and_stop(folder: Path) -> float:
    """Seconds from starting the process to an answered request."""
    began = time.perf_counter()
    launch = start_server(sys.executable, folder / "server.json", os.getpid())
    launch.wait()
    with Client(folder / "server.json") as client:
        client.connect()
        seconds = time.perf_counter() - began
        client.request(Shutdown())
    launch.process.wait(PATIENCE)
    return seconds


def first_event_and_cancel(
    client: Client, folder: Path, options: argparse.Namespace, index: int
) -> tuple[float, float, float, float]:
    """Seconds from submit to the first stage's event and to the first sampler step, of the next step, and from cancel to the
    end of the job."""
    began = time.perf_counter()
    changes = {"seed": options.seed + index}
    request = Submit((str(options.picture.resolve()),), str(folder / f"{index}.genesis"), options.model, changes=changes)
    job = client.request(request).jobs[0].id
    stage = wait_for(lambda: event_of(client, job, lambda event: event.kind == "stage_started"))
    first = time.perf_counter() - began
    assert stage.job.stage == "cutout"
    wait_for(lambda: event_of(client, job, lambda event: event.kind == "step" and event.job.step > 0))
    step = time.perf_counter() - began
    wait_for(lambda: event_of(client, job, lambda event: event.kind == "step" and event.job.step > 1))
    asked = time.perf_counter()
    length = asked - began - step
    client.request(Cancel(job))
    wait_for(lambda: event_of(client, job, lambda event: event.job.state == "cancelled"))
    return first, step, length, time.perf_counter() - asked


def event_of(client: Client, job: str, wanted: Callable[[JobEvent], bool]) -> JobEvent | None:
    for item in client.wait(0.2):
        message = item.message
        if isinstance(message, JobEvent) and message.job.id == job:
            if message.job.error is not None:
                raise GenesisError.from_json(message.job.error)
            if wanted(message):
                return message
    return None


def wait_for(look: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE} s in vain")
    return found


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def machine() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    main()
