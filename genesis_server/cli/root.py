# SPDX-License-Identifier: Apache-2.0
"""The `genesis` command and its subcommands.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or a bad parameter, 130 cancelled.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from genesis_server import __version__
from genesis_server.cli.bake import bake
from genesis_server.cli.compare import compare
from genesis_server.cli.doctor import doctor
from genesis_server.cli.generate import generate
from genesis_server.cli.inspect import inspect
from genesis_server.cli.models import models
from genesis_server.cli.output import BAD_USAGE, print_json
from genesis_server.cli.quiet import start_warp
from genesis_server.cli.rebake import rebake
from genesis_server.cli.serve import serve
from genesis_server.cli.texture import texture
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.service.collection import collect_rarely
from genesis_server.service.threads import wait_asleep

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
# the small model's tools are commands of their own that load torch: only when named
MINI_COMMANDS = {
    "evaluate": ("genesis_server.mini.evaluate", "main"),
    "show": ("genesis_server.mini.show", "main"),
    "train": ("genesis_server.mini.train", "main"),
    "world": ("genesis_server.mini.show", "world"),
}


class _MiniGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MINI_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in MINI_COMMANDS:
            return None
        start_warp()
        module, function = MINI_COMMANDS[name]
        return getattr(importlib.import_module(module), function)


class _MainGroup(click.Group):
    """Tells machines too, where they asked for JSON, that a command was not understood."""

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if not as_json:
                raise
            command = error.ctx.command_path if error.ctx else "genesis"
            refused = GenesisError(ErrorCode.BAD_PARAMETER, error.format_message(), f"See {command} --help.")
            print_json({"error": refused.to_json()})
            ctx.exit(BAD_USAGE)


@click.group(cls=_MainGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="genesis")
def main() -> None:
    """Turns pictures of an object into a textured 3D mesh, on this machine.

    \b
    genesis generate chair.png          a picture to chair.genesis/model.glb
    genesis texture chair.glb chair.png  new textures on a mesh that you have
    genesis rebake chair.genesis ...    other textures or fewer faces, without generating again
    genesis bake chair.vxz              an O-Voxel file to chair.glb
    genesis doctor                      what works on this machine, and what to do about the rest

    Exit codes: 0 done, 1 the work failed, 2 wrong usage or a setting out of range, 130 cancelled.
    """
    wait_asleep(os.environ)
    collect_rarely()


@main.group(cls=_MiniGroup)
def mini() -> None:
    """Trains and measures genesis-mini, the packaged small model."""


for command in (generate, texture, rebake, bake, serve, doctor, models, inspect, compare):
    main.add_command(command)
