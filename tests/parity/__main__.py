# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.parity DIR...`: one line per case; exits with 1 on any failure or when a folder holds no case."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import partial
from pathlib import Path

import tests.parity


def runners():
    """What the modules of this package offer: `run` as it is, `cases` made into outcomes."""
    for info in pkgutil.iter_modules(tests.parity.__path__):
        if info.name == "__main__":
            continue
        module = importlib.import_module(f"tests.parity.{info.name}")
        if hasattr(module, "run"):
            yield module.run
        elif hasattr(module, "cases"):
            yield partial(tests.parity.outcomes, module.cases)


def main(arguments: list[str]) -> int:
    if not arguments:
        print("usage: python -m tests.parity DIR...", file=sys.stderr)
        return 2
    failures = 0
    known = list(runners())
    for root in map(Path, arguments):
        cases = 0
        for folder in sorted([root, *(p for p in root.rglob("*") if p.is_dir())]):
            for run in known:
                for outcome in run(folder):
                    cases += 1
                    failures += not outcome.passed
                    print(outcome, flush=True)
        if cases == 0:
            failures += 1
            print(f"{root}: no golden case that any runner knows FAIL")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
