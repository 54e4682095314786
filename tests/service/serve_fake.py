# SPDX-License-Identifier: Apache-2.0
"""A server as `genesis serve`, but with `fake_worker.py` (or another program) for a worker and little patience."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genesis_server.service.access import LOCAL, Access, parse_bind
from genesis_server.service.limits import Limits
from genesis_server.service.serve import serve

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--connection-file", type=Path, required=True)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--worker", default=str(HERE / "fake_worker.py"))
    parser.add_argument("--silence", type=float, default=1800.0)
    parser.add_argument("--bind")
    parser.add_argument("--key-file", type=Path)
    options = parser.parse_args()
    limits = Limits(attempts=2, starts=2, grace=0.5, silence=options.silence, client_silence=1.0)
    host, port = parse_bind(options.bind) if options.bind else (LOCAL.host, 0)
    access = Access(host, options.key_file)
    serve(options.connection_file, port, options.parent, (sys.executable, options.worker), limits, access)
