# SPDX-License-Identifier: Apache-2.0
"""`genesis models`: which weights are here, and getting those that are not."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import click

from genesis_server.cli.options import json_option
from genesis_server.cli.output import FAILED, explains_errors, print_json
from genesis_server.cli.progress import DownloadBar


@click.group()
def models() -> None:
    """Lists, downloads and verifies model weights.

    genesis-mini comes with Genesis. Downloads go to the Hugging Face cache; HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean
    what they mean elsewhere.
    """


@models.command("list")
@json_option
@explains_errors
def list_models(as_json: bool) -> None:
    """Shows which models are on this machine; looks at files only."""
    from genesis_server.hub.download import status

    found = status()
    if as_json:
        print_json({"models": [_plain(item) for item in found]})
        return
    for item in found:
        click.echo(f"{click.style(item.id, bold=True)}: {describe(item)}")


@models.command()
@click.argument("model")
@json_option
@explains_errors
def download(model: str, as_json: bool) -> None:
    """Downloads MODEL, or the rest of it.

    MODEL is a repository such as microsoft/TRELLIS.2-4B; an interrupted download goes on where it stopped.
    """
    from genesis_server.hub.download import download as fetch

    with nullcontext() if as_json else DownloadBar() as bar:
        folder = fetch(model, bar)
    print_json({"model": model, "folder": str(folder)}) if as_json else click.echo(folder)


@models.command()
@click.argument("model", default="mini")
@json_option
@explains_errors
def verify(model: str, as_json: bool) -> None:
    """Compares the weight files of MODEL with the published ones."""
    from genesis_server.hub.download import verify as check

    problems = check(model, None if as_json else _say)
    if as_json:
        print_json({"model": model, "problems": problems})
    else:
        click.echo("\n".join(problems) or f"{model}: no fault found")
    if problems:
        click.get_current_context().exit(FAILED)


@models.command()
@click.argument("model", default="mini")
@json_option
@explains_errors
def path(model: str, as_json: bool) -> None:
    """Prints the folder of MODEL."""
    from genesis_server.hub.download import path as find

    folder = find(model)
    print_json({"model": model, "folder": str(folder)}) if as_json else click.echo(folder)


def describe(item: Any) -> str:
    """The state of a model (`hub.download.ModelStatus`) in words."""
    if not item.missing:
        return f"{item.state} in {item.folder}"
    size = f", {item.missing_bytes / 1e9:.1f} GB" if item.missing_bytes else ""
    gated = f"; {', '.join(item.gated)} asks you to accept its licence first" if item.gated else ""
    files = "1 file" if len(item.missing) == 1 else f"{len(item.missing)} files"
    return f"{item.state}, {files} to come{size}{gated}"


def _plain(item: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(item), "folder": str(item.folder) if item.folder else None}


def _say(file: str, _: int, size: int) -> None:
    click.echo(f"{size / 1e9:6.2f} GB  {file}", err=True)
