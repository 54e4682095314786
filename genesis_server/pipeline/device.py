# SPDX-License-Identifier: Apache-2.0
"""Where a model computes: the GPU where there is one that can be used, else the CPU; large models say why not."""

from __future__ import annotations

import os

import torch

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

TOO_LARGE_FOR_CPU = 4 << 30  # bytes of weights: on two cores one pass of the published flows takes minutes
OLDEST = (7, 5)  # Turing; below, there is no half precision matrix unit that the kernels could use
CPU_VARIABLE = "GENESIS_CPU"  # set to use the CPU whatever there is


def choose_device(weights: int, name: str) -> torch.device:
    """The device for a model.

    Args:
        weights: bytes of all its weights.
        name: of the model, for the error.

    Raises:
        GenesisError: GPU_UNUSABLE for a large model where no GPU can be used, with the reason: none, a driver that is too
            old, a torch without CUDA, a GPU that is too old.
    """
    problem = "GENESIS_CPU is set", "Unset it."
    if not os.environ.get(CPU_VARIABLE):
        found = _usable_gpu()
        if isinstance(found, torch.device):
            return found
        problem = found
    if weights > TOO_LARGE_FOR_CPU:
        raise GenesisError(
            ErrorCode.GPU_UNUSABLE,
            f"The model {name} needs an NVIDIA GPU, and {problem[0]}.",
            f"{problem[1]} The small model (mini) runs without a GPU.",
            Remedy.USE_MINI,
        )
    return torch.device("cpu")


def _usable_gpu() -> torch.device | tuple[str, str]:
    """The GPU, or what is wrong and what to do."""
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if capability >= OLDEST:
            return torch.device("cuda")
        name = torch.cuda.get_device_name()
        return f"the {name} (compute capability {capability[0]}.{capability[1]}) is too old", "A GTX 16 or RTX 20 is needed."
    if torch.version.cuda is None:
        return "this torch is a CPU build", "Install a CUDA build of torch if there is an NVIDIA GPU."
    try:
        torch.cuda.init()
    except RuntimeError as error:  # says that the driver is too old, with its version, or that there is none
        reason = str(error).splitlines()[0].rstrip(".")
        return f"torch cannot use one ({reason})", "Update the NVIDIA driver."
    return "torch finds none", "Check that the GPU is there and its driver is installed."
