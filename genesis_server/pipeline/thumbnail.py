# SPDX-License-Identifier: Apache-2.0
"""The picture of a finished model: nice to have, so its failure costs nothing but a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from genesis_server.assets.asset import StageWriter
from genesis_server.pipeline.progress import Progress
from genesis_server.report.render import render_thumbnail

MODEL_FILE, THUMBNAIL_FILE = "model.glb", "thumbnail.png"
log = logging.getLogger(__name__)


def add_thumbnail(
    writer: StageWriter, progress: Progress, stage: str, render: Callable[[Path, Path], None] | None = None
) -> None:
    """Puts a thumbnail beside the model that a stage has written, or a note where that fails for whatever reason.

    Args:
        writer: of the stage; holds the model.
        progress: told of a failure.
        stage: reported stage.
        render: makes the picture, second path, of the model, first path.
    """
    picture = writer.file(THUMBNAIL_FILE)  # whatever goes wrong with it, the model is done and must stay
    try:
        (render or render_thumbnail)(writer.file(MODEL_FILE), picture)
    except Exception as error:
        log.exception("no thumbnail")
        picture.unlink(missing_ok=True)
        progress.note(stage, f"The model is finished, but its thumbnail could not be made: {error}")
