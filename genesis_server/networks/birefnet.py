# SPDX-License-Identifier: Apache-2.0
"""The background remover: two-scale Swin encoder, deformable decoder (docs/spec/birefnet.md).

Parameter names are those of the published checkpoints, so that they load strictly, without remote code. Layers that
only training used (side predictions) are kept for their keys and never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.networks.deformable import DeformableASPP
from genesis_server.networks.registry import load_state, read_weights
from genesis_server.networks.swin import SwinTransformer
from genesis_server.protocol.errors import ErrorCode, GenesisError

# The order in which image patches become channels changed in the reference code after the published weights were
# trained; nothing in a file tells which one it needs (docs/spec/birefnet.md 8).
TRAINED_ORDER = "column_row_channel"
CURRENT_CODE_ORDER = "channel_row_column"
_SIDE_MULTIPLE = 32
_GRIDS = {5: 32, 4: 16, 3: 8, 2: 4}  # `ipt_blk{n}`: patches per side of the picture


def up(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners, the network's only resampling."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def patches(x: Tensor, grid: int, order: str) -> Tensor:
    """`[B, 3, H, W]` cut into grid x grid patches that become channels, `[B, 3 grid^2, H/grid, W/grid]`."""
    b, colours, height, width = x.shape
    x = x.view(b, colours, grid, height // grid, grid, width // grid)
    axes = (0, 4, 2, 1, 3, 5) if order == TRAINED_ORDER else (0, 1, 2, 4, 3, 5)
    return x.permute(axes).reshape(b, -1, height // grid, width // grid)


class _DecoderBlock(nn.Module):
    def __init__(self, channels: int, inner: int, out_channels: int, planes: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, inner, 3, padding=1)
        self.bn_in = nn.BatchNorm2d(inner)
        self.dec_att = DeformableASPP(inner, planes)
        self.conv_out = nn.Conv2d(inner, out_channels, 3, padding=1)
        self.bn_out = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn_out(self.conv_out(self.dec_att(F.relu(self.bn_in(self.conv_in(x))))))


class _PatchBlock(nn.Module):
    """Two convolutions on the picture's patches, with nothing between them."""

    def __init__(self, channels: int, inner: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, padding=1)
        self.conv_out = nn.Conv2d(inner, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv1(x))


