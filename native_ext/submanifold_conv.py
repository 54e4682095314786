# SPDX-License-Identifier: Apache-2.0
"""Submanifold 3x3x3 sparse convolution, forward and backward (docs/spec/networks.md 3.9, docs/spec/geometry.md 9).

    Y[n]  = bias + sum_v W[:, v, :] X[t(n, v)]            t = neighbour table, missing rows contribute nothing
    dX[n] = sum_v W[:, v, :]^T dY[t(n, 26 - v)]           the same convolution with mirrored taps: no atomics
    dW[:, v, :] = sum_n dY[n] X[t(n, v)]^T,  dbias = sum_n dY[n]

Accumulation is float32 (float64 for float64), rounded once. The reference gathers a block of rows with all their
neighbours and multiplies once per block: on a CPU that was 1.2 to 3 times faster than a pair list per tap, at 17
active taps per voxel. On CUDA with Triton an implicit GEMM that never stores the gathered rows takes its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from native_ext.fast import has_kernel, infers_with_kernel
from native_ext.neighbours import TAPS
from native_ext.tap_order import TapOrder

# Values in one gathered block: 4 MiB of float32, which stays in the cache between the gather and the product.
_BLOCK_VALUES = 1 << 20


def submanifold_conv(
    feats: Tensor, weight: Tensor, bias: Tensor | None, neighbours: Tensor, order: TapOrder | None = None
) -> Tensor:
    """Convolve features over their active neighbours; coordinates do not change.

    Args:
        feats: `[N, Ci]` float16, bfloat16, float32 or float64 (CPU). Under autocast it is cast first.
        weight: `[Co, 3, 3, 3, Ci]`, taps ordered (x, y, z); cast to the dtype of `feats`.
        bias: `[Co]` or None, added before the rounding.
        neighbours: int32 `[N, 27]` of `native_ext.neighbours.neighbour_table`.
        order: of the rows of that table, which makes inference on a GPU faster.

    Returns:
        `[N, Co]` in the dtype of `feats` (of autocast, where it is on). Differentiable in feats, weight and bias.
    """
    if order is not None and infers_with_kernel(feats):
        weight = weight.to(feats.dtype).reshape(weight.shape[0], TAPS, weight.shape[-1]).contiguous()
        return _backend(feats).convolve(feats.contiguous(), weight, bias, order)
    device = feats.device.type
    if torch.is_autocast_enabled(device) and feats.dtype != torch.float64:
        feats = feats.to(torch.get_autocast_dtype(device))
    weight = weight.to(feats.dtype).reshape(weight.shape[0], TAPS, weight.shape[-1])
    return _SubmanifoldConv.apply(feats.contiguous(), weight.contiguous(), bias, neighbours)


def child_conv(feats: Tensor, weight: Tensor, bias: Tensor, order: TapOrder) -> Tensor:
    """A convolution that gives eight children per row, computed only for those that exist; without gradient, on a GPU.

        Y[n] = bias[s] + sum_v W[s, :, v, :] X[t(p, v)]         p = parent of n, s = which child it is

    Args:
        feats: `[M, Ci]` of the parents.
        weight: `[8 Co, 3, 3, 3, Ci]`, child-major.
        bias: `[8 Co]`.
        order: of the children, in eight groups (`native_ext.tap_order.order_by_taps`).

    Returns:
        `[N, Co]`.
    """
    weight = weight.reshape(weight.shape[0], TAPS, weight.shape[-1])
    return _backend(feats).convolve(feats.contiguous(), weight.contiguous(), bias, order)


class _SubmanifoldConv(torch.autograd.Function):
    """Autograd node over `[Co, 27, Ci]` weights."""

    @staticmethod
    def forward(ctx, feats: Tensor, weight: Tensor, bias: Tensor | None, neighbours: Tensor) -> Tensor:
        ctx.save_for_backward(feats, weight, neighbours)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return _backend(feats).convolve(feats, weight, bias, neighbours)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        feats, weight, neighbours = ctx.saved_tensors
        grad = grad.to(feats.dtype).contiguous()
        backend = _backend(feats)
        grad_feats = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.flip(1).permute(2, 1, 0).contiguous()
            grad_feats = backend.convolve(grad, mirrored, None, neighbours)
        if ctx.needs_input_grad[1]:
            grad_weight = backend.weight_gradient(feats, grad, neighbours).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0, dtype=_accumulator(grad.dtype)).to(ctx.bias_dtype)
        return grad_feats, grad_weight, grad_bias, None


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Reference:
    """Blocked gather and GEMM in torch; any device, any float dtype."""

    @staticmethod
    def convolve(feats: Tensor, weight: Tensor, bias: Tensor | None, neighbours: Tensor) -> Tensor:
        """`[N, Ci]`, `[Co, 27, Ci]` -> `[N, Co]`."""
        wide = _accumulator(feats.dtype)
        matrix = weight.to(wide).reshape(weight.shape[0], -1).t()
        out = torch.empty(len(feats), weight.shape[0], dtype=feats.dtype, device=feats.device)
        start = out.new_zeros(weight.shape[0], dtype=wide) if bias is None else bias.to(wide)
        for rows, gathered in _gathered_blocks(feats.to(wide), neighbours):
            if feats.dtype == wide:
                torch.addmm(start, gathered, matrix, out=out[rows])
            else:
                out[rows] = torch.addmm(start, gathered, matrix)
        return out

    @staticmethod
    def weight_gradient(feats: Tensor, grad: Tensor, neighbours: Tensor) -> Tensor:
        """`[N, Ci]`, `[N, Co]` -> `[Co, 27, Ci]` in the accumulator's dtype."""
        wide = _accumulator(feats.dtype)
        total = torch.zeros(grad.shape[1], TAPS * feats.shape[1], dtype=wide, device=feats.device)
        for rows, gathered in _gathered_blocks(feats.to(wide), neighbours):
            total.addmm_(grad[rows].to(wide).t(), gathered)
        return total.view(grad.shape[1], TAPS, feats.shape[1])


def _gathered_blocks(feats: Tensor, neighbours: Tensor):
    """Blocks of rows with the features of their 27 neighbours side by side, `[n, 27 Ci]`."""
    count, channels = feats.shape
    with_nothing = torch.cat([feats, feats.new_zeros(1, channels)])
    step = max(64, _BLOCK_VALUES // (TAPS * channels))
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        index = neighbours[rows].reshape(-1)
        index = torch.where(index >= 0, index, count)
        yield rows, with_nothing.index_select(0, index).view(-1, TAPS * channels)


def _backend(feats: Tensor):
    if has_kernel(feats):
        from native_ext import submanifold_conv_triton

        return submanifold_conv_triton
    return _Reference
