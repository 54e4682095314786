# SPDX-License-Identifier: Apache-2.0
"""`genesis texture`: new textures on a mesh that is there."""

from __future__ import annotations

from pathlib import Path

import click

from genesis_server.cli.generate import asset_folder, parse_assignments
from genesis_server.cli.options import budget_option, json_option, setting_option
from genesis_server.cli.output import explains_errors
from genesis_server.cli.work import run_job
from genesis_server.protocol.messages import TextureMesh
from genesis_server.service.intake import checked


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
@budget_option
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
    request = TextureMesh(
        str(mesh.absolute()),
        tuple(str(image.absolute()) for image in images),
        str(asset_folder(out, name or f"{mesh.stem}_textured")),
        str(Path(model).absolute()) if Path(model).is_dir() else model,
        changes=changes | {key: value for key, value in given.items() if value is not None},
    )
    run_job(checked(request, out.absolute()), as_json)
