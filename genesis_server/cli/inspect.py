# SPDX-License-Identifier: Apache-2.0
"""`genesis inspect`: what is in a GLB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genesis_server.cli.options import json_option
from genesis_server.cli.output import explains_errors, print_json
from genesis_server.cli.quiet import start_warp


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@explains_errors
def inspect(file: Path, as_json: bool) -> None:
    """Shows what is in a GLB FILE, and what is wrong with it."""
    start_warp()
    from genesis_server.report.inspect import inspect as look

    found = look(file)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' '):20} {_in_words(value)}")


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, list) and value and isinstance(value[0], int):
        return " x ".join(map(str, value))
    if isinstance(value, list):
        return " to ".join("(" + ", ".join(f"{number:.3f}" for number in part) + ")" for part in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
