# SPDX-License-Identifier: Apache-2.0
"""`genesis inspect`: what is in a GLB, and whether it is any good."""

from __future__ import annotations

from pathlib import Path

import click

from genesis_server.cli.options import json_option
from genesis_server.cli.output import explains_errors, print_json
from genesis_server.cli.quiet import start_warp

_COLOURS = {"good": "green", "fair": "yellow", "bad": "red", "": None}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@explains_errors
def inspect(file: Path, as_json: bool) -> None:
    """Shows what is in a GLB FILE, and what is wrong with it.

    Each line has a measure, a verdict (good, fair, bad) and what it means. --json has the numbers, and the lines under
    "findings".
    """
    start_warp()
    from genesis_server.report.inspect import findings
    from genesis_server.report.inspect import inspect as look

    found = look(file)
    lines = findings(found)
    if as_json:
        print_json({**found, "findings": [vars(line) for line in lines]})
        return
    wide = max(len(line.value) for line in lines)
    for line in lines:
        verdict = click.style(f"{line.verdict:4}", fg=_COLOURS[line.verdict])
        click.echo(f"{line.name:20} {line.value:{wide}}  {verdict}  {line.meaning}")
