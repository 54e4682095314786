# SPDX-License-Identifier: Apache-2.0
"""Models and single networks are found by whatever names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genesis_server.hub.locate import MINI_FOLDER
from genesis_server.networks.latent_flow import SLatFlowModel
from genesis_server.pipeline import pretrained
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.pretrained import from_pretrained
from genesis_server.protocol.errors import ErrorCode, GenesisError


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_a_checkpoint_is_one_network(tiny_model: Path, suffix: str) -> None:
    network = from_pretrained(f"{tiny_model}/ckpts/shape_slat_flow_model_32{suffix}", "cpu")
    assert isinstance(network, SLatFlowModel) and next(network.parameters()).dtype == torch.float32


def test_a_folder_is_a_model(tiny_model: Path) -> None:
    model = from_pretrained(tiny_model, "cpu")
    assert isinstance(model, Model) and model.plan().resolution == 32


def test_what_is_nowhere_is_named(tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", "./nothing/at/all", "nonsense"):
        with pytest.raises(GenesisError, match="noth|nonsense") as caught:
            from_pretrained(name)
        assert caught.value.code == ErrorCode.MODEL_MISSING


def test_a_model_of_the_hub_is_brought_here_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    brought: list[str] = []
    monkeypatch.setattr(pretrained, "download", lambda name, tell: brought.append(name))
    monkeypatch.setattr(Model, "load", lambda *arguments: arguments)
    assert from_pretrained("acme/tiny", "cpu", "texturing_pipeline.json") == ("acme/tiny", "cpu", "texturing_pipeline.json")
    assert brought == ["acme/tiny"]


def test_a_network_of_the_hub_is_brought_here_first(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    brought: list[str] = []

    def bring(name: str, tell: object) -> Path:
        brought.append(name)
        return tiny_model / "ckpts" / "shape_slat_flow_model_32"

    monkeypatch.setattr(pretrained, "download_checkpoint", bring)
    assert isinstance(from_pretrained("acme/tiny/ckpts/flow.safetensors", "cpu"), SLatFlowModel)
    assert brought == ["acme/tiny/ckpts/flow"]


def test_the_packaged_model_needs_no_network() -> None:
    if not (MINI_FOLDER / "pipeline.json").is_file():
        pytest.skip("this edition comes without genesis-mini")
    assert from_pretrained("mini", "cpu").identity.startswith("mini")
