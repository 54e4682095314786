# SPDX-License-Identifier: Apache-2.0
"""`genesis rebake`: mesh and textures again from a finished asset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genesis_server.cli.bake import bake_options, given
from genesis_server.cli.options import json_option
from genesis_server.cli.output import explains_errors
from genesis_server.cli.work import run_job
from genesis_server.protocol.messages import Rebake
from genesis_server.service.intake import checked


@click.command()
@click.argument("asset", type=click.Path(path_type=Path))
@bake_options
@json_option
@explains_errors
def rebake(asset: Path, as_json: bool, **settings: Any) -> None:
    """Makes mesh and textures of an asset again, at another size or in another form.

    ASSET is a folder that genesis generate has made; its shape and colours are kept. What is not given stays as
    it was. No model is needed.

    \b
    genesis rebake chair.genesis --texture-size 4096
    genesis rebake chair.genesis --faces 5000 --normal-map --lods 3
    """
    request = Rebake(str(asset.absolute()), given(settings))
    run_job(checked(request, asset.absolute().parent), as_json)
