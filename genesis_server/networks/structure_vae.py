# SPDX-License-Identifier: Apache-2.0
"""The dense autoencoder of occupancy grids (docs/spec/networks.md 5).

Kernels are ordinary `[Co, Ci, kx, ky, kz]`. In the pixel shuffle x is the most significant bit of the child, the
opposite of the sparse networks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.networks.norms import ChannelLayerNorm32, GroupNorm32


def pixel_shuffle_3d(x: Tensor) -> Tensor:
    """`[B, 8C, X, Y, Z]` to `[B, C, 2X, 2Y, 2Z]`; channel `8c + 4a + 2b + g` is child (a, b, g) of channel c."""
    b, channels, nx, ny, nz = x.shape
    x = x.reshape(b, channels // 8, 2, 2, 2, nx, ny, nz).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, channels // 8, 2 * nx, 2 * ny, 2 * nz)


class _ResBlock(nn.Module):
    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm32(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, dtype=dtype)
        self.norm2 = ChannelLayerNorm32(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class _Upsample(nn.Module):
    def __init__(self, channels: int, out_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle_3d(self.conv(x))


class _Downsample(nn.Module):
    def __init__(self, channels: int, out_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _levels(channels: list[int], num_res_blocks: int, resample: type[nn.Module], dtype: torch.dtype) -> nn.ModuleList:
    blocks: list[nn.Module] = []
    for level, width in enumerate(channels):
        blocks += [_ResBlock(width, dtype) for _ in range(num_res_blocks)]
        if level + 1 < len(channels):
            blocks.append(resample(width, channels[level + 1], dtype))
    return nn.ModuleList(blocks)


def _output(channels: int, out_channels: int, norm_type: str) -> nn.Sequential:
    norm = GroupNorm32(channels) if norm_type == "group" else ChannelLayerNorm32(channels)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1))


class SparseStructureEncoder(nn.Module):
    """Occupancy `[B, in, 4r, 4r, 4r]` (0/1 as float32; 4r for three levels) to the posterior of a latent grid."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: list[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.dtype = torch.float16 if use_fp16 else torch.float32
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = _levels(channels, num_res_blocks, _Downsample, self.dtype)
        self.middle_block = nn.Sequential(*(_ResBlock(channels[-1], self.dtype) for _ in range(num_res_blocks_middle)))
        self.out_layer = _output(channels[-1], 2 * latent_channels, norm_type)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `[B, latent, r, r, r]`, in the dtype of x."""
        h = self.input_layer(x).to(self.dtype)
        for block in self.blocks:
            h = block(h)
        h = self.middle_block(h).to(x.dtype)
        mean, logvar = self.out_layer(h).chunk(2, dim=1)
        return mean, logvar


class SparseStructureDecoder(nn.Module):
    """Latent grid `[B, latent, r, r, r]` to occupancy logits `[B, out, 4r, 4r, 4r]` (4r for three levels)."""

    def __init__(
        self,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: list[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.dtype = torch.float16 if use_fp16 else torch.float32
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(_ResBlock(channels[0], self.dtype) for _ in range(num_res_blocks_middle)))
        self.blocks = _levels(channels, num_res_blocks, _Upsample, self.dtype)
        self.out_layer = _output(channels[-1], out_channels, norm_type)

    def forward(self, x: Tensor) -> Tensor:
        """Occupancy logits in the dtype of x; occupied where positive."""
        h = self.middle_block(self.input_layer(x).to(self.dtype))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(x.dtype))
