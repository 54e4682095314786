# SPDX-License-Identifier: Apache-2.0
"""`genesis generate`: pictures to an asset folder with a GLB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genesis_server.cli.options import allowed, budget_option, json_option, setting_option
from genesis_server.cli.output import explains_errors
from genesis_server.cli.work import run_job
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.messages import Submit
from genesis_server.protocol.parameters import parameter_names, parse_value
from genesis_server.protocol.presets import DEFAULT_PRESET, PRESETS
from genesis_server.service.intake import ASSET_SUFFIX, checked


def _list_parameters(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    for name, item in parameter_names().items():
        default = "automatic" if item.default is None else item.default
        click.echo(f"{click.style(f'{name:27}', bold=True)} {allowed(item):26} default {default}")
        click.echo(f"    {item.metadata['help']}")
    ctx.exit()


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES...")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder to put the asset in; the current one by default.",
)
@click.option("--name", help="Name of the asset; the first picture's by default.")
@click.option(
    "--model",
    default="mini",
    show_default=True,
    help="mini, the path of a model's folder, or a repository such as microsoft/TRELLIS.2-4B.",
)
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True, help="How much time to spend."
)
@setting_option("--seed", "seed")
@setting_option("--texture-size", "bake.texture_size")
@setting_option("--faces", "bake.faces")
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other setting, such as shape.guidance_strength=5."
)
@click.option(
    "--list-parameters",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_parameters,
    help="List what --set takes, with ranges, and end.",
)
@budget_option
@json_option
@explains_errors
def generate(
    images: tuple[Path, ...],
    out: Path,
    name: str | None,
    model: str,
    preset: str,
    seed: int | None,
    texture_size: int | None,
    faces: int | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Makes a textured 3D mesh from a picture of an object.

    Several IMAGES are views of one object. A picture with a transparent background is used as it is; otherwise its
    background is removed first.

    The result is a folder NAME.genesis with model.glb and everything it was made from. Running the same command again
    only does what is missing or has changed: another texture_seed keeps the shape.

    \b
    genesis generate chair.png
    genesis generate front.png back.png --name chair --out assets --preset high
    genesis generate chair.png --seed 7 --set shape.guidance_strength=5 --set texture_seed=2
    """
    changes = parse_assignments(assignments)
    changes |= {
        key: value
        for key, value in {"seed": seed, "bake.texture_size": texture_size, "bake.faces": faces}.items()
        if value is not None
    }
    request = Submit(
        tuple(str(image.absolute()) for image in images),
        str(asset_folder(out, name or images[0].stem)),
        str(Path(model).absolute()) if Path(model).is_dir() else model,
        preset,
        changes,
    )
    request = checked(request, out.absolute())
    from genesis_server.pipeline.picture import load_picture  # brings Pillow, which --help should not wait for

    for name in request.pictures:
        load_picture(name)  # before anything heavy is loaded
    run_job(request, as_json)


def asset_folder(out: Path, name: str) -> Path:
    """Where an asset of that name goes; `out` is made.

    Raises:
        GenesisError: BAD_PARAMETER for a name that is a path, or a folder that cannot be made.
    """
    if Path(name).name != name:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"{name!r} cannot name an asset.", "Give the folder with --out.")
    folder = out.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GenesisError(
            ErrorCode.BAD_PARAMETER, f"The folder {folder} cannot be made: {error.strerror}.", "Choose another with --out."
        ) from error
    return folder / f"{name}{ASSET_SUFFIX}"


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """The settings of `--set NAME=VALUE` options.

    Raises:
        GenesisError: BAD_PARAMETER.
    """
    changes = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"--set {text!r} has no value.", "Write it as NAME=VALUE.")
        changes[name.strip()] = parse_value(name.strip(), value.strip())
    return changes
