# SPDX-License-Identifier: Apache-2.0
"""Multi-head self- and cross-attention of the flow models (docs/spec/networks.md 3.6).

Streams are dense `[B, L, C]`; ragged batches come padded with a key mask (`genesis_server.sparse.padding`), so one
code path serves dense and sparse models and each block can be compiled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from genesis_server.networks.norms import MultiHeadRMSNorm
from genesis_server.networks.positions import rotate

KeyValue = tuple[Tensor, Tensor]

# cuDNN's attention is about twice as fast as the flash kernel on long sequences (7.5 against 14.1 ms at 28,672 tokens
# on an H200), but it plans for every new shape; below this many queries the plan costs more than it saves.
_CUDNN_QUERIES = 2048
_LONG_SEQUENCE_BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


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
    if q.is_cuda and mask is None and not torch.is_grad_enabled() and q.shape[2] >= _CUDNN_QUERIES:
        with sdpa_kernel(_LONG_SEQUENCE_BACKENDS, set_priority=True):
            out = F.scaled_dot_product_attention(q, k, v)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(-2)


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
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        if self.q_rms_norm is not None:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if phases is not None:
            q, k = rotate(q, phases), rotate(k, phases)
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
        k, v = self.to_kv(context).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        return (k if self.k_rms_norm is None else self.k_rms_norm(k)), v

    def forward(self, x: Tensor, context: KeyValue, mask: Tensor | None) -> Tensor:
        """`[B, L, C]`, projected context, mask bool `[B, 1, 1, Lc]`."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        if self.q_rms_norm is not None:
            q = self.q_rms_norm(q)
        return self.to_out(attend(q, *context, mask))
