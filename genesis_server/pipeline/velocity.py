# SPDX-License-Identifier: Apache-2.0
"""A flow network as a sampler calls it: features in, velocity out, dense or sparse (docs/spec/pipeline.md 7.3).

Both passes of guidance see the same state at the same time, so they may go through the network as one batch. That pays
where one pass alone leaves the device partly idle: 4,096 tokens make 1.5 waves of matrix tiles on a large GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genesis_server.networks.flow_transformer import ProjectedContext
from genesis_server.pipeline.samplers import Tokens
from genesis_server.sparse.tensor import Level, SparseTensor

PAIRED_TOKENS = 8192  # of one pass, up to which both go together; above, they only need twice the memory


class NetworkVelocity:
    """Velocity of one network on one state.

    Args:
        network: `SparseStructureFlowModel` (dense state) or `SLatFlowModel` (sparse).
        level: voxels of a sparse state, else None.
        known: further channels `[T, C]` that the network sees beside the state.
    """

    def __init__(self, network: nn.Module, level: Level | None = None, known: Tensor | None = None) -> None:
        self._network, self._level, self._known = network, level, known
        self._twice: Level | None = None
        self._joined: tuple[ProjectedContext, ProjectedContext] | None = None

    def __call__(self, x: Tensor, t: Tensor, tokens: Tokens) -> Tensor:
        """Velocity like x; t float32 `[B]`."""
        return self._run(x, t, tokens, self._level, self._known)

    def both(self, x: Tensor, t: Tensor, positive: ProjectedContext, negative: ProjectedContext) -> tuple[Tensor, Tensor]:
        """Velocities under `positive` and under `negative`, which sees nothing; a sparse state must be one object's."""
        if self._level is not None and self._twice is None:
            coords = self._level.coords
            shifted = torch.cat([coords[:, :1] + 1, coords[:, 1:]], dim=1)
            self._twice = Level(torch.cat([coords, shifted]))
        known = None if self._known is None else self._known.repeat(2, 1)
        if self._joined is None or self._joined[0] is not positive:
            self._joined = (positive, positive.with_blind(negative))
        velocity = self._run(torch.cat([x, x]), t.repeat(2), self._joined[1], self._twice, known)
        first, second = velocity.chunk(2)
        return first, second

    def pairs(self, x: Tensor, negative: Tokens) -> bool:
        """Whether `both` may be used for this state, and pays."""
        if not isinstance(negative, ProjectedContext) or negative.blocks[0].keys_values is not None or not x.is_cuda:
            return False
        if self._level is None:
            return x[0, 0].numel() * len(x) <= PAIRED_TOKENS
        return self._level.batch_size == 1 and len(x) <= PAIRED_TOKENS

    def _run(self, x: Tensor, t: Tensor, tokens: Tokens, level: Level | None, known: Tensor | None) -> Tensor:
        if level is None:
            return self._network(x, t, tokens)
        state = SparseTensor(x, level)
        if known is None:
            return self._network(state, t, tokens).feats
        return self._network(state, t, tokens, concat_cond=state.replace(known)).feats
