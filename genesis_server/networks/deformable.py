# SPDX-License-Identifier: Apache-2.0
"""Modulated deformable convolution and the pyramid built of it (docs/spec/birefnet.md 5, 6).

    out[o, r, c] = sum_t sum_n w[o, n, t] mask[t, r, c] S(x[n], r - p + i + dy[t], c - p + j + dx[t])

with S bilinear and zero outside. One tap is sampled at a time, so the extra memory is one copy of x, not k^2 of them.
Coordinates and interpolation are float32 always; half precision is used in the contraction only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ASPP_KERNELS = (1, 3, 7)


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Deformable convolution, stride 1, padding k//2.

    Args:
        x: `[B, C, H, W]`.
        offset: `[B, 2k^2, H, W]` pixels, per tap vertical then horizontal.
        mask: `[B, k^2, H, W]`, or None for ones.
        weight: `[O, C, k, k]`.
        bias: `[O]` or None.

    Returns:
        `[B, O, H, W]` in the dtype of x.
    """
    height, width = x.shape[-2:]
    side = weight.shape[-1]
    picture = x.float()
    rows = torch.arange(height, device=x.device, dtype=torch.float32)[:, None] - side // 2
    columns = torch.arange(width, device=x.device, dtype=torch.float32) - side // 2
    total = 0.0 if bias is None else bias.float().view(-1, 1, 1)
    for tap in range(side * side):
        vertical = rows + tap // side + offset[:, 2 * tap].float()
        horizontal = columns + tap % side + offset[:, 2 * tap + 1].float()
        grid = torch.stack([(2 * horizontal + 1) / width - 1, (2 * vertical + 1) / height - 1], dim=-1)
        sampled = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        if mask is not None:
            sampled = sampled * mask[:, tap, None].float()
        kernel = weight[:, :, tap // side, tap % side, None, None]
        total = total + F.conv2d(sampled.to(weight.dtype), kernel).float()
    return total.to(x.dtype)


class _DeformableConv(nn.Module):
    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(channels, 2 * kernel**2, kernel, padding=kernel // 2)
        self.modulator_conv = nn.Conv2d(channels, kernel**2, kernel, padding=kernel // 2)
        self.regular_conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = 2 * torch.sigmoid(self.modulator_conv(x))
        return deform_conv2d(x, self.offset_conv(x), mask, self.regular_conv.weight)


class _Branch(nn.Module):
    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.atrous_conv = _DeformableConv(channels, out_channels, kernel)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class DeformableASPP(nn.Module):
    """Five parallel branches (deformable 1, 1, 3, 7, and the mean) reduced back to the input's width.

    Args:
        channels: width in and out.
        planes: width of each branch.
    """

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.aspp1 = _Branch(channels, planes, 1)
        self.aspp_deforms = nn.ModuleList(_Branch(channels, planes, kernel) for kernel in ASPP_KERNELS)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU()
        )
        self.conv1 = nn.Conv2d((2 + len(ASPP_KERNELS)) * planes, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.global_avg_pool(x).expand(-1, -1, *x.shape[-2:])
        branches = [self.aspp1(x), *(branch(x) for branch in self.aspp_deforms), mean]
        return F.relu(self.bn1(self.conv1(torch.cat(branches, dim=1))))
