# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels without a GPU: run by Triton's interpreter against their references and in whole networks on the goldens,
and compiled for every architecture of the table of tilings.

Left out where Triton is neither installed nor where `dev.py test` puts it. That says nothing about speed;
`python -m tests.benchmarks.networks --check-only` asks the same on a GPU.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native_ext.test_tilings import SHARED

ROOT = Path(__file__).resolve().parents[2]
ASIDE = os.environ.get("GENESIS_TRITON", "")
if importlib.util.find_spec("triton") is None and not (ASIDE and (Path(ASIDE) / "triton").exists()):
    pytest.skip("no triton", allow_module_level=True)
KERNELS = ("residual_norm", "head_norm", "submanifold_conv", "neighbours", "row_mlp", "child_skip", "tap_order")
GOLDENS = f"""
import sys
from tests.parity.__main__ import main
code = main([f"tests/data/networks/{{name}}" for name in ("ss_flow", "slat_flow_tex", "sc_vae_shape_decoder")])
unused = [name for name in {KERNELS!r} if f"native_ext.{{name}}_triton" not in sys.modules]
sys.exit(code or (f"not run: {{unused}}" if unused else 0))
"""


def interpreted(*arguments: str) -> None:
    run(*arguments, TRITON_INTERPRET="1")


def run(*arguments: str, **variables: str) -> str:
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, (ASIDE, os.environ.get("PYTHONPATH", "")))]),
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout


def test_every_kernel_agrees_with_its_reference() -> None:
    interpreted("-m", "tests.benchmarks.networks", "--tiny", "--check-only")


def test_networks_of_kernels_reproduce_the_goldens() -> None:
    interpreted("-c", GOLDENS)


def test_every_kernel_compiles_for_every_architecture_and_fits_it() -> None:
    lines = [json.loads(line) for line in run("-m", "tests.native_ext.compile_kernels").splitlines() if line.startswith("{")]
    assert {tuple(line["capability"]) for line in lines} == {(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)}
    for line in lines:
        capability = tuple(line["capability"])
        assert line["shared"] <= SHARED[capability] * 1024, line
        products = line["kernel"].startswith(("convolution", "feed-forward", "product"))
        assert line["matrix"] == (products and capability >= (8, 0)), line
