# SPDX-License-Identifier: Apache-2.0
"""RMS norm of every attention head, then its rotation by position, in one pass (docs/spec/networks.md 3.4, 3.5).

    v' = v / max(|v|, 1e-12) * gamma * sqrt(D)                      rounded to the dtype of v
    v''_{2i} + i v''_{2i+1} = (v'_{2i} + i v'_{2i+1}) e^{i theta}    float32, rounded once

Without the kernel queries and keys are read and written some ten times, in float32.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from native_ext.fast import infers_with_kernel


def norm_rotate_(x: Tensor, gammas: tuple[Tensor | None, ...], phases: Tensor | None) -> tuple[Tensor, ...]:
    """The parts of a projection, each normalised and rotated; x may be overwritten.

    Args:
        x: `[B, L, S, H, D]`, contiguous: S parts such as query, key, value.
        gammas: for each of the first one or two parts its `[H, D]` float32, or None to leave it unnormalised; later
            parts are returned as they are.
        phases: cosines and sines float32 `[B or 1, L, D/2, 2]`, or None for no rotation.

    Returns:
        S tensors `[B, L, H, D]`.
    """
    if infers_with_kernel(x) and _fits(x) and (phases is not None or any(g is not None for g in gammas)):
        from native_ext import head_norm_triton

        return head_norm_triton.norm_rotate_(x, gammas, phases)
    return reference(x, gammas, phases)


def reference(x: Tensor, gammas: tuple[Tensor | None, ...], phases: Tensor | None) -> tuple[Tensor, ...]:
    """`norm_rotate_` in torch, differentiable; x is left alone."""
    parts = list(x.unbind(2))
    for index, gamma in enumerate(gammas):
        if gamma is not None:
            parts[index] = rms_norm(parts[index], gamma)
        if phases is not None:
            parts[index] = rotate(parts[index], phases)
    return tuple(parts)


def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """`v / max(|v|, 1e-12) * gamma * sqrt(D)` on `[..., H, D]`: no epsilon inside the mean."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return (F.normalize(wide, dim=-1) * gamma * math.sqrt(x.shape[-1])).to(x.dtype)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of `[..., H, D]` by phases `[..., D/2, 2]`, in float32, rounded once."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = phases.unsqueeze(-3).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def _fits(x: Tensor) -> bool:
    """Whether a program can hold all heads of a row."""
    width = x.shape[-1]
    return x.is_contiguous() and 16 <= width <= 256 and width & (width - 1) == 0 and x.shape[-2] * width <= 8192
