# SPDX-License-Identifier: Apache-2.0
"""A real worker process whose jobs do what the name of their first picture says; fault fixture of the server's tests.

quick     two stages of three steps
slow      200 steps of 50 ms that look at the cancel flag between them
deaf      as slow, but never looks
killed    dies by SIGKILL in the middle of a stage, every time
once      dies by SIGKILL the first time only; finished stages are kept in the asset's folder, as the pipeline does
raises    fails with an error that is no GenesisError
memory    fails as an allocation does
gpu       fails as a GPU that is gone does
hangs     says nothing any more
prints    writes to standard output, from Python and from below it

A picture whose name begins with `show` gives previews; a question about one called `dies` ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.messages import Answer, CutOut, CutoutMade, Forecast, JobRequest, Preview, Request
from genesis_server.service.worker import serve_jobs

COORDS = bytes(range(60)) * 10_000  # more than a pipe takes at once


class FakeWork:
    """Everything that the supervisor may ask of a worker."""

    loaded = False

    def run(
        self,
        request: JobRequest,
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        on_preview: Callable[[Preview], None],
    ) -> None:
        self.loaded = True
        if getattr(request, "previews", False):
            on_preview(Preview("", "voxels", 32, coords=COORDS))
        run(request, on_event, cancelled)

    def answer(self, request: Request) -> Answer:
        if isinstance(request, CutOut):
            if Path(request.picture).stem == "dies":
                os._exit(3)
            return CutoutMade("alpha", 8, 8, b"png of " + request.picture.encode())
        return Forecast(("mesh", "bake"), (1.0, 2.0), True)

    def unload(self) -> None:
        self.loaded = False

    def model(self) -> tuple[str, bool]:
        return "mini", self.loaded

    def device(self) -> dict[str, Any]:
        return {"device": "Abacus", "accelerated": True, "memory_total": 8, "memory_free": 3, "torch": "2", "python": "3"}


def run(request: JobRequest, on_event: Callable[[Event], None], cancelled: Callable[[], bool]) -> None:
    asset = Path(request.asset)
    asset.mkdir(exist_ok=True)
    behaviour = Path(request.pictures[0]).stem if hasattr(request, "pictures") else "quick"
    for index, stage in enumerate(("structure", "shape")):
        if (asset / stage).exists():
            continue
        on_event(Event(EventKind.STAGE_STARTED, stage, index / 2, 0, 3))
        misbehave(behaviour, stage, asset, on_event, cancelled)
        for step in range(3):
            on_event(Event(EventKind.STEP, stage, index / 2 + (step + 1) / 6, step + 1, 3))
        (asset / stage).touch()
        on_event(Event(EventKind.STAGE_FINISHED, stage, (index + 1) / 2, 3, 3, 0.01))
    (asset / "thumbnail.png").write_bytes(b"a picture")


def misbehave(
    behaviour: str, stage: str, asset: Path, on_event: Callable[[Event], None], cancelled: Callable[[], bool]
) -> None:
    if behaviour in ("slow", "deaf"):
        for step in range(200):
            on_event(Event(EventKind.STEP, stage, 0.0, step + 1, 200))
            time.sleep(0.05)
            if behaviour == "slow" and cancelled():
                raise GenesisError(ErrorCode.CANCELLED, "Cancelled.")
    elif (behaviour == "killed" or (behaviour == "once" and not (asset / "died").exists())) and stage == "shape":
        (asset / "died").touch()
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    elif behaviour == "raises":
        raise ZeroDivisionError("a mistake in the code")
    elif behaviour == "memory":
        raise MemoryError("could not allocate 99 GB")
    elif behaviour == "gpu":
        raise RuntimeError("CUDA error: unspecified launch failure")
    elif behaviour == "hangs":
        time.sleep(600)
    elif behaviour == "prints":
        sys.stdout.write("a library says something\n")
        sys.stdout.flush()
        os.write(1, b'{"say": "finished", "job": "not a message"}\n')


if __name__ == "__main__":
    serve_jobs(FakeWork)
