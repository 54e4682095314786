# SPDX-License-Identifier: Apache-2.0
"""Runs a Warp kernel on torch tensors, on their device and on torch's current stream, without copies.

Why its own file: every kernel of the world is started in the same way, and the choice of stream belongs in one place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import warp as wp

wp.config.log_level = wp.LOG_ERROR  # no start-up banner in the user's terminal
wp.init()

# No gradients are needed, and long unrolled loops would triple the time of the first compilation.
OPTIONS = {"enable_backward": False, "max_unroll": 3}


def launch(kernel: wp.Kernel, dim: int | Sequence[int], arguments: Sequence[torch.Tensor | int | float]) -> None:
    """Run `kernel` over `dim` threads.

    Args:
        kernel: a forward-only Warp kernel.
        dim: the number of threads, per axis.
        arguments: the kernel's arguments in order; tensors must be contiguous and on one device, outputs included.
    """
    device = next(argument.device for argument in arguments if isinstance(argument, torch.Tensor))
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    inputs = [
        wp.from_torch(argument, requires_grad=False, return_ctype=True) if isinstance(argument, torch.Tensor) else argument
        for argument in arguments
    ]
    wp.launch(kernel, dim=dim, inputs=inputs, device=wp.device_from_torch(device), stream=stream)
