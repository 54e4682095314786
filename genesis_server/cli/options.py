# SPDX-License-Identifier: Apache-2.0
"""Options whose help comes from the one table of parameters, so that it never says another range than the check."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import Field
from typing import Any

import click

from genesis_server.protocol.errors import GenesisError
from genesis_server.protocol.parameters import parameter_names

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result, or the error, as one JSON object.")


def _set_budget(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from genesis_server.pipeline.memory import parse_budget  # brings torch, which --help should not wait for

    try:
        parse_budget(value)
    except GenesisError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    os.environ[BUDGET_VARIABLE] = value  # read where the model is loaded, in this process or a worker of it


BUDGET_VARIABLE = "GENESIS_VRAM_BUDGET"
budget_option = click.option(
    "--vram-budget",
    metavar="SIZE",
    expose_value=False,
    callback=_set_budget,
    help="GPU memory that may be used, such as 8GB; by default what is free. Less is slower. Also as GENESIS_VRAM_BUDGET.",
)


def setting_option(flag: str, name: str) -> Callable[..., Any]:
    """An option for the parameter `name`; values are checked with all others, not by click. A switch gets its --no- twin."""
    item = parameter_names()[name]
    if item.metadata["kind"] is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", default=None, help=f"{item.metadata['help']}.")
    choices = item.metadata.get("choices")
    limits = "" if choices else f"; {allowed(item)}"
    return click.option(flag, type=click.Choice(choices) if choices else int, help=f"{item.metadata['help']}{limits}.")


def allowed(item: Field) -> str:
    """The values that a parameter takes, in words; empty for free text."""
    rules = item.metadata
    if "choices" in rules:
        return ", ".join(rules["choices"])
    if rules["kind"] is bool:
        return "true, false"
    if "low" not in rules:
        return ""
    text = f"{rules['low']} to {rules['high']}"
    return f"two numbers, {text}" if rules["kind"] is tuple else text
