# SPDX-License-Identifier: Apache-2.0
"""The geometry goldens that are kept here: every case of every runner passes."""

from pathlib import Path

import pytest

from tests.parity import outcomes
from tests.parity.geometry import cases

DATA = Path(__file__).parents[1] / "data"
FOLDERS = {"geometry": 50, "geometry/dual_grid": 12, "geometry/vol_attr": 26, "geometry/remesh": 3, "bake": 6}


@pytest.mark.parametrize("folder", FOLDERS)
def test_goldens(folder):
    found = list(outcomes(cases, DATA / folder))
    assert len(found) >= FOLDERS[folder]
    assert not [str(outcome) for outcome in found if not outcome.passed]
