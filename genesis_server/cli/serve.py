# SPDX-License-Identifier: Apache-2.0
"""`genesis serve`: the server that the Blender extension talks to."""

from __future__ import annotations

from pathlib import Path

import click

from genesis_server.cli.output import explains_errors
from genesis_server.protocol.connection import default_connection_file


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one by default.")
@click.option("--parent", type=int, metavar="PID", help="End when this process ends; without it the server stays.")
@click.option(
    "--connection-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where clients find address and keys; jobs and log are kept beside it.",
)
@explains_errors
def serve(port: int, parent: int | None, connection_file: Path | None) -> None:
    """Runs the server that Blender talks to, until Ctrl-C.

    The extension starts it by itself; run it here to keep it when Blender closes. Only programs of this user on this
    machine can connect. GENESIS_HOME moves its folder.
    """
    from genesis_server.service.serve import serve as run

    file = (connection_file or default_connection_file()).absolute()
    run(
        file,
        port,
        parent,
        on_ready=lambda address: click.echo(f"Genesis serves at {address}, connection file {file}", err=True),
    )
