# SPDX-License-Identifier: Apache-2.0
"""A starting point from which the texture autoencoder already carries colour (docs/spec/mini.md 6).

Started at random, the texture autoencoder sits at the mean colour for a long time: the decoder's skip hands a voxel one
of 128 channels after three levels, so every attribute must come through convolution branches that know nothing yet.
Here the weights are *constructed* instead: the untrained network encodes the mean attributes of each latent cell and
copies them to all voxels of that cell, and training only has to refine it. The forward pass and the keys stay those
of `docs/spec/networks.md` 6. The construction rests on four facts.

- `silu(z) - silu(-z) = z`: channels in pairs (+a, -a) carry `a` through SiLU exactly.
- A pair (+K, -K) with K larger than the signal makes the scale of every layer norm nearly constant; since layer norm is
  homogeneous, the ratio a/K survives it, and a sum over the present children divided by their summed K is a mean.
- The encoder's skip averages consecutive channels, so that neighbouring pairs cancel there: nothing to clean up. In the
  finest level channels repeat in consecutive groups instead, and the skip alone hands all values of all children up.
- The decoder's skip gives child s a known slice of its parent; the branch carries the same slice and subtracts it.

What is left (a few per cent) the read-outs take away, by least squares on a few objects.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.sparse.tensor import SparseTensor

SIGNALS = 5  # r, g, b, metallic, roughness; alpha is 1 throughout the world
CARRIER = 3.0  # K: with signals in [-1, 1] the scale of a layer norm then varies by a few per cent
PAIRS = 8  # 5 signal pairs and 3 carrier pairs: the 16 numbers a child keeps on its way up
QUIET = 0.15  # all other taps, in units of their usual size: enough to break symmetry, too little to drown the signal
LEFTOVER = 0.3  # size at which an up block carries what its skip adds, so as to subtract it
LINEAR_BIAS, LINEAR_SCALE = 2.4, 0.4  # silu has its inflection at 2.4: linear to third order around it
LINEAR_SLOPE = 1.0998


def carry_colour(encoder: nn.Module, decoder: nn.Module) -> None:
    """Construct the weights of a texture autoencoder, in place.

    Args:
        encoder: `SparseUnetVaeEncoder`, widths [64, 64, 128, 128] or with the same ratios.
        decoder: `SparseUnetVaeDecoder` without subdivision predictors, widths [128, 64, 32, 32] or similar.
    """
    with torch.no_grad():
        for network in (encoder, decoder):
            _quieten(network)
        _encoder_input(encoder)
        downs = [level[-1] for level in encoder.blocks[:-1]]
        for index, down in enumerate(downs[1:]):
            _down(down, separate_children=index == 0)
        pattern = _decoder_input(decoder)
        for index, up in enumerate([level[-1] for level in decoder.blocks[:-1]]):
            pattern = _up(up, pattern, last=index == len(decoder.blocks) - 2)


def calibrate(encoder: nn.Module, decoder: nn.Module, voxels: SparseTensor) -> None:
    """Fit the read-outs: latent channels 0..4 to the mean attributes of their cell (the rest to the principal
    components of what remains), and the output to the voxels' attributes. In place, float32.

    Args:
        voxels: `[N, 6]` attributes in [-1, 1] of a few objects.
    """
    with torch.no_grad():
        features = _before(encoder, encoder.to_latent, lambda: encoder(voxels))
        latent, _ = encoder(voxels)
        means, _ = cell_means(voxels, latent.coords, 2 ** (len(encoder.blocks) - 1))
        weight, bias = _ridge(features, means[:, :SIGNALS])
        channels = encoder.to_latent.weight.shape[0] // 2
        rest = features - features.mean(0)
        rest = rest - rest @ weight @ torch.linalg.pinv(weight)
        _, spread, axes = torch.pca_lowrank(rest, q=channels - SIGNALS, center=False)
        axes = axes / (spread / math.sqrt(len(rest))).clamp(min=1e-3)
        encoder.to_latent.weight.zero_()
        encoder.to_latent.weight[:SIGNALS] = weight.t()
        encoder.to_latent.weight[SIGNALS:channels] = 0.5 * axes.t()
        encoder.to_latent.bias[:SIGNALS] = bias
        encoder.to_latent.bias[SIGNALS:channels] = -0.5 * features.mean(0) @ axes
        encoder.to_latent.bias[channels:] = -6.0  # log variance
        latent, _ = encoder(voxels)
        features = _before(decoder, decoder.output_layer, lambda: decoder(latent))
        weight, bias = _ridge(features, voxels.feats)
        decoder.output_layer.weight.copy_(weight.t())
        decoder.output_layer.bias.copy_(bias)


def _quieten(network: nn.Module) -> None:
    """Small random convolutions without bias; residual blocks that hardly add anything."""
    for level in network.blocks:
        for block in level:
            for name in ("conv1", "conv2", "conv"):
                if (conv := getattr(block, name, None)) is not None:
                    scale = 1.0 if name == "conv" else QUIET
                    nn.init.normal_(conv.weight, std=scale / math.sqrt(27 * conv.weight.shape[-1]))
                    nn.init.zeros_(conv.bias)
            if hasattr(block, "mlp"):
                block.mlp[2].weight.mul_(QUIET)
                block.mlp[2].bias.zero_()


def _encoder_input(encoder: nn.Module) -> None:
    """Values r g b m r K -K 0, each in as many consecutive channels as the first skip averages."""
    layer, first = encoder.input_layer, encoder.blocks[0][-1]
    group = 8 * layer.weight.shape[0] // first.conv2.weight.shape[0]
    nn.init.normal_(layer.weight, std=0.05)
    layer.bias.zero_()
    for signal in range(SIGNALS):
        layer.weight[signal * group : (signal + 1) * group, signal] = 1.0
    layer.bias[SIGNALS * group : (SIGNALS + 1) * group] = CARRIER
    layer.bias[(SIGNALS + 1) * group : (SIGNALS + 2) * group] = -CARRIER


def _down(block: nn.Module, separate_children: bool) -> None:
    """conv1 makes eight pairs per child, conv2 sums the children and copies the pairs; the other rows mix at random."""
    width_in, width = block.conv1.weight.shape[-1], block.conv2.weight.shape[0]
    centre = block.conv1.weight[:, 1, 1, 1, :]
    centre.zero_()
    if separate_children:  # eight children side by side, each r g b m r K -K 0
        block.norm1.weight.fill_(LINEAR_SCALE)
        block.norm1.bias.fill_(LINEAR_BIAS)
        gain = 1.0 / (LINEAR_SCALE * LINEAR_SLOPE)
        for signal in range(PAIRS):
            if signal < SIGNALS:
                _pair(centre, signal, torch.arange(signal, width_in, 8), gain)
            else:
                _pair(centre, signal, torch.arange(SIGNALS, width_in, 8), gain / 2)
                _pair(centre, signal, torch.arange(SIGNALS + 1, width_in, 8), -gain / 2)
        block.conv1.bias.copy_(-centre.sum(1) * F.silu(torch.tensor(LINEAR_BIAS)))
    else:  # copies of the eight pairs in the first half
        copies = width_in // 2 // (2 * PAIRS)
        for signal in range(PAIRS):
            plus = torch.arange(copies) * 2 * PAIRS + 2 * signal
            _pair(centre, signal, plus, 1.0 / copies)
            _pair(centre, signal, plus + 1, -1.0 / copies)
    centre = block.conv2.weight[:, 1, 1, 1, :]
    nn.init.orthogonal_(centre, gain=0.5)
    per_child = width // 8
    # One carrier of a typical cell (four children) arrives here with size sqrt(width / (6 * 4)), four of them add up.
    gain = CARRIER / math.sqrt(4 * width / 6)
    for copy in range(width // 2 // (2 * PAIRS)):
        rows = centre[copy * 2 * PAIRS : (copy + 1) * 2 * PAIRS]
        rows.zero_()
        for signal in range(PAIRS):
            plus = torch.arange(8) * per_child + 2 * signal
            _pair(rows, signal, plus, gain)
            _pair(rows, signal, plus + 1, -gain)


def _pair(rows: Tensor, index: int, columns: Tensor, gain: float) -> None:
    """Add gain * columns to row 2*index and take it from row 2*index + 1."""
    rows[2 * index, columns] += gain
    rows[2 * index + 1, columns] -= gain


def _layout(width: int, period: int) -> list[tuple[int, float]]:
    """Decoder channels as (value, sign): pairs of the five signals and carriers, repeated with the given period."""
    values = [min(index // 2, SIGNALS) for index in range(period)]
    return [(values[index % period], 1.0 - 2.0 * (index % 2)) for index in range(width)]


def _decoder_input(decoder: nn.Module) -> list[tuple[int, float]]:
    """Every child's slice of the first skip holds all pairs."""
    layer = decoder.from_latent
    width = layer.weight.shape[0]
    pattern = _layout(width, width // 8)
    nn.init.normal_(layer.weight, std=0.1)
    layer.weight[:, :SIGNALS] = 0.0
    layer.bias.zero_()
    for channel, (value, sign) in enumerate(pattern):
        if value < SIGNALS:
            layer.weight[channel, value] = sign
        else:
            layer.bias[channel] = sign * CARRIER
    return pattern


def _up(block: nn.Module, pattern: list[tuple[int, float]], last: bool) -> list[tuple[int, float]]:
    """Hand all pairs to every child and subtract what the skip adds; returns the layout of the output."""
    width = block.conv2.weight.shape[0]
    held = len(pattern) // 8
    repeat = width // held
    if held >= 2 * (SIGNALS + 1):
        return [pattern[channel // repeat] for channel in range(width)]  # the skip alone hands all pairs down
    out = _layout(width, width if last else 16)
    # slots of a child's slice that hold different values; slots of one value differ in sign only, alike in all children
    slots = [slot for slot in range(held) if pattern[slot][0] not in {value for value, _ in pattern[:slot]}]
    source = {key: [c for c, other in enumerate(pattern) if other == key] for key in set(pattern)}
    scale = _spread(pattern)
    for child in range(8):
        rows = block.conv1.weight[child * width : (child + 1) * width, 1, 1, 1, :]
        for value in range(PAIRS):
            _read(rows, value, source, min(value, SIGNALS), scale)
        for slot in slots:
            value, sign = pattern[child * held + slot]
            _read(rows, PAIRS + slots.index(slot), source, value, LEFTOVER * sign * scale)
    scale = _inner_spread(len(slots), width)
    centre = block.conv2.weight[:, 1, 1, 1, :]
    for channel, (value, sign) in enumerate(out):
        centre[channel, 2 * value] += sign * scale
        centre[channel, 2 * value + 1] -= sign * scale
        slot = next(s for s in slots if pattern[s][0] == pattern[channel // repeat][0])
        flip = pattern[slot][1] * pattern[channel // repeat][1] * scale / LEFTOVER
        centre[channel, 2 * (PAIRS + slots.index(slot))] -= flip
        centre[channel, 2 * (PAIRS + slots.index(slot)) + 1] += flip
    return out


def _read(rows: Tensor, index: int, source: dict[tuple[int, float], list[int]], value: int, gain: float) -> None:
    """Pair `index` reads a value from all its copies, through SiLU."""
    plus, minus = source[value, 1.0], source[value, -1.0]
    rows[2 * index : 2 * index + 2] *= QUIET
    _pair(rows, index, torch.tensor(plus), gain / len(plus))
    _pair(rows, index, torch.tensor(minus), -gain / len(minus))


def _spread(pattern: list[tuple[int, float]]) -> float:
    """Standard deviation over the channels at typical signals (0.5)."""
    return math.sqrt(sum(CARRIER**2 if value >= SIGNALS else 0.25 for value, _ in pattern) / len(pattern))


def _inner_spread(leftovers: int, width: int) -> float:
    """Typical standard deviation between conv1 and conv2, which the second layer norm divides by."""
    pairs = [0.5] * SIGNALS + [CARRIER] * (PAIRS - SIGNALS) + [0.5 * LEFTOVER] * leftovers
    return math.sqrt(2 * sum(value**2 for value in pairs) / width)


def _before(network: nn.Module, layer: nn.Module, run) -> Tensor:
    """What a linear layer is given while `run` runs, in one piece or in several."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor | SparseTensor]) -> None:
        kept.append(inputs[0].feats if isinstance(inputs[0], SparseTensor) else inputs[0])

    handle = layer.register_forward_pre_hook(keep)
    try:
        run()
    finally:
        handle.remove()
    return torch.cat(kept).float()


def cell_means(voxels: SparseTensor, cells: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Mean features `[M, C]` of each coarse cell, and the cell's row for every voxel, int64 `[N]`.

    Args:
        voxels: `[N, C]`.
        cells: int32 `[M, 4]`, sorted by (b, x, y, z).
        factor: voxels per cell and axis.
    """
    side = int(voxels.coords[:, 1:].max()) // factor + 1

    def keys(coords: Tensor) -> Tensor:
        b, x, y, z = coords.long().unbind(1)
        return ((b * side + x) * side + y) * side + z

    down = voxels.coords.clone()
    down[:, 1:] = down[:, 1:] // factor
    parent = torch.searchsorted(keys(cells), keys(down))
    total = torch.zeros(len(cells), voxels.feats.shape[1], device=voxels.device).index_add(0, parent, voxels.feats)
    return total / torch.bincount(parent, minlength=len(cells)).clamp(min=1)[:, None], parent


def _ridge(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares with a small ridge: weight `[C, K]`, bias `[K]`."""
    x, y = features.double(), target.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.t() @ x / len(x)
    gram += 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, x.t() @ y / len(x))
    return weight.to(features.dtype), (mean_y - mean_x @ weight).to(features.dtype)
