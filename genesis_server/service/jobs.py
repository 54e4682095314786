# SPDX-License-Identifier: Apache-2.0
"""What a job does: from a request to a finished asset folder. The worker runs it, and the command line without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from genesis_server.assets.asset import Asset
from genesis_server.pipeline.config import CONFIG_FILE
from genesis_server.pipeline.cutout import check_alpha
from genesis_server.pipeline.generate import generate, reported_stages
from genesis_server.pipeline.model import Model, texturing_configuration
from genesis_server.pipeline.picture import load_picture
from genesis_server.pipeline.texture_mesh import check_mesh, is_textured_mesh, reported_texturing_stages, texture_mesh
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.messages import JobRequest, Preview, Rebake, Submit, TextureMesh
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
        self._loaded = ("", False)
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
        asset, mesh = self._asset(request), _mesh_of(request)
        texturing = mesh is not None or is_textured_mesh(asset)
        model = None if isinstance(request, Rebake) else self._load(asset.model_id, texturing)
        stages = self.stages(asset, model, mesh)
        settings, pictures = asset.settings, len(asset.inputs)
        what = _what(model, asset.model_id, settings, texturing)
        work = {stage: work_of(stage, settings, pictures, _steps(model)) for stage in stages}

        def heard(event: Event) -> None:
            if event.kind == EventKind.STAGE_FINISHED:
                self._timings.record(what, event.stage, work[event.stage], event.seconds)
            on_event(event)

        expected = self._timings.expect(what, stages, work, _accelerated(model))
        if texturing:
            texture_mesh(asset, mesh, model, heard, cancelled, expected)
        else:
            generate(asset, model, heard, cancelled, expected, on_preview if getattr(request, "previews", False) else None)
        return asset

    @staticmethod
    def stages(asset: Asset, model: Model | None, mesh: Path | None = None) -> list[str]:
        """The stages that would run, by the names under which progress is told."""
        if mesh is not None or is_textured_mesh(asset):
            return reported_texturing_stages(asset, mesh, model)
        return reported_stages(asset, model)

    def expected(
        self, model_id: str, model: Model, settings: GenerateSettings, pictures: int, stages: Sequence[str], texturing: bool
    ) -> tuple[dict[str, float], bool]:
        """Seconds that each stage would take, and whether that is known from earlier runs."""
        what = _what(model, model_id, settings, texturing)
        work = {stage: work_of(stage, settings, pictures, _steps(model)) for stage in stages}
        return self._timings.expect(what, stages, work, _accelerated(model)), self._timings.measured(what, stages)

    def _asset(self, request: JobRequest) -> Asset:
        """The asset with what it is asked to become; touched only once nothing is wrong with the request."""
        if isinstance(request, (Submit, TextureMesh)):
            settings = preset(request.preset).with_values(request.changes)
            pictures = {name: load_picture(Path(name)) for name in request.pictures}
            choices = request.backgrounds or ("",) * len(request.pictures)
            for name, choice in zip(request.pictures, choices, strict=True):
                if (choice or settings.background) != "remove":
                    check_alpha(pictures[name], name)
            texturing = isinstance(request, TextureMesh)
            if texturing:
                check_mesh(Path(request.mesh))
            check_plan(self._load(request.model, texturing), settings, texturing)
            views = [pictures[name] for name in request.pictures]
            return Asset.create(Path(request.asset), views, settings, request.model, request.backgrounds)
        check_changes(request.changes, bake_only=isinstance(request, Rebake))
        asset = Asset.open(Path(request.asset), needed=WHOLE[type(request)])
        settings = asset.settings.with_values(request.changes)
        if isinstance(request, Rebake):
            return asset.imagined(settings)  # written with the new mesh: a re-bake that is cancelled leaves no trace
        check_plan(self._load(asset.model_id, is_textured_mesh(asset)), settings, is_textured_mesh(asset))
        asset.change(settings, request.backgrounds)
        return asset

    def _load(self, model_id: str, texturing: bool = False) -> Model:
        if self._model is None or self._loaded != (model_id, texturing):
            self._model = None  # two models at once may not fit
            self._model = load_model(model_id, texturing)
            self.model_id, self._loaded = model_id, (model_id, texturing)
        return self._model


def load_model(model_id: str, texturing: bool) -> Model:
    """A model for generating, or for texturing meshes; its networks are read when first used."""
    return Model.load(model_id, config_file=texturing_configuration(model_id) if texturing else CONFIG_FILE)


def check_plan(model: Model, settings: GenerateSettings, texturing: bool) -> None:
    """Refuses a resolution that the model has no networks for.

    Raises:
        GenesisError: BAD_PARAMETER, or BAD_MODEL for one that cannot texture.
    """
    (model.texture_plan if texturing else model.plan)(settings.resolution)


def _mesh_of(request: JobRequest) -> Path | None:
    return Path(request.mesh) if isinstance(request, TextureMesh) else None


def _what(model: Model | None, model_id: str, settings: GenerateSettings, texturing: bool) -> str:
    """The word under which times are remembered."""
    device = model.device.type if model is not None else "cuda" if torch.cuda.is_available() else "cpu"
    return f"{model_id} {settings.resolution or 'default'} {device}{' texturing' if texturing else ''}"


def _steps(model: Model | None) -> dict[str, int]:
    return {name: sampler.steps for name, sampler in model.config.samplers.items()} if model is not None else {}


def _accelerated(model: Model | None) -> bool:
    return model is not None and model.device.type == "cuda"