class _Lateral(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Decoder(nn.Module):
    def __init__(self, widths: list[int], inner: int, planes: int, patch_inner: int, gradient: int, order: str) -> None:
        super().__init__()
        c1, c2, c3, c4 = widths
        self.order = order
        patch_widths = {5: c4 // 8, 4: c4 // 8, 3: c3 // 8, 2: c2 // 8}
        for n, grid in _GRIDS.items():
            self.add_module(f"ipt_blk{n}", _PatchBlock(3 * grid**2, patch_inner, patch_widths[n]))
        self.ipt_blk1 = _PatchBlock(3, patch_inner, c1 // 8)
        for n, (width, out) in {4: (c4, c3), 3: (c3, c2), 2: (c2, c1), 1: (c1, c1 // 2)}.items():
            self.add_module(f"decoder_block{n}", _DecoderBlock(width + patch_widths[n + 1], inner, out, planes))
        for n, width in {4: c3, 3: c2, 2: c1}.items():
            self.add_module(f"lateral_block{n}", _Lateral(width))
            self.add_module(f"conv_ms_spvn_{n}", nn.Conv2d(width, 1, 1))
            features = nn.Sequential(nn.Conv2d(width, gradient, 3, padding=1), nn.BatchNorm2d(gradient), nn.ReLU())
            self.add_module(f"gdt_convs_{n}", features)
            self.add_module(f"gdt_convs_pred_{n}", nn.Sequential(nn.Conv2d(gradient, 1, 1)))
            self.add_module(f"gdt_convs_attn_{n}", nn.Sequential(nn.Conv2d(gradient, 1, 1), nn.Sigmoid()))
        self.conv_out1 = nn.Sequential(nn.Conv2d(c1 // 2 + c1 // 8, 1, 1))

    def forward(self, x: Tensor, z: Tensor, skips: dict[int, Tensor]) -> Tensor:
        """Picture, squeezed context, encoder maps by level to logits `[B, 1, H, W]`."""
        for n in (4, 3, 2):
            p = self._block(n, z, x)
            attention = self._part("gdt_convs_attn_", n)(self._part("gdt_convs_", n)(p))
            z = up(p * attention, skips[n].shape[-2:]) + self._part("lateral_block", n)(skips[n])
        p = self._block(1, z, x)
        # the last convolution is linear: its part on p before enlarging it, so that no wide full-size map exists
        head = self.conv_out1[0]
        coarse = F.conv2d(p, head.weight[:, : p.shape[1]])
        fine = F.conv2d(self.ipt_blk1(x), head.weight[:, p.shape[1] :], head.bias)
        return up(coarse, x.shape[-2:]) + fine

    def _block(self, n: int, z: Tensor, x: Tensor) -> Tensor:
        cut = patches(x, _GRIDS[n + 1], self.order)
        return self._part("decoder_block", n)(torch.cat([z, self._part("ipt_blk", n + 1)(cut)], dim=1))

    def _part(self, name: str, n: int) -> nn.Module:
        return self.get_submodule(f"{name}{n}")


class BiRefNet(nn.Module):
    """Normalised picture to mask logits.

    Args:
        embed_dim, depths, num_heads, window_size: of the Swin encoder (published: 192; 2, 2, 18, 2; 6, 12, 24, 48; 12).
        dec_inter, aspp_planes, ipt_inter, gdt_channels: widths in the decoder.
        patch_order: `column_row_channel` (what the published weights were trained with) or `channel_row_column`.
    """

    def __init__(
        self,
        embed_dim: int = 192,
        depths: tuple[int, ...] = (2, 2, 18, 2),
        num_heads: tuple[int, ...] = (6, 12, 24, 48),
        window_size: int = 12,
        dec_inter: int = 64,
        aspp_planes: int = 256,
        ipt_inter: int = 64,
        gdt_channels: int = 16,
        patch_order: str = TRAINED_ORDER,
    ) -> None:
        super().__init__()
        if patch_order not in (TRAINED_ORDER, CURRENT_CODE_ORDER):
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"The background remover has no patch order {patch_order!r}.",
                f"Choose {TRAINED_ORDER} or {CURRENT_CODE_ORDER}.",
            )
        self.bb = SwinTransformer(embed_dim, list(depths), list(num_heads), window_size)
        widths = [2 * embed_dim * 2**i for i in range(4)]
        self.squeeze_module = nn.Sequential(_DecoderBlock(sum(widths), dec_inter, widths[3], aspp_planes))
        self.decoder = _Decoder(widths, dec_inter, aspp_planes, ipt_inter, gdt_channels, patch_order)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 3, H, W]`, H and W multiples of 32, to logits `[B, 1, H, W]`; their sigmoid is the alpha."""
        height, width = x.shape[-2:]
        if height % _SIDE_MULTIPLE or width % _SIDE_MULTIPLE:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"The background remover got a picture of {width} x {height} pixels.",
                f"Both sides must be multiples of {_SIDE_MULTIPLE}.",
            )
        large, small = self.bb(x), self.bb(up(x, (height // 2, width // 2)))
        x1, x2, x3, x4 = (torch.cat([a, up(b, a.shape[-2:])], dim=1) for a, b in zip(large, small, strict=True))
        context = torch.cat([*(up(level, x4.shape[-2:]) for level in (x1, x2, x3)), x4], dim=1)
        return self.decoder(x, self.squeeze_module(context), {4: x3, 3: x2, 2: x1})


def infer_arguments(state: dict[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments that a checkpoint's shapes imply (all but the patch order)."""
    stages = range(4)
    tables = [state[f"bb.layers.{i}.blocks.0.attn.relative_position_bias_table"].shape for i in stages]
    blocks = [{name.split(".")[4] for name in state if name.startswith(f"bb.layers.{i}.blocks.")} for i in stages]
    return {
        "embed_dim": state["bb.patch_embed.proj.weight"].shape[0],
        "depths": tuple(len(names) for names in blocks),
        "num_heads": tuple(heads for _, heads in tables),
        "window_size": (round(tables[0][0] ** 0.5) + 1) // 2,
        "dec_inter": state["squeeze_module.0.conv_in.weight"].shape[0],
        "aspp_planes": state["squeeze_module.0.dec_att.aspp1.bn.weight"].shape[0],
        "ipt_inter": state["decoder.ipt_blk1.conv1.weight"].shape[0],
        "gdt_channels": state["decoder.gdt_convs_2.0.weight"].shape[0],
    }


def load_birefnet(path: str | Path, device: torch.device | str = "cpu", patch_order: str = TRAINED_ORDER) -> BiRefNet:
    """The network with the weights of a safetensors file, float32, frozen, in evaluation mode.

    Args:
        path: `model.safetensors` of BiRefNet, BiRefNet_lite or RMBG-2.0; its widths are read from its shapes.
        device: where the weights go.
        patch_order: see `BiRefNet`.

    Raises:
        GenesisError: MODEL_MISSING or BAD_MODEL, naming the file and what is wrong with it.
    """
    state = {_plain_name(name): value for name, value in read_weights(Path(path), device).items()}
    try:
        arguments = infer_arguments(state)
    except KeyError as error:
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"{path} holds no BiRefNet: {error} is not in it.",
            "Point to the model.safetensors of BiRefNet or RMBG-2.0.",
        ) from error
    with torch.device("meta"):
        network = BiRefNet(**arguments, patch_order=patch_order)
    load_state(network, state, str(path))
    return network.eval().requires_grad_(False)


def _plain_name(name: str) -> str:
    """Without the prefixes that wrapped models leave on every key."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")
