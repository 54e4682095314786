# SPDX-License-Identifier: Apache-2.0
"""`genesis compare`: two GLB files side by side."""

from __future__ import annotations

import os
from pathlib import Path

import click

from genesis_server.cli.options import json_option
from genesis_server.cli.output import explains_errors, print_json
from genesis_server.cli.quiet import start_warp
from genesis_server.protocol.errors import ErrorCode, GenesisError


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A.glb")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.glb")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with pictures, in one file.")
@json_option
@explains_errors
def compare(a: Path, b: Path, html: Path | None, as_json: bool) -> None:
    """Holds model B against model A: shape, structure, texture, colour, PBR, UV and topology.

    Each of the seven scores, 0 to 100, says how it was computed. Needs no GPU and no display.

    \b
    genesis compare before.glb after.glb --html difference.html
    """
    if html is not None and not html.absolute().parent.is_dir():
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"The folder {html.absolute().parent} does not exist.", "Choose another.")
    start_warp()
    from genesis_server.report.compare import compare as hold
    from genesis_server.report.page import comparison_page

    result = hold(a, b) if html is not None else hold(a, b, modes=())
    if html is not None:
        partial = html.with_name(f".{html.name}.{os.getpid()}.part")
        try:
            partial.write_text(comparison_page(result, a.name, b.name), "utf-8")
            partial.replace(html)
        finally:
            partial.unlink(missing_ok=True)
    if as_json:
        print_json({"scores": {score.name: round(score.value, 1) for score in result.scores}, **result.measures})
        return
    for score in result.scores:
        click.echo(f"{score.name:16} {score.value:4.0f}  {score.how}")
    if html is not None:
        click.secho(str(html), bold=True)
