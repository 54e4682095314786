# SPDX-License-Identifier: Apache-2.0
"""What the worker can do: jobs one after the other, and questions beside them. Brings torch."""

from __future__ import annotations

import gc
import io
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genesis_server.assets import Asset
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.pipeline.texture_mesh import is_textured_mesh
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import REPORTED_STAGES, Event
from genesis_server.protocol.messages import CutOut, CutoutMade, Estimate, Forecast, JobRequest, Preview, Request
from genesis_server.protocol.presets import preset
from genesis_server.service.jobs import JobRunner, check_plan, load_model


class Workshop:
    """One process' work: a runner with its model, and answers from a thread of their own."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the server's, where times are remembered."""
        self._runner = JobRunner(folder)
        self._cutter: tuple[str, Model] | None = None  # with no network loaded but, at need, the background remover

    def run(
        self,
        request: JobRequest,
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        on_preview: Callable[[Preview], None],
    ) -> Asset:
        """Does a job."""
        return self._runner.run(request, on_event, cancelled, on_preview)

    def answer(self, request: Request) -> CutoutMade | Forecast:
        """Answers CutOut and Estimate; in another thread than `run`.

        Raises:
            GenesisError: BAD_IMAGE, NO_FOREGROUND, BAD_ASSET, BAD_PARAMETER, MODEL_MISSING.
        """
        if isinstance(request, CutOut):
            return self._cut_out(request)
        if isinstance(request, Estimate):
            return self._estimate(request)
        raise GenesisError(ErrorCode.BAD_MESSAGE, f"{type(request).__name__} is no question for a worker.")

    def unload(self) -> None:
        """Gives back the memory of the model."""
        self._runner.unload()
        self._cutter = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def model(self) -> tuple[str, bool]:
        """Id of the model used last, and whether it is in memory."""
        return self._runner.model_id, self._runner.loaded

    def device(self) -> dict[str, Any]:
        """Name, kind and memory of what is computed on; torch and Python."""
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            name, accelerated = torch.cuda.get_device_name(), True
        else:
            free, total = _machine_memory()
            name, accelerated = _processor(), False
        return {
            "device": name,
            "accelerated": accelerated,
            "memory_total": total,
            "memory_free": free,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _cut_out(self, request: CutOut) -> CutoutMade:
        picture = load_picture(Path(request.picture))
        if self._cutter is None or self._cutter[0] != request.model:
            self._cutter = (request.model, Model.load(request.model))
        cutout = cut_out(picture, request.background, self._cutter[1].remover())
        shown = cutout.picture
        shown.thumbnail((request.size, request.size))
        data = io.BytesIO()
        shown.save(data, "PNG")
        return CutoutMade(cutout.background, shown.width, shown.height, data.getvalue())

    def _estimate(self, request: Estimate) -> Forecast:
        if request.asset:
            asset = Asset.open(Path(request.asset), needed=())
            settings = asset.settings.with_values(request.changes)
            model_id, pictures, texturing = asset.model_id, len(asset.inputs), is_textured_mesh(asset)
            model = load_model(model_id, texturing)
            check_plan(model, settings, texturing)
            stages = self._runner.stages(asset.imagined(settings, request.backgrounds), model)
        else:
            settings = preset(request.preset).with_values(request.changes)
            model_id, pictures, stages, texturing = request.model, request.pictures, list(REPORTED_STAGES), False
            model = load_model(model_id, texturing)
            check_plan(model, settings, texturing)
        seconds, measured = self._runner.expected(model_id, model, settings, pictures, stages, texturing)
        return Forecast(tuple(stages), tuple(seconds[stage] for stage in stages), measured)


def _machine_memory() -> tuple[int, int]:
    """Bytes that are free and that there are; zeros where the system does not say."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return 0, total
    except (AttributeError, ValueError, OSError):
        return 0, 0


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or f"{platform.machine()} ({sys.platform})"
