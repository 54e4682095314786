# SPDX-License-Identifier: Apache-2.0
"""8-bit products round as their format says, and a flow network that uses them still says nearly the same."""

from __future__ import annotations

import pytest
import torch

from genesis_server.networks.float8 import use_float8
from genesis_server.networks.registry import build
from genesis_server.networks.residence import HostCopy
from genesis_server.sparse.tensor import Level, SparseTensor
from native_ext.float8_product import LARGEST, product, quantize_rows

FLOW = {
    "resolution": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 48,
    "cond_channels": 16,
    "num_blocks": 3,
    "num_heads": 2,
    "mlp_ratio": 4,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    flow = build({"name": "SLatFlowModel", "args": FLOW}).eval().requires_grad_(False)
    for name, value in flow.named_parameters():
        if value.ndim > 1 and not name.endswith("gamma"):
            value.normal_(0, value.shape[1] ** -0.5)
    return flow


def velocity(network: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    cells = torch.nn.functional.pad((torch.rand(8, 8, 8, generator=generator) < 0.2).nonzero(), (1, 0)).int()
    x = SparseTensor(torch.randn(len(cells), 4, generator=generator), Level(cells))
    tokens = torch.randn(1, 9, 16, generator=generator)
    with torch.inference_mode():
        return network(x, torch.tensor([600.0]), network.project_context(tokens)).feats


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_every_row_uses_the_whole_range_and_no_value_moves_more_than_its_last_bit() -> None:
    x = torch.randn(50, 64) * torch.logspace(-6, 6, 50)[:, None]
    rounded, scale = quantize_rows(x)
    assert (rounded.float().abs().amax(1) == LARGEST).all()
    error = (rounded.float() * scale - x).abs()
    assert (error <= x.abs() * 2**-4 * 1.0001 + scale * 2**-10 * 1.0001).all(), "half of the last of three bits; subnormals"


def test_rows_of_zeros_stay_zero() -> None:
    rounded, scale = quantize_rows(torch.zeros(3, 16))
    assert (rounded.float() == 0).all() and scale.isfinite().all()


def test_the_activation_is_taken_before_the_rounding() -> None:
    x = torch.randn(20, 32)
    rounded, scale = quantize_rows(x, gelu=True)
    again = quantize_rows(torch.nn.functional.gelu(x, approximate="tanh"))
    assert torch.equal(rounded.float(), again[0].float()) and torch.equal(scale, again[1])


def test_a_product_is_that_of_the_rounded_operands() -> None:
    x, weight, bias = torch.randn(20, 64), torch.randn(8, 64), torch.randn(8)
    (x8, sx), (w8, sw) = quantize_rows(x), quantize_rows(weight)
    expected = (x8.double() * sx) @ (w8.double() * sw).t() + bias
    torch.testing.assert_close(product(x8, sx, w8, sw, bias).double(), expected, atol=1e-4, rtol=1e-5)
    assert 0 < relative(expected, (x @ weight.t() + bias).double()) < 0.06


def test_a_flow_says_nearly_the_same_with_a_quarter_of_the_bytes(network: torch.nn.Module) -> None:
    exact, before = velocity(network), _matrix_bytes(network)
    use_float8(network)
    assert 0 < relative(velocity(network), exact) < 0.1
    assert _matrix_bytes(network) == before / 4, "float32 to 8 bits"


def test_streaming_block_by_block_changes_nothing(network: torch.nn.Module) -> None:
    use_float8(network)
    whole = velocity(network)
    with HostCopy(network, torch.device("cpu")).streamed():
        assert torch.equal(velocity(network), whole)


def _matrix_bytes(network: torch.nn.Module) -> int:
    names = ("to_qkv.weight", "to_out.weight", "to_q.weight", "mlp.0.weight", "mlp.2.weight")
    return sum(p.numel() * p.element_size() for name, p in network.blocks.named_parameters() if name.endswith(names))
