# SPDX-License-Identifier: Apache-2.0
"""Residual update and the layer norm after it, as one pass over the stream (docs/spec/networks.md 3.1, 3.8, 3.11).

    h' = h + gate * branch + offset            every part but h may be absent
    y  = act( LN(h') * scale + shift )         LN over the last axis, biased variance, act = identity or SiLU

Statistics are float32. The reference rounds where the published model does (docs/spec/networks.md 2.1); the kernel
rounds h' once and y once. A transformer block without it reads and writes the stream seven times more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from native_ext.fast import infers_with_kernel

WIDEST = 8192  # channels that one program of the kernel holds


def residual_norm(
    h: Tensor,
    scale: Tensor,
    shift: Tensor,
    branch: Tensor | None = None,
    gate: Tensor | None = None,
    offset: Tensor | None = None,
    eps: float = 1e-6,
    dtype: torch.dtype | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The updated stream and its normalised, scaled copy.

    Args:
        h: `[B, L, C]` float.
        scale, shift: `[B or 1, C]` in the dtype of h (modulation; `scale` includes the 1), or `[C]` float32 (an affine norm).
        branch: `[B, L, C]`, what a residual branch gave.
        gate: `[B or 1, C]`, factor of the branch; needs one.
        offset: `[C]`, the same for every row.
        dtype: of `y` after an affine norm; that of h if not given.
        out: contiguous, where both results go, each like h.

    Returns:
        `h'` (h itself where nothing is added) and `y`, both like h.
    """
    if infers_with_kernel(h) and h.shape[-1] <= WIDEST:
        from native_ext import residual_norm_triton

        return residual_norm_triton.residual_norm(h, scale, shift, branch, gate, offset, eps, dtype, out)
    updated, y = reference(h, scale, shift, branch, gate, offset, eps, dtype)
    return (updated, y) if out is None else (out[0].copy_(updated), out[1].copy_(y))


def reference(
    h: Tensor,
    scale: Tensor,
    shift: Tensor,
    branch: Tensor | None = None,
    gate: Tensor | None = None,
    offset: Tensor | None = None,
    eps: float = 1e-6,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """`residual_norm` in torch, differentiable."""
    if branch is not None:
        h = h + (branch if gate is None else gate.unsqueeze(1) * branch)
    if offset is not None:
        h = h + offset
    normal = F.layer_norm(_wide(h), h.shape[-1:], eps=eps)
    if scale.ndim == 1:
        return h, (normal * scale + shift).to(dtype or h.dtype)
    return h, normal.to(h.dtype) * scale.unsqueeze(1) + shift.unsqueeze(1)


def norm_silu(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-6, overwrite: bool = False) -> Tensor:
    """`SiLU(LN(x) * weight + bias)` on `[N, C]`, without gradient.

    Args:
        weight, bias: float32 `[C]`, or None for neither.
        overwrite: the result may take the place of x.
    """
    if infers_with_kernel(x) and x.shape[-1] <= WIDEST:
        from native_ext import residual_norm_triton

        return residual_norm_triton.norm(x, weight, bias, eps, silu=True, overwrite=overwrite)
    return F.silu(F.layer_norm(_wide(x), x.shape[-1:], weight, bias, eps).to(x.dtype))


def norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-6) -> Tensor:
    """`LN(x) * weight + bias` on `[N, C]`, without gradient; arguments of `norm_silu`."""
    if infers_with_kernel(x) and x.shape[-1] <= WIDEST:
        from native_ext import residual_norm_triton

        return residual_norm_triton.norm(x, weight, bias, eps, silu=False)
    return F.layer_norm(_wide(x), x.shape[-1:], weight, bias, eps).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
