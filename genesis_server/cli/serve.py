# SPDX-License-Identifier: Apache-2.0
"""`genesis serve`: the server that the Blender extension talks to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from genesis_server.cli.options import budget_option
from genesis_server.cli.output import explains_errors
from genesis_server.protocol.connection import default_connection_file
from genesis_server.protocol.errors import ErrorCode, GenesisError


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--parent", type=int, metavar="PID", help="End when this process ends; without it the server stays.")
@click.option(
    "--connection-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where clients find address and keys; jobs and log are kept beside it.",
)
@click.option("--idle-unload", type=click.FloatRange(0), metavar="SECONDS", help="Free the model's memory when idle; 0: never.")
@budget_option
@click.option("--bind", metavar="ADDRESS:PORT", help="Let other machines connect, such as 0.0.0.0:7788. Needs --key-file.")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write address and keys here, to be carried to the other machines. Whoever has this file can use the server.",
)
@explains_errors
def serve(
    port: int,
    parent: int | None,
    connection_file: Path | None,
    idle_unload: float | None,
    bind: str | None,
    key_file: Path | None,
) -> None:
    """Runs the server that Blender talks to, until Ctrl-C.

    The extension starts it by itself; run it here to keep it when Blender closes. Only programs of this user on this
    machine can connect, unless --bind opens it to others that have the key file; all they say is encrypted.
    GENESIS_HOME moves its folder.

    \b
    genesis serve --bind 0.0.0.0:7788 --key-file genesis-key.json
    """
    from genesis_server.service.access import LOCAL, Access, parse_bind
    from genesis_server.service.limits import DEFAULT_LIMITS
    from genesis_server.service.serve import serve as run

    if (bind is None) != (key_file is None) or (bind and port):
        raise GenesisError(
            ErrorCode.BAD_PARAMETER,
            "--bind and --key-file belong together, and --port is for this machine alone.",
            "Use --bind ADDRESS:PORT --key-file FILE, or --port.",
        )
    access = LOCAL
    if bind is not None:
        host, port = parse_bind(bind)
        access = Access(host, key_file.absolute())
    limits = DEFAULT_LIMITS if idle_unload is None else dataclasses.replace(DEFAULT_LIMITS, idle_unload=idle_unload)
    file = (connection_file or default_connection_file()).absolute()

    def ready(address: str) -> None:
        where = f", key file for other machines {access.key_file}" if access.key_file else ""
        click.echo(f"Genesis serves at {address}, connection file {file}{where}", err=True)

    run(file, port, parent, limits=limits, access=access, on_ready=ready)
