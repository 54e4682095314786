# SPDX-License-Identifier: Apache-2.0
"""The velocity loss that all three flows are trained with (docs/spec/pipeline.md 7.1, docs/spec/mini.md 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genesis_server.pipeline.flow import FlowProcess

DROPPED = 0.1  # samples that see zeros instead of tokens: the unconditional pass of guidance
SIGMA = FlowProcess().sigma_min


def drop_condition(tokens: Tensor) -> Tensor:
    """Tokens `[B, L, C]` with some samples' replaced by zeros."""
    kept = torch.rand(len(tokens), 1, 1, device=tokens.device) >= DROPPED
    return tokens * kept.to(tokens.dtype)


def flow_loss(velocity: Callable[[Tensor, Tensor], Tensor], data: Tensor, exists: Tensor | None = None) -> Tensor:
    """Mean squared error of the velocity at random times t = sigmoid(N(1, 1)), every object counting alike.

    Args:
        velocity: (x_t, 1000 t `[B]`) -> velocity like x_t.
        data: x_0, float32 `[B, ...]`.
        exists: broadcastable mask of the elements that count, some of every object; all without it. Slender objects have few.
    """
    t = torch.sigmoid(torch.randn(len(data), device=data.device) + 1)
    noise = torch.randn_like(data)
    weight = t.view(-1, *[1] * (data.ndim - 1))
    state = (1 - weight) * data + (SIGMA + (1 - SIGMA) * weight) * noise
    error = (velocity(state, 1000 * t).float() - ((1 - SIGMA) * noise - data)).square()
    if exists is None:
        return error.mean()
    return ((error * exists).flatten(1).sum(1) / (exists.flatten(1).sum(1) * data.shape[-1])).mean()
