# SPDX-License-Identifier: Apache-2.0
"""`genesis serve` of a release that is still to come: it speaks the next version of the protocol.

python serve_newer.py CONNECTION_FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import genesis_server.protocol

genesis_server.protocol.PROTOCOL_VERSION += 1  # before anything reads it

if __name__ == "__main__":
    from genesis_server.service.serve import serve

    serve(Path(sys.argv[1]))
