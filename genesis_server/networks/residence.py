# SPDX-License-Identifier: Apache-2.0
"""A flow network whose weights pass through the device block by block, and the end of a network that was used.

Weights never change, so nothing ever goes back: what passes through has its copy in pinned host memory, from which copies run
beside the computation (where the system refuses to pin, plain memory does, more slowly), and what is let go is read from its
file again when it is next wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genesis_server.networks.flow_transformer import FlowTransformer


def let_go(network: nn.Module) -> None:
    """Give back the memory of all weights, whoever may still hold the network."""
    for tensor in _tensors(network):
        with torch.inference_mode(tensor.is_inference()):
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)


class HostCopy:
    """The weights of a flow network in host memory, and their way through a device.

    Args:
        network: its parameters and buffers are taken over; they lie in host memory whenever no `with` block is open.
        device: where it computes.
    """

    def __init__(self, network: FlowTransformer, device: torch.device) -> None:
        self.network, self.device = network, device
        self._host = {id(tensor): _pinned(tensor.data, device) for tensor in _tensors(network)}
        for tensor in _tensors(network):
            tensor.data = self._host[id(tensor)]

    @contextmanager
    def streamed(self) -> Iterator[nn.Module]:
        """The network, whose blocks' large matrices come one block ahead of the computation and go after it.

        Two blocks' matrices are on the device at a time. Everything that is used outside a block's forward pass (embeddings,
        modulation, the projection of image tokens) is brought whole.
        """
        blocks = [_matrices(block) for block in self.network.blocks]
        passing = {id(tensor) for block in blocks for tensor in block}
        staying = [tensor for tensor in _tensors(self.network) if id(tensor) not in passing]
        try:
            for tensor in staying:
                tensor.data = self.host(tensor).to(self.device, non_blocking=True)
            stream = _Stream(self, blocks)
            try:
                yield self.network
            finally:
                stream.close()
        finally:
            for tensor in staying:
                tensor.data = self.host(tensor)

    def host(self, tensor: Tensor) -> Tensor:
        """A parameter's values in host memory."""
        return self._host[id(tensor)]


class _Stream:
    """Block i computes with one set of matrices while those of block i + 1 are copied into the other."""

    def __init__(self, weights: HostCopy, blocks: list[list[Tensor]]) -> None:
        self._weights, self._blocks = weights, blocks
        cuda = weights.device.type == "cuda"
        self._copies = torch.cuda.Stream(weights.device) if cuda else None
        self._slots = [[torch.empty_like(weights.host(t), device=weights.device) for t in blocks[0]] for _ in range(2)]
        self._arrived = [torch.cuda.Event() if cuda else None for _ in range(2)]
        self._left = [torch.cuda.Event() if cuda else None for _ in range(2)]
        self._holds: list[int | None] = [None, None]
        self._hooks = []
        for number, block in enumerate(weights.network.blocks):
            self._hooks.append(block.register_forward_pre_hook(lambda *_, number=number: self._enter(number)))
            self._hooks.append(block.register_forward_hook(lambda *_, number=number: self._leave(number)))

    def close(self) -> None:
        """Back to the host's copies."""
        for hook in self._hooks:
            hook.remove()
        if self._copies is not None:
            torch.cuda.current_stream(self._weights.device).wait_stream(self._copies)
        for block in self._blocks:
            for tensor in block:
                tensor.data = self._weights.host(tensor)

    def _enter(self, number: int) -> None:
        self._fetch(number)
        slot = number % 2
        if self._copies is not None:
            torch.cuda.current_stream(self._weights.device).wait_event(self._arrived[slot])
        for tensor, place in zip(self._blocks[number], self._slots[slot], strict=True):
            tensor.data = place
        following = (number + 1) % len(self._blocks)
        if following % 2 != slot:
            self._fetch(following)

    def _leave(self, number: int) -> None:
        if self._copies is not None:
            self._left[number % 2].record(torch.cuda.current_stream(self._weights.device))
        for tensor in self._blocks[number]:
            tensor.data = self._weights.host(tensor)

    def _fetch(self, number: int) -> None:
        """Start to copy a block's matrices into its slot, once the block before it there is done with it."""
        slot = number % 2
        if self._holds[slot] == number:
            return
        self._holds[slot] = number
        if self._copies is None:
            self._copy(number)
            return
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(self._left[slot])
            self._copy(number)
            self._arrived[slot].record(self._copies)

    def _copy(self, number: int) -> None:
        for tensor, place in zip(self._blocks[number], self._slots[number % 2], strict=True):
            place.copy_(self._weights.host(tensor), non_blocking=True)


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return list({id(t): t for t in (*network.parameters(), *network.buffers())}.values())


def _matrices(block: nn.Module) -> list[Tensor]:
    """What of a block is worth streaming: matrices, but for those that image tokens meet outside its forward pass."""
    return [value for name, value in block.named_parameters() if value.ndim == 2 and not name.startswith(_OUTSIDE)]


_OUTSIDE = (
    "cross_attn.to_kv",
    "cross_attn.to_out",
    "cross_attn.k_rms",
    "cross_attn.q_rms",
    "self_attn.q_rms",
    "self_attn.k_rms",
    "adaLN",
)


def _pinned(values: Tensor, device: torch.device) -> Tensor:
    values = values.cpu()
    if device.type != "cuda" or values.is_pinned():
        return values
    try:
        return values.pin_memory()
    except RuntimeError:  # the system allows no more locked memory
        return values
