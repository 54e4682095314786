# SPDX-License-Identifier: Apache-2.0
"""A network computes the same wherever its weights come from, and leaves nothing on the device behind."""

import pytest
import torch

from genesis_server.networks.registry import build
from genesis_server.networks.residence import HostCopy, let_go

FLOW = {
    "resolution": 2,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 16,
    "cond_channels": 8,
    "num_blocks": 5,
    "num_heads": 2,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}
DECODER = {
    "out_channels": 6,
    "model_channels": [16, 8],
    "latent_channels": 4,
    "num_blocks": [1, 1],
    "block_type": ["SparseConvNeXtBlock3d"] * 2,
    "up_block_type": ["SparseResBlockC2S3d"],
}


@pytest.mark.parametrize("blocks", [1, 4, 5])
def test_streamed_blocks_compute_what_resident_ones_do(blocks: int) -> None:
    torch.manual_seed(0)
    network = build({"name": "SparseStructureFlowModel", "args": {**FLOW, "num_blocks": blocks}}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    x, t, tokens = torch.randn(1, 3, 2, 2, 2), torch.tensor([500.0]), torch.randn(1, 4, 8)
    with torch.inference_mode():
        expected = network(x, t, tokens)
    copy = HostCopy(network, torch.device("cpu"))
    before = [parameter.data_ptr() for parameter in network.parameters()]
    with torch.inference_mode(), copy.streamed() as streamed:
        for _ in range(2):  # the second pass begins with what the first one fetched ahead
            assert torch.equal(streamed(x, t, tokens), expected)
    assert [parameter.data_ptr() for parameter in network.parameters()] == before


@pytest.mark.parametrize("inferring", [False, True])
def test_a_network_that_was_let_go_holds_no_memory(inferring: bool) -> None:
    with torch.inference_mode(inferring):  # whoever loaded it
        network = build({"name": "SparseUnetVaeDecoder", "args": DECODER})
    let_go(network)
    tensors = [*network.parameters(), *network.buffers()]
    assert tensors and sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0


def test_an_error_inside_brings_the_weights_home() -> None:
    network = build({"name": "SparseStructureFlowModel", "args": FLOW})
    copy = HostCopy(network, torch.device("cpu"))
    before = [parameter.data_ptr() for parameter in network.parameters()]
    with pytest.raises(RuntimeError), copy.streamed():
        raise RuntimeError
    assert [parameter.data_ptr() for parameter in network.parameters()] == before
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in network.blocks)
