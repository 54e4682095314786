# SPDX-License-Identifier: Apache-2.0
"""A linear layer and the SiLU after it as one product (docs/spec/networks.md 3.11), without gradient.

    y = SiLU( x W^T + b )         the sum in float32, rounded to the dtype of x before the activation and after it

The libraries' products take GELU along but not SiLU: by itself it reads and writes values four times as wide as the stream.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from native_ext.fast import infers_with_kernel


class Tiling(NamedTuple):
    """Rows and outputs of a program, inputs at a time, warps, pipeline stages."""

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int


# By the first compute capability. Only where it was measured to be faster than the library's product and a pass after it: on
# an H200 0.37 for 0.41 ms at width 1024 of a decoder, 0.48 for 0.55 at 512, the fastest of seven.
TILINGS = {(9, 0): Tiling(128, 128, 64, 4, 3)}


def linear_silu(x: Tensor, linear: nn.Linear) -> Tensor:
    """`y` of `[N, C]`, `[N, H]`."""
    tiling = _tiling_on(x.device) if infers_with_kernel(x) and _fits(x, linear) else None
    if tiling is None:
        return F.silu(linear(x), inplace=not torch.is_grad_enabled())
    from native_ext import linear_silu_triton

    return linear_silu_triton.linear_silu(x.contiguous(), linear, tiling)


def _fits(x: Tensor, linear: nn.Linear) -> bool:
    """Float16 as decoders use it, and whole tiles of channels."""
    halves = x.dtype == torch.float16 and linear.weight.dtype == x.dtype
    return halves and linear.in_features % 64 == 0 and linear.out_features % 128 == 0 and linear.weight.is_contiguous()


@cache
def _tiling_on(device: torch.device) -> Tiling | None:
    return TILINGS.get(torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0))
