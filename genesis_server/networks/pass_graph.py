# SPDX-License-Identifier: Apache-2.0
"""A flow network's pass recorded once as a CUDA graph and replayed: no launches by the host any more.

For passes so short that the host cannot queue their 400 kernels as fast as the device runs them. On an H100 the structure
stage's pass took 46 ms to queue. Recording costs one more such pass, so it pays where shapes return: the dense structure
grid has the same one for every object, and its graphs are kept between objects.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from genesis_server.networks.flow_transformer import ProjectedContext

Run = Callable[[Tensor, Tensor, ProjectedContext], Tensor]


class PassGraphs:
    """The recorded passes of one network, by what is passed in.

    They read the network's weights where they are now: forget them (`clear`) before the weights move.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, _PassGraph] = {}
        self._seen: set[Hashable] = set()

    def clear(self) -> None:
        """Let go of the recordings and their memory."""
        self._graphs.clear()
        self._seen.clear()

    def run(self, run: Run, x: Tensor, t: Tensor, tokens: ProjectedContext) -> Tensor:
        """`run(x, t, tokens)`: as it is the first time, recorded the second, replayed from then on."""
        key = (tuple(x.shape), tuple(t.shape), tokens.shape)
        if key in self._graphs:
            return self._graphs[key](x, t, tokens)
        if key not in self._seen:
            self._seen.add(key)  # kernels are compiled and attention is planned here, which no recording may contain
            return run(x, t, tokens)
        self._graphs[key] = _PassGraph(run, x, t, tokens)
        return self._graphs[key](x, t, tokens)


class _PassGraph:
    def __init__(self, run: Run, x: Tensor, t: Tensor, tokens: ProjectedContext) -> None:
        self._x, self._t, self._tokens = x.clone(), t.clone(), tokens.clone()
        self._filled: ProjectedContext | None = tokens
        self._graph = torch.cuda.CUDAGraph()
        side, current = torch.cuda.Stream(x.device), torch.cuda.current_stream(x.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self._graph.capture_begin()
            try:
                self._out = run(self._x, self._t, self._tokens)
            finally:
                self._graph.capture_end()
        current.wait_stream(side)

    def __call__(self, x: Tensor, t: Tensor, tokens: ProjectedContext) -> Tensor:
        self._x.copy_(x)
        self._t.copy_(t)
        if self._filled is not tokens:  # the same in every step of a sampling
            self._tokens.copy_(tokens)
            self._filled = tokens
        self._graph.replay()
        return self._out.clone()
