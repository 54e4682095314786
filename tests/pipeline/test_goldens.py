# SPDX-License-Identifier: Apache-2.0
"""Small copies of the pipeline goldens; `python -m tests.parity DIR` runs the whole set."""

from pathlib import Path

import pytest
import torch

from tests.parity import outcomes
from tests.parity.pipeline import cases

DATA = Path(__file__).resolve().parents[1] / "data" / "pipeline"


@pytest.fixture(scope="module")
def results() -> dict:
    torch.set_num_threads(1)
    return {outcome.name: outcome for outcome in outcomes(cases, DATA)}


def test_every_case_is_within_its_limit(results: dict) -> None:
    assert [str(outcome) for outcome in results.values() if not outcome.passed] == []


@pytest.mark.parametrize(
    "prefix",
    ["cfg_", "interval_", "sparse_", "multi_", "preprocess/", "birefnet/", "dinov3/", "cascade/", "run_", "texturing/"],
)
def test_every_kind_of_golden_was_found(results: dict, prefix: str) -> None:
    assert any(name.split(" ", 1)[1].startswith(prefix) for name in results)
