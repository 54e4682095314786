# SPDX-License-Identifier: Apache-2.0
"""Every network reproduces the published implementation on tiny configurations (copies of the parity goldens).

Tolerances and their reasons are in tests/parity/networks.py.
"""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.parity.networks import run

GOLDENS = Path(__file__).parents[1] / "data" / "networks"


@pytest.mark.parametrize("case", sorted(p.name for p in GOLDENS.iterdir() if (p / "config.json").is_file()))
def test_case_agrees_with_the_published_network(case):
    outcomes = list(run(GOLDENS / case))
    assert outcomes
    for outcome in outcomes:
        assert outcome.passed, str(outcome)


def test_a_wrong_weight_is_noticed(tmp_path):
    """The comparison itself can fail: the same case with one parameter changed does."""
    shutil.copytree(GOLDENS / "slat_flow_ape", tmp_path / "case")
    state = load_file(tmp_path / "case" / "state_dict.safetensors")
    state["blocks.0.norm2.bias"] = state["blocks.0.norm2.bias"] + 0.01
    save_file(state, tmp_path / "case" / "state_dict.safetensors")
    assert not any(outcome.passed for outcome in run(tmp_path / "case") if "fp32" in outcome.name)
