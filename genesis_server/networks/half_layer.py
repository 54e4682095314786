# SPDX-License-Identifier: Apache-2.0
"""A layer of DINOv3 with half precision products, in nine launches (docs/spec/networks.md 7).

The stream, its norms and its sums stay float32; products are float16 with float32 sums. That is four times as fast on a GPU as
float32 everywhere and still closer to it than the bfloat16 that the flow models round their tokens to. Run by the library
under autocast a layer takes some forty launches, for which a slow host needs twice as long as the GPU for the work.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.networks.attention import attend
from native_ext.head_norm import norm_rotate_
from native_ext.residual_norm import residual_norm


class Branch(NamedTuple):
    """What is still to be added to the stream: `scale * values`."""

    values: Tensor
    scale: Tensor


class HalfLayer(nn.Module):
    """Rounded copies of one layer's weights, and the layer's arithmetic on them.

    Channels of queries and keys are put in another order, the same for both, in which a pair that is rotated together lies
    together; their products are what they were.

    Args:
        layer: a `DINOv3ViTLayer` of transformers; it is left as it is.
        dtype: of the products.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        attention, mlp = layer.attention, layer.mlp
        self.heads, self.dtype, self.activation = attention.num_heads, dtype, mlp.act_fn
        self._exact = ((layer.norm1, layer.layer_scale1), (layer.norm2, layer.layer_scale2))  # in a tuple: none of its own
        rotated = [self._in_pairs(value) for part in (attention.q_proj, attention.k_proj) for value in _affine(part)]
        parts = zip(rotated[::2], rotated[1::2], strict=True)
        weights, biases = zip(*parts, _affine(attention.v_proj), strict=True)
        self._keep("qkv", torch.cat(weights), torch.cat(biases))
        self._keep("out", *_affine(attention.o_proj))
        self._keep("up", *_affine(mlp.up_proj))
        self._keep("down", *_affine(mlp.down_proj))
        self.gated = hasattr(mlp, "gate_proj")
        if self.gated:
            self._keep("gate", *_affine(mlp.gate_proj))

    def forward(self, h: Tensor, branch: Branch | None, phases: Tensor) -> tuple[Tensor, Branch]:
        """Advance the stream.

        Args:
            h: float32 `[B, L, C]`.
            branch: what the layer before left to be added.
            phases: float32 `[1, L, D/2, 2]`, cosines and sines.

        Returns:
            The stream, and the branch to be added to it.
        """
        h, x = self._normed(0, h, branch)
        qkv = self._product("qkv", x).unflatten(-1, (3, self.heads, -1))
        branch = Branch(self._product("out", attend(*norm_rotate_(qkv, (None, None), phases))), self._scale(0))
        h, x = self._normed(1, h, branch)
        hidden = self.activation(self._product("gate" if self.gated else "up", x))
        if self.gated:
            hidden *= self._product("up", x)
        return h, Branch(self._product("down", hidden), self._scale(1))

    def _normed(self, number: int, h: Tensor, branch: Branch | None) -> tuple[Tensor, Tensor]:
        norm, (values, scale) = self._exact[number][0], branch or (None, None)
        gate = None if scale is None else scale[None]
        return residual_norm(h, norm.weight, norm.bias, values, gate, eps=norm.eps, dtype=self.dtype)

    def _scale(self, number: int) -> Tensor:
        return self._exact[number][1].lambda1

    def _product(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def _keep(self, name: str, weight: Tensor, bias: Tensor) -> None:
        self.register_buffer(f"{name}_weight", weight.to(self.dtype), persistent=False)
        self.register_buffer(f"{name}_bias", bias.to(self.dtype), persistent=False)

    def _in_pairs(self, rows: Tensor) -> Tensor:
        """Rows of a projection; the library rotates channel i of a head with channel i + D/2, the kernel 2i with 2i + 1."""
        return rows.unflatten(0, (self.heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def paired_phases(cos: Tensor, sin: Tensor, tokens: int) -> Tensor:
    """Phases `[1, L, D/2, 2]` from the library's `[patches, D]`; the class and register tokens before are not turned."""
    half = cos.shape[-1] // 2
    patches = torch.stack([cos[:, :half], sin[:, :half]], dim=-1).float()
    still = patches.new_tensor([1.0, 0.0]).expand(tokens - len(patches), half, 2)
    return torch.cat([still, patches])[None]


def _affine(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight, and bias or the zeros that stand for none."""
    weight = linear.weight.detach()
    return weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
