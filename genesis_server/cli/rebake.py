# SPDX-License-Identifier: Apache-2.0
"""`genesis rebake`: mesh and textures again from a finished asset."""

from __future__ import annotations

from pathlib import Path

import click

from genesis_server.cli.options import json_option, setting_option
from genesis_server.cli.output import explains_errors
from genesis_server.cli.work import run_job
from genesis_server.protocol.messages import Rebake
from genesis_server.service.intake import checked


@click.command()
@click.argument("asset", type=click.Path(path_type=Path))
@setting_option("--texture-size", "bake.texture_size")
@setting_option("--faces", "bake.faces")
@setting_option("--alpha", "bake.alpha")
@json_option
@explains_errors
def rebake(asset: Path, texture_size: int | None, faces: int | None, alpha: str | None, as_json: bool) -> None:
    """Makes mesh and textures of an asset again, at another size.

    ASSET is a folder that genesis generate has made; its shape and colours are kept. What is not given stays as
    it was. No model is needed.

    \b
    genesis rebake chair.genesis --texture-size 4096
    genesis rebake chair.genesis --faces 5000
    """
    changes = {"bake.texture_size": texture_size, "bake.faces": faces, "bake.alpha": alpha}
    request = Rebake(str(asset.absolute()), {name: value for name, value in changes.items() if value is not None})
    run_job(checked(request, asset.absolute().parent), as_json)
