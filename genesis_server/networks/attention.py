# SPDX-License-Identifier: Apache-2.0
"""Multi-head self- and cross-attention of the flow models (docs/spec/networks.md 3.6).

Streams are dense `[B, L, C]`; ragged batches come padded with a key mask (`genesis_server.sparse.padding`), so one
code path serves dense and sparse models and each block can be compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from genesis_server.networks.norms import MultiHeadRMSNorm
from native_ext.head_norm import norm_rotate_

KeyValue = tuple[Tensor, Tensor]

# In this order where nothing forbids it. cuDNN's attention is about twice as fast as the flash kernel on Hopper (7.5
# against 14.1 ms at 28,672 tokens, 12 heads of 128).
_BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
_CUDNN_SINCE = (9, 0)  # compute capability from which it wins


class BlockContext(NamedTuple):
    """What one block sees of the pictures.

    Attributes:
        keys_values: each `[B', Lc, H, D]`, of the samples that see a picture; None where none does.
        mask: bool `[B', 1, 1, Lc]` of tokens that exist, or None for all.
        constant: `[C]`, what cross-attention gives to every row of a sample that sees nothing (all tokens zero); such
            samples come after the others. None where there are none.
        blind: number of those samples.
    """

    keys_values: KeyValue | None
    mask: Tensor | None = None
    constant: Tensor | None = None
    blind: int = 0

    @property
    def samples(self) -> int:
        """Batch size that it is for."""
        return self.blind + (0 if self.keys_values is None else len(self.keys_values[0]))


@contextmanager
def fastest_attention(device: torch.device) -> Iterator[None]:
    """Prefer the attention kernel that is fastest on a device; entered once per forward pass, not per layer."""
    if device.type != "cuda" or torch.is_grad_enabled() or torch.cuda.get_device_capability(device) < _CUDNN_SINCE:
        yield
        return
    with sdpa_kernel(_BACKENDS, set_priority=True):
        yield


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention with scale `1/sqrt(D)`.

    Args:
        q: `[B, Lq, H, D]`.
        k, v: `[B, Lk, H, D]`.
        mask: bool `[B, 1, 1, Lk]`, True for keys that exist, or None for all.

    Returns:
        `[B, Lq, H*D]`.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Self-attention with optional per-head RMS norm of queries and keys, and rotary positions."""

    def __init__(self, channels: int, heads: int, qk_rms_norm: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * channels, dtype=dtype)
        self.q_rms_norm = MultiHeadRMSNorm(heads, channels // heads) if qk_rms_norm else None
        self.k_rms_norm = MultiHeadRMSNorm(heads, channels // heads) if qk_rms_norm else None
        self.to_out = nn.Linear(channels, channels, dtype=dtype)

    def forward(self, x: Tensor, phases: Tensor | None, mask: Tensor | None) -> Tensor:
        """`[B, L, C]`; phases `[B or 1, L, D/2, 2]`; mask bool `[B, 1, 1, L]`."""
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = norm_rotate_(qkv, (_gamma(self.q_rms_norm), _gamma(self.k_rms_norm)), phases)
        return self.to_out(attend(q, k, v, mask))


class CrossAttention(nn.Module):
    """Attention of the stream to the image tokens; no positions, no gate."""

    def __init__(self, channels: int, context_channels: int, heads: int, qk_rms_norm: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, dtype=dtype)
        self.to_kv = nn.Linear(context_channels, 2 * channels, dtype=dtype)
        self.q_rms_norm = MultiHeadRMSNorm(heads, channels // heads) if qk_rms_norm else None
        self.k_rms_norm = MultiHeadRMSNorm(heads, channels // heads) if qk_rms_norm else None
        self.to_out = nn.Linear(channels, channels, dtype=dtype)

    def project_context(self, context: Tensor) -> KeyValue:
        """Keys and values `[B, Lc, H, D]` of a context `[B, Lc, Cc]`; the same at every step of a sampler."""
        kv = self.to_kv(context).unflatten(-1, (2, self.heads, -1))
        k, v = norm_rotate_(kv, (_gamma(self.k_rms_norm),), None)
        return k, v

    def blind_output(self) -> Tensor:
        """`[C]`, what every row gets from a context of zeros: all its values are the bias, whatever the weights."""
        return self.to_out(self.to_kv.bias.chunk(2)[1])

    def forward(self, x: Tensor, context: BlockContext) -> Tensor:
        """`[B, L, C]`, for the samples that see something."""
        (q,) = norm_rotate_(self.to_q(x).unflatten(-1, (1, self.heads, -1)), (_gamma(self.q_rms_norm),), None)
        return self.to_out(attend(q, *context.keys_values, context.mask))


def _gamma(norm: MultiHeadRMSNorm | None) -> Tensor | None:
    return None if norm is None else norm.gamma
