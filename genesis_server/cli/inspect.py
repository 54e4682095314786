# SPDX-License-Identifier: Apache-2.0
"""`genesis inspect`: what is in a GLB."""

from __future__ import annotations

from pathlib import Path

import click

from genesis_server.cli.output import explains_errors, json_option, print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@explains_errors
def inspect(file: Path, as_json: bool) -> None:
    """Shows what is in the GLB FILE: faces, textures, and what is wrong with them."""
    from genesis_server.report.inspect import inspect_glb

    found = inspect_glb(file)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name:24} {value}")
