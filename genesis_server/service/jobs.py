# SPDX-License-Identifier: Apache-2.0
"""What a job does: from a request to a finished asset folder. The worker runs it, and the command line without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from genesis_server.assets.asset import Asset
from genesis_server.pipeline.cutout import check_alpha
from genesis_server.pipeline.generate import generate, reported_stages
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.messages import JobRequest, Preview, Rebake, Submit
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.protocol.presets import preset
from genesis_server.service.intake import WHOLE, check_changes
from genesis_server.service.timings import Timings, work_of


class JobRunner:
    """Runs jobs one after the other and keeps the last model loaded between them.

    Attributes:
        model_id: of the model used last; empty before the first.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is where times are remembered; None for nowhere."""
        self.model_id = ""
        self._model: Model | None = None
        self._timings = Timings(folder)

    @property
    def loaded(self) -> bool:
        """Whether a model is in memory."""
        return self._model is not None

    def unload(self) -> None:
        """Forgets the model; the next job loads it again."""
        self._model = None

    def run(
        self,
        request: JobRequest,
        on_event: Callable[[Event], None],
        cancelled: Callable[[], bool],
        on_preview: Callable[[Preview], None] | None = None,
    ) -> Asset:
        """Does one job; a stage that the asset's folder already has is not done again.

        Args:
            on_preview: shown structure and bare shape on the way, where the request asks for previews.

        Raises:
            GenesisError: for bad input before work starts, CANCELLED, or what stopped the work.
        """
        asset = self._asset(request)
        model = None if isinstance(request, Rebake) else self._load(asset.model_id)
        stages = reported_stages(asset, model)
        settings, pictures = asset.settings, len(asset.inputs)
        what = _what(model, asset.model_id, settings)
        work = {stage: work_of(stage, settings, pictures, _steps(model)) for stage in stages}

        def heard(event: Event) -> None:
            if event.kind == EventKind.STAGE_FINISHED:
                self._timings.record(what, event.stage, work[event.stage], event.seconds)
            on_event(event)

        expected = self._timings.expect(what, stages, work, _accelerated(model))
        generate(asset, model, heard, cancelled, expected, on_preview if getattr(request, "previews", False) else None)
        return asset

    def expected(
        self, model_id: str, model: Model, settings: GenerateSettings, pictures: int, stages: Sequence[str]
    ) -> dict[str, float]:
        """Seconds that each stage would take."""
        work = {stage: work_of(stage, settings, pictures, _steps(model)) for stage in stages}
        return self._timings.expect(_what(model, model_id, settings), stages, work, _accelerated(model))

    def measured(self, model_id: str, model: Model, settings: GenerateSettings, stages: Sequence[str]) -> bool:
        """Whether `expected` comes from earlier runs."""
        return self._timings.measured(_what(model, model_id, settings), stages)

    def _asset(self, request: JobRequest) -> Asset:
        """The asset with what it is asked to become; touched only once nothing is wrong with the request."""
        if isinstance(request, Submit):
            settings = preset(request.preset).with_values(request.changes)
            pictures = {name: load_picture(Path(name)) for name in request.pictures}
            for name, picture in pictures.items():
                check_alpha(picture, name)
            self._load(request.model).plan(settings.resolution)
            views = [pictures[name] for name in request.pictures]
            return Asset.create(Path(request.asset), views, settings, request.model, request.backgrounds)
        check_changes(request.changes, bake_only=isinstance(request, Rebake))
        asset = Asset.open(Path(request.asset), needed=WHOLE[type(request)])
        settings = asset.settings.with_values(request.changes)
        if not isinstance(request, Rebake):
            self._load(asset.model_id).plan(settings.resolution)
        asset.change(settings, getattr(request, "backgrounds", ()))
        return asset

    def _load(self, model_id: str) -> Model:
        if self._model is None or self.model_id != model_id:
            self._model = None  # two models at once may not fit
            self._model = Model.load(model_id)
            self.model_id = model_id
        return self._model


def _what(model: Model | None, model_id: str, settings: GenerateSettings) -> str:
    """The word under which times are remembered."""
    return f"{model_id} {settings.resolution or 'default'} {model.device.type if model else 'cpu'}"


def _steps(model: Model | None) -> dict[str, int]:
    return {name: sampler.steps for name, sampler in model.config.samplers.items()} if model is not None else {}


def _accelerated(model: Model | None) -> bool:
    return model is not None and model.device.type == "cuda"
