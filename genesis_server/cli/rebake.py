# SPDX-License-Identifier: Apache-2.0
"""`genesis rebake`: mesh and textures again from a finished asset."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click

from genesis_server.cli.output import explains_errors, json_option
from genesis_server.cli.work import run_job
from genesis_server.protocol.messages import Rebake
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.service.intake import checked

_ALPHA = next(item for item in fields(BakeSettings) if item.name == "alpha").metadata["choices"]


@click.command()
@click.argument("asset", type=click.Path(path_type=Path))
@click.option("--texture-size", type=int, help="Width and height of the textures in pixels.")
@click.option("--faces", type=int, help="Triangles of the result at most.")
@click.option("--alpha", type=click.Choice(_ALPHA), help="Transparency: auto decides from the data.")
@json_option
@explains_errors
def rebake(asset: Path, texture_size: int | None, faces: int | None, alpha: str | None, as_json: bool) -> None:
    """Makes mesh and textures of the folder ASSET again, at another size, without generating again.

    What is not given stays as it was. No model is needed.

    \b
    genesis rebake chair.genesis --texture-size 4096
    genesis rebake chair.genesis --faces 5000
    """
    changes = {"bake.texture_size": texture_size, "bake.faces": faces, "bake.alpha": alpha}
    request = Rebake(str(asset.absolute()), {name: value for name, value in changes.items() if value is not None})
    run_job(checked(request, asset.absolute().parent), as_json)
