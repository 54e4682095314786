# SPDX-License-Identifier: Apache-2.0
"""The background remover reproduces the published network and loads its files by key.

Tolerances and their reasons are in tests/parity/birefnet.py.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genesis_server.networks.birefnet import BiRefNet, load_birefnet
from genesis_server.networks.swin import relative_position_index
from genesis_server.protocol.errors import GenesisError
from tests.parity.birefnet import run

GOLDENS = Path(__file__).parents[1] / "data" / "birefnet"
STATE = GOLDENS / "net_tiny" / "state_dict.safetensors"


@pytest.mark.parametrize("case", ["net_tiny", "deform_conv", "pre_post"])
def test_case_agrees_with_the_published_remover(case):
    outcomes = list(run(GOLDENS / case))
    assert outcomes
    for outcome in outcomes:
        assert outcome.passed, str(outcome)


def test_wrong_patch_order_is_noticed(tmp_path):
    shutil.copytree(GOLDENS / "net_tiny", tmp_path / "case")
    (tmp_path / "case" / "io_small_b2.safetensors").unlink()
    io = load_file(GOLDENS / "net_tiny" / "io_small_b2.safetensors")
    io["out.logits"] = load_file(GOLDENS / "net_tiny" / "io_small_b2_channel_row_column.safetensors")["out.logits"]
    save_file(io, tmp_path / "case" / "io_small_b2.safetensors")
    verdicts = {outcome.name: outcome.passed for outcome in run(tmp_path / "case")}
    assert not verdicts["birefnet small_b2"] and verdicts["birefnet small_b2 channel_row_column"]


def test_published_widths_have_the_published_keys_and_sizes():
    with torch.device("meta"):
        network = BiRefNet()
    state = network.state_dict()
    buffers = dict(network.named_buffers())
    assert len(state) == 754
    assert sum(p.numel() for p in network.parameters()) == 220_176_498
    assert sum(b.numel() for b in buffers.values() if b.is_floating_point()) == 26_080
    assert sum(b.numel() for b in buffers.values() if b.dtype == torch.int64) == 497_707
    assert state["squeeze_module.0.conv_in.weight"].shape == (64, 5760, 3, 3)
    assert state["decoder.ipt_blk5.conv1.weight"].shape == (64, 3072, 3, 3)
    assert state["decoder.conv_out1.0.weight"].shape == (1, 240, 1, 1)


def test_relative_position_index_is_the_stored_one():
    stored = load_file(STATE)["bb.layers.0.blocks.0.attn.relative_position_index"]
    assert torch.equal(relative_position_index(6), stored)


def test_file_of_a_wrapped_model_loads_in_float32(tmp_path):
    save_file({f"module._orig_mod.{k}": v for k, v in load_file(STATE).items()}, tmp_path / "model.safetensors")
    network = load_birefnet(tmp_path / "model.safetensors")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    io = load_file(GOLDENS / "net_tiny" / "io_small_b2.safetensors")
    assert (network(io["in.x"]) - io["out.logits"]).norm() / io["out.logits"].norm() < 5e-5


def test_missing_parameter_is_named(tmp_path):
    state = load_file(STATE)
    del state["decoder.lateral_block3.conv.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(GenesisError, match=r"decoder\.lateral_block3\.conv\.bias"):
        load_birefnet(tmp_path / "model.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(GenesisError, match="holds no BiRefNet"):
        load_birefnet(tmp_path / "model.safetensors")


def test_sides_that_are_no_multiple_of_32_are_refused():
    with torch.device("meta"), pytest.raises(GenesisError, match="100 x 64"):
        BiRefNet()(torch.zeros(1, 3, 64, 100))


def test_unknown_patch_order_is_refused():
    with torch.device("meta"), pytest.raises(GenesisError, match="sideways"):
        BiRefNet(patch_order="sideways")
