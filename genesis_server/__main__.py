# SPDX-License-Identifier: Apache-2.0
"""`python -m genesis_server` is the `genesis` command."""

from genesis_server.cli import main

if __name__ == "__main__":
    main(prog_name="genesis")
