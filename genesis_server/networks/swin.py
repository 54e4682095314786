# SPDX-License-Identifier: Apache-2.0
"""Swin Transformer v1, the encoder of the background remover (docs/spec/birefnet.md 3).

Parameter names are those of the published checkpoint below `bb.`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PATCH = 4
_MLP_RATIO = 4
# Windows attended at once: 64 windows of 144 tokens and 6 heads are 32 MB of scores in float32 instead of 240 MB.
_WINDOWS_AT_ONCE = 64


def relative_position_index(side: int) -> Tensor:
    """int64 `[M^2, M^2]`: row of the bias table for a query p and a key q of an M x M window."""
    row = torch.arange(side).repeat_interleave(side)
    column = torch.arange(side).repeat(side)
    vertical = row[:, None] - row[None] + side - 1
    return vertical * (2 * side - 1) + column[:, None] - column[None] + side - 1


class _WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """`[B*W, M^2, C]`; mask `[W, M^2, M^2]` of 0 and -inf."""
        tokens = windows.shape[1]
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        out = []
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            chunk = windows[start : start + _WINDOWS_AT_ONCE]
            q, k, v = self.qkv(chunk).view(len(chunk), tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            scores = bias[None].expand(len(chunk), -1, -1, -1)
            if mask is not None:
                index = torch.arange(start, start + len(chunk), device=mask.device) % len(mask)
                scores = scores + mask[index, None]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=scores)
            out.append(self.proj(attended.transpose(1, 2).flatten(2)))
        return torch.cat(out)


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, _MLP_RATIO * width)
        self.fc2 = nn.Linear(_MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, H, W, C]`; mask of the padded grid, used by shifted blocks only."""
        height, width = x.shape[1:3]
        y = F.pad(self.norm1(x), (0, 0, 0, -width % self.window, 0, -height % self.window))
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = _merge(self.attn(_split(y, self.window), mask if self.shift else None), y.shape, self.window)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(quarters, dim=-1)))


class _Stage(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, window: int, last: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(_Block(width, heads, window, j % 2 * (window // 2)) for j in range(depth))
        self.downsample = None if last else _Downsample(width)

    def forward(self, x: Tensor) -> Tensor:
        mask = shift_mask(x.shape[1], x.shape[2], self.window, x.device).to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return x


class _PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[3] % _PATCH, 0, -x.shape[2] % _PATCH))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class SwinTransformer(nn.Module):
    """Picture `[B, 3, h, w]` to maps `[B, E*2^i, ...]`, each half as large as the one before, the first a quarter.

    Args:
        embed_dim: E.
        depths, num_heads: blocks and heads per stage.
        window_size: side of the attention windows.
    """

    def __init__(self, embed_dim: int, depths: list[int], num_heads: list[int], window_size: int) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(embed_dim)
        widths = [embed_dim * 2**i for i in range(len(depths))]
        self.layers = nn.ModuleList(
            _Stage(width, depth, heads, window_size, i + 1 == len(depths))
            for i, (width, depth, heads) in enumerate(zip(widths, depths, num_heads, strict=True))
        )
        for i, width in enumerate(widths):
            self.add_module(f"norm{i}", nn.LayerNorm(width))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The normalised output of every stage; the next stage gets it before the norm."""
        x = self.patch_embed(x)
        out = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            out.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return out


def shift_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """float32 `[W, M^2, M^2]`: -inf between tokens that a cyclic shift by M//2 brought into one window from afar."""
    labels = []
    for side in (height, width):
        padded = side + -side % window
        label = torch.zeros(padded, device=device)
        label[padded - window :] = 1
        label[padded - window // 2 :] = 2
        labels.append(label)
    regions = _split((3 * labels[0][:, None] + labels[1])[None, :, :, None], window)[..., 0]
    return torch.zeros(1, device=device).masked_fill(regions[:, :, None] != regions[:, None], float("-inf"))


def _split(x: Tensor, window: int) -> Tensor:
    """`[B, H, W, C]` to windows `[B*W', M^2, C]`, row-major."""
    b, height, width, channels = x.shape
    x = x.reshape(b, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def _merge(windows: Tensor, shape: torch.Size, window: int) -> Tensor:
    """Inverse of `_split` to the given `[B, H, W, C]`."""
    b, height, width, channels = shape
    x = windows.view(b, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(shape)
