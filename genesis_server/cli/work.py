# SPDX-License-Identifier: Apache-2.0
"""Runs one job in this process, without a server: progress while it runs, Ctrl-C to stop it, a summary at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genesis_server.cli.output import print_json
from genesis_server.cli.progress import StageBars
from genesis_server.cli.quiet import start_warp
from genesis_server.protocol.messages import Rebake, Submit

if TYPE_CHECKING:
    from genesis_server.assets import Asset

MODEL_FILE, THUMBNAIL_FILE = "model.glb", "thumbnail.png"


def run_job(request: Submit | Rebake, as_json: bool) -> None:
    """Does a job that has been checked and prints what came of it.

    Raises:
        GenesisError: what stopped it; CANCELLED after Ctrl-C, with the finished stages kept.
    """
    with StageBars(quiet=as_json) as bars:
        bars.note("Loading ...")
        start_warp()
        from genesis_server.service.jobs import JobRunner  # brings torch

        with stop_on_ctrl_c(bars) as stopped:
            asset = JobRunner().run(request, bars, stopped.is_set)
    if as_json:
        print_json(summary(asset))
    else:
        _print_summary(asset)


def summary(asset: Asset) -> dict[str, Any]:
    """What a finished asset is, as plain values."""
    made = asset.statistics.get("mesh", {})
    thumbnail = asset.path(THUMBNAIL_FILE)
    return {
        "asset": str(asset.folder),
        "glb": str(asset.path(MODEL_FILE)),
        "thumbnail": str(thumbnail) if thumbnail.is_file() else None,
        "faces": made.get("faces"),
        "texture_size": made.get("texture_size"),
        "seconds": asset.seconds,
        "statistics": asset.statistics,
    }


def _print_summary(asset: Asset) -> None:
    values = summary(asset)
    size = values["texture_size"]
    times = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in values["seconds"].items())
    megabytes = Path(values["glb"]).stat().st_size / 1e6
    click.secho(values["glb"], bold=True)
    click.echo(f"  mesh      {values['faces']} faces, {megabytes:.1f} MB")
    click.echo(f"  textures  base colour with alpha, metallic and roughness, {size} x {size}")
    click.echo(f"  seconds   {times}")
    if values["thumbnail"]:
        click.echo(f"  picture   {values['thumbnail']}")
    click.echo("  open it   in Blender with File > Import > glTF 2.0, or by dropping the file into any glTF viewer")


@contextmanager
def stop_on_ctrl_c(bars: StageBars) -> Iterator[threading.Event]:
    """The first Ctrl-C stops between two steps, the second at once."""
    stopped = threading.Event()

    def stop(*_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        bars.note("Stopping after this step.")

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
