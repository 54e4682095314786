# SPDX-License-Identifier: Apache-2.0
"""The `genesis` command. Nothing heavy is loaded before a command needs it."""

from genesis_server.cli.root import main

__all__ = ["main"]
