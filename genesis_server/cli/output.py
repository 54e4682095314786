# SPDX-License-Identifier: Apache-2.0
"""How commands speak: results on standard output, everything else on standard error, JSON for machines."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.service.faults import as_genesis_error

FAILED, BAD_USAGE, CANCELLED = 1, 2, 130
EXIT_CODES = {ErrorCode.BAD_PARAMETER: BAD_USAGE, ErrorCode.CANCELLED: CANCELLED}


def print_json(values: Any) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(values, indent=1))


def explains_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends a command that fails with two lines, or one JSON object, and its exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  whatever it is, the user gets a sentence and a code
            known = as_genesis_error(error)
            if known.code == ErrorCode.INTERNAL and not isinstance(error, GenesisError):
                traceback.print_exception(error, file=sys.stderr)
            _explain(known, kwargs.get("as_json", False))

    return run


def _explain(error: GenesisError, as_json: bool) -> None:
    if as_json:
        print_json({"error": error.to_json()})
    else:
        click.secho(error.message, fg="red", err=True)
        if error.remedy:
            click.echo(error.remedy, err=True)
    click.get_current_context().exit(EXIT_CODES.get(error.code, FAILED))
