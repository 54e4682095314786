# SPDX-License-Identifier: Apache-2.0
"""Which of an op's versions runs: the Triton kernel on a GPU that has one, else the torch reference.

Every op of this package that has both asks here, so that one switch turns all kernels off (to compare, or to rule
them out when a result looks wrong): `with plain(): ...`, or GENESIS_PLAIN=1 in the environment. With TRITON_INTERPRET=1 the
kernels run on the CPU too, slowly, which is how they are tested without a GPU.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

OLDEST = (7, 5)  # compute capability of the first devices that Triton supports

_interpreted = os.environ.get("TRITON_INTERPRET", "") == "1"
_plain = os.environ.get("GENESIS_PLAIN", "") not in ("", "0")


@contextmanager
def plain() -> Iterator[None]:
    """Only torch references inside the block."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def has_kernel(x: Tensor) -> bool:
    """Whether Triton kernels may run on `x`: where it is, and in its dtype."""
    return (x.is_cuda or _interpreted) and not _plain and x.dtype != torch.float64 and _triton_on(x.device)


def infers_with_kernel(x: Tensor) -> bool:
    """The same for kernels that have no gradient."""
    return not torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type) and has_kernel(x)


@cache
def _triton_on(device: torch.device) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= OLDEST
