# SPDX-License-Identifier: Apache-2.0
"""Products of matrices in 8-bit floating point (e4m3), each row of both operands scaled to its own largest value.

    x8[m, k] = round( act(x[m, k]) / s[m] ),   s[m] = max_k |act(x[m, k])| / 448,   act = identity or tanh-GELU
    y[m, n]  = s[m] t[n] sum_k x8[m, k] w8[n, k] + b[n]

The matrix units of NVIDIA's Ada, Hopper and later take such products at up to twice their half-precision rate. Rounding to
three bits of mantissa is an error of some 2.5 % of every value, so this is for who asked for speed.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from native_ext.fast import infers_with_kernel

FORMAT = torch.float8_e4m3fn
LARGEST = 448.0  # of the format
SINCE = (8, 9)  # compute capability
_SMALLEST = 1e-12  # keeps the scale of a row of zeros finite
_FEWEST_ROWS = 16  # what the library's product takes


@cache
def has_float8(device: torch.device) -> bool:
    """Whether a device multiplies in this format."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= SINCE


def quantize_rows(x: Tensor, gelu: bool = False) -> tuple[Tensor, Tensor]:
    """Rows in 8 bits and their scales.

    Args:
        x: `[M, K]` float.
        gelu: of the tanh-GELU of x instead.

    Returns:
        e4m3 `[M, K]`, float32 `[M, 1]`.
    """
    if infers_with_kernel(x):
        from native_ext import float8_product_triton

        return float8_product_triton.quantize_rows(x.contiguous(), gelu)
    wide = F.gelu(x.float(), approximate="tanh") if gelu else x.float()
    scale = wide.abs().amax(1, keepdim=True).clamp(min=_SMALLEST) / LARGEST
    return (wide / scale).to(FORMAT), scale


def product(x: Tensor, x_scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor) -> Tensor:
    """`y` in the dtype of the bias.

    Args:
        x, x_scale: e4m3 `[M, K]`, float32 `[M, 1]`.
        weight, weight_scale: e4m3 `[N, K]`, float32 `[N, 1]`.
        bias: `[N]`.
    """
    if has_float8(x.device) and len(x) >= _FEWEST_ROWS and bias.dtype == torch.bfloat16:
        return torch._scaled_mm(x, weight.t(), x_scale, weight_scale.t(), bias, out_dtype=bias.dtype, use_fast_accum=True)
    return torch.addmm(bias.float(), x.float() * x_scale, (weight.float() * weight_scale).t()).to(bias.dtype)
