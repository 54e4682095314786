# SPDX-License-Identifier: Apache-2.0
"""What a job does: from a request to a finished asset folder. The worker runs it, and the command line without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genesis_server.assets.asset import Asset
from genesis_server.pipeline.cutout import check_alpha
from genesis_server.pipeline.generate import generate
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.protocol.events import Event
from genesis_server.protocol.messages import Rebake, Submit
from genesis_server.protocol.presets import preset
from genesis_server.service.intake import check_changes
from genesis_server.service.store import JobRequest


class JobRunner:
    """Runs jobs one after the other and keeps the last model loaded between them."""

    def __init__(self) -> None:
        self._model_id = ""
        self._model: Model | None = None

    def run(self, request: JobRequest, on_event: Callable[[Event], None], cancelled: Callable[[], bool]) -> Asset:
        """Does one job; a stage that the asset's folder already has is not done again.

        Raises:
            GenesisError: for bad input before work starts, CANCELLED, or what stopped the work.
        """
        asset = self._asset(request)
        model = None if isinstance(request, Rebake) else self._load(asset.model_id)
        generate(asset, model, on_event, cancelled)
        return asset

    def _asset(self, request: JobRequest) -> Asset:
        """The asset with what it is asked to become; touched only once nothing is wrong with the request."""
        if isinstance(request, Submit):
            settings = preset(request.preset).with_values(request.changes)
            pictures = {name: load_picture(Path(name)) for name in request.pictures}
            for name, picture in pictures.items():
                check_alpha(picture, name)
            self._load(request.model).plan(settings.resolution)
            return Asset.create(Path(request.asset), [pictures[name] for name in request.pictures], settings, request.model)
        check_changes(request.changes, bake_only=isinstance(request, Rebake))
        asset = Asset.open(Path(request.asset))
        settings = asset.settings.with_values(request.changes)
        if not isinstance(request, Rebake):
            self._load(asset.model_id).plan(settings.resolution)
        asset.change(settings)
        return asset

    def _load(self, model_id: str) -> Model:
        if self._model is None or self._model_id != model_id:
            self._model = None  # two models at once may not fit
            self._model = Model.load(model_id)
            self._model_id = model_id
        return self._model
