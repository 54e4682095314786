# SPDX-License-Identifier: Apache-2.0
"""`genesis texture`: new textures on a mesh that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genesis_server.cli.generate import parse_assignments
from genesis_server.cli.options import json_option, setting_option
from genesis_server.cli.output import explains_errors
from genesis_server.cli.progress import StageBars
from genesis_server.cli.work import run_work
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.service.intake import ASSET_SUFFIX

if TYPE_CHECKING:
    from genesis_server.assets import Asset


@click.command()
@click.argument("mesh", type=click.Path(path_type=Path), metavar="MESH.glb")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES...")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder to put the asset in; the current one by default.",
)
@click.option("--name", help="Name of the asset; by default the mesh's, with _textured.")
@click.option("--model", default="mini", show_default=True, help="As of genesis generate.")
@setting_option("--seed", "seed")
@setting_option("--texture-size", "bake.texture_size")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other setting, such as resolution=1024.")
@json_option
@explains_errors
def texture(
    mesh: Path,
    images: tuple[Path, ...],
    out: Path,
    name: str | None,
    model: str,
    seed: int | None,
    texture_size: int | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Paints a mesh with what pictures show.

    The mesh keeps its texture coordinates, names, materials, size and place; only its textures are replaced. It is
    unwrapped where it has no usable coordinates.

    The result is a folder NAME.genesis with model.glb. Running the same command again only does what has changed.

    \b
    genesis texture chair.glb chair.png
    genesis texture chair.glb front.png back.png --texture-size 4096 --seed 3
    """
    changes = parse_assignments(assignments)
    given = {"seed": seed, "bake.texture_size": texture_size}
    settings = GenerateSettings().with_values(changes | {key: value for key, value in given.items() if value is not None})
    name = name or f"{mesh.stem}_textured"
    if Path(name).name != name:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name!r} cannot name an asset.", "Give the folder with --out.")
    folder = out.absolute()
    folder.mkdir(parents=True, exist_ok=True)

    def work(bars: StageBars, cancelled: Callable[[], bool]) -> Asset:
        from genesis_server.assets import Asset  # these bring torch
        from genesis_server.pipeline.model import Model, texturing_configuration
        from genesis_server.pipeline.picture import load_picture
        from genesis_server.pipeline.texture_mesh import check_mesh, texture_mesh

        check_mesh(mesh)  # everything that can be refused is refused before a folder is made
        pictures = [load_picture(image) for image in images]
        loaded = Model.load(model, config_file=texturing_configuration(model))
        loaded.texture_plan(settings.resolution)
        asset = Asset.create(folder / f"{name}{ASSET_SUFFIX}", pictures, settings, model)
        texture_mesh(asset, mesh, loaded, bars, cancelled)
        return asset

    run_work(work, as_json)
