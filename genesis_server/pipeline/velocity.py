# SPDX-License-Identifier: Apache-2.0
"""A flow network as a sampler calls it: features in, velocity out, dense or sparse (docs/spec/pipeline.md 7.3).

Both passes of guidance see the same state at the same time: what comes before the first picture is computed once, and they
may go through the rest as one batch. That pays where one pass alone leaves the device partly idle: 4,096 tokens make 1.5
waves of matrix tiles on a large GPU.
"""

from __future__ import annotations

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

    def __call__(self, x: Tensor, t: Tensor, tokens: Tokens) -> Tensor:
        """Velocity like x; t float32 `[B]`."""
        if self._level is None:
            return self._network(x, t, tokens)
        state = SparseTensor(x, self._level)
        if self._known is None:
            return self._network(state, t, tokens).feats
        return self._network(state, t, tokens, concat_cond=state.replace(self._known)).feats

    def both(self, x: Tensor, t: Tensor, positive: ProjectedContext, negative: ProjectedContext) -> tuple[Tensor, Tensor]:
        """Velocities under `positive` and under `negative`, which sees nothing."""
        if self._level is None:
            return self._network.both(x, t, positive, negative, self.pairs(x))
        state = SparseTensor(x, self._level)
        known = None if self._known is None else state.replace(self._known)
        return self._network.both(state, t, positive, negative, self.pairs(x), known)

    def pairs(self, x: Tensor) -> bool:
        """Whether both passes over this state go through the blocks as one batch."""
        rows = x[0, 0].numel() * len(x) if self._level is None else len(x)
        return x.is_cuda and rows <= PAIRED_TOKENS and (self._level is None or self._level.batch_size == 1)
