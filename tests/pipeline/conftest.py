# SPDX-License-Identifier: Apache-2.0
"""A tiny model with random weights, written once per run."""

from pathlib import Path

import pytest
import torch

from tests.pipeline.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
