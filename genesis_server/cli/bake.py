# SPDX-License-Identifier: Apache-2.0
"""`genesis bake`: an O-Voxel file to a GLB, without model or asset folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from genesis_server.cli.options import json_option, setting_option
from genesis_server.cli.output import explains_errors, print_json
from genesis_server.cli.progress import StageBars
from genesis_server.cli.quiet import start_warp
from genesis_server.cli.work import stop_on_ctrl_c
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BakeSettings, GenerateSettings

# flag of every setting of the bake
BAKE_FLAGS = {
    "--faces": "faces",
    "--texture-size": "texture_size",
    "--normal-map": "normal_map",
    "--remesh": "remesh",
    "--solid": "solid",
    "--lods": "lods",
    "--texture-format": "texture_format",
    "--alpha": "alpha",
}


def bake_options(command: Any) -> Any:
    """Adds an option for every setting of the bake; those not given arrive as None."""
    for flag, name in reversed(BAKE_FLAGS.items()):
        command = setting_option(flag, f"bake.{name}")(command)
    return command


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, by dotted name."""
    return {f"bake.{name}": value for name, value in settings.items() if value is not None}


@click.command()
@click.argument("asset", type=click.Path(path_type=Path), metavar="ASSET.vxz")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="GLB to write; beside ASSET by default.")
@bake_options
@json_option
@explains_errors
def bake(asset: Path, out: Path | None, as_json: bool, **settings: Any) -> None:
    """Makes a textured GLB of an O-Voxel file.

    ASSET.vxz is a file with shape and colours, such as ovoxel.vxz in the folder of a generated asset, or one of another tool.
    An existing GLB is replaced only once the new one is complete.

    \b
    genesis bake chair.vxz -o chair.glb --faces 100000 --texture-size 2048 --normal-map
    genesis bake chair.vxz --lods 3 --texture-format webp
    """
    chosen = GenerateSettings().with_values(given(settings)).bake
    if not asset.is_file():
        what = "is a folder" if asset.is_dir() else "does not exist"
        raise GenesisError(ErrorCode.BAD_ASSET, f"{asset} {what}.", "Name a .vxz file.")
    out = (out or asset.with_suffix(".glb")).absolute()
    if out.suffix.lower() != ".glb":
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{out.name} is no name for a GLB.", "Let it end in .glb.")
    if not out.parent.is_dir():
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"The folder {out.parent} does not exist.", "Choose another with --out.")
    if not os.access(out.parent, os.W_OK):
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"Nothing may be written to {out.parent}.", "Choose another with --out.")
    made = _run(asset, out, chosen, as_json)
    if as_json:
        print_json(made)
        return
    click.secho(made["glb"], bold=True)
    click.echo(f"  mesh      {', '.join(f'{count} faces' for count in made['level_faces'])}")
    click.echo(f"  textures  {made['texture_size']} x {made['texture_size']}, alpha {made['alpha_mode'].lower()}")
    click.echo(f"  seconds   {made['seconds']}")


def _run(asset: Path, out: Path, settings: BakeSettings, as_json: bool) -> dict[str, Any]:
    with StageBars(quiet=as_json) as bars:
        bars.note("Loading ...")
        start_warp()
        from genesis_server.pipeline.bake import BAKE_STAGES, bake_file  # brings torch
        from genesis_server.pipeline.progress import Progress

        partial = out.with_name(f".{out.name}.{os.getpid()}.part")
        began = time.perf_counter()
        try:
            with stop_on_ctrl_c(bars) as stopped:
                statistics = bake_file(asset, partial, settings, Progress(BAKE_STAGES, bars, stopped.is_set))
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    return {"glb": str(out), **statistics, "seconds": round(time.perf_counter() - began, 2)}
