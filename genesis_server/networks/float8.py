# SPDX-License-Identifier: Apache-2.0
"""Flow networks with 8-bit products: the opt-in `fast` mode of GPUs that have them (docs/performance.md).

Only the large products of the blocks change, which are most of a flow's weights; embeddings, norms, modulation, attention
itself and the projection of the image tokens stay as published.
"""

from __future__ import annotations

from torch import Tensor, nn

from genesis_server.networks.flow_transformer import FlowTransformer
from native_ext.float8_product import product, quantize_rows


class Float8Linear(nn.Module):
    """A linear layer that multiplies in 8 bits; inputs are rounded as they come.

    Args:
        linear: its weight is rounded, its bias taken over.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize_rows(linear.weight.detach())
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(scale.view(-1), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """`[..., in]` to `[..., out]`, in the dtype of the bias; of the tanh-GELU of x where asked for."""
        rows, scale = quantize_rows(x.reshape(-1, x.shape[-1]), gelu)
        return product(rows, scale, self.weight, self.scale[:, None], self.bias).view(*x.shape[:-1], -1)


def use_float8(network: FlowTransformer) -> FlowTransformer:
    """The same network, its blocks' products in 8 bits from now on."""
    for block in network.blocks:
        for part, name in (
            (block.self_attn, "to_qkv"),
            (block.self_attn, "to_out"),
            (block.cross_attn, "to_q"),
            (block.cross_attn, "to_out"),
            (block.mlp.mlp, "0"),
            (block.mlp.mlp, "2"),
        ):
            setattr(part, name, Float8Linear(getattr(part, name)))
    return network
