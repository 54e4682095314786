# SPDX-License-Identifier: Apache-2.0
"""What lies between charts is chosen so that both sides of every seam look alike in smaller mip levels too.

A texel of mip level 3 is the mean of 8 x 8 texels: at a chart's border it mixes the chart with the gutter beside it, and the
chart on the other side of the seam with another gutter. No triangle shows the gutters themselves, so their texels are free:
they solve the least squares problem of seam equalisation (docs/spec/geometry.md 19.3; Liu, Ferguson, Jacobson and Gingold
2017), here over several mip levels at once, and stay near the value of the nearest chart otherwise (19.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.bake.unwrapped import UnwrappedMesh
from native_ext.segment_sum import run_starts, segment_sum

_LEVELS = 3  # mip levels whose seams agree; 4 and more mix what is further apart than the padding
_SPACING = 3.0  # texels between the places along a seam that are compared
_STEPS = 10  # of conjugate gradients
_TRUTH = 0.2  # weight of a seam's own colour, of that of both sides' agreeing ...
_HOLD = 3e-3  # ... and of a texel's staying at the value of the nearest chart
_LEAST, _FARTHEST = 0.5 / 255, 0.3  # that a texel leaves that value by, if it does
_TINY = 1e-30  # divided by where both sides agree already
_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # rows and columns of 2 x 2


def fill_gutters(values: Tensor, place: Tensor, covered: Tensor, mesh: UnwrappedMesh) -> tuple[Tensor, Tensor]:
    """Texels of their own for the gutters along seams.

    Args:
        values: float32 [P, C], texels 0..1 near charts.
        place: int64 [H, H], row of `values` of every texel; between the charts that of the nearest one. H is a multiple of 4.
        covered: bool [H, H], texels that some triangle shows; they keep their value.
        mesh: whose charts these are.

    Returns:
        Both, with rows added for texels between the charts.
    """
    size = place.shape[0]
    seams = seam_places(mesh, size)
    if not len(seams):
        return values, place
    levels = _LEVELS if size % (1 << _LEVELS) == 0 else _LEVELS - 1
    taps = [_taps(seams.reshape(-1, 2), size >> level) for level in range(levels + 1)]
    shown = values[place[taps[0][0], taps[0][1]]] * taps[0][2][:, :, None]
    colours = shown.sum(1).view(len(seams), 2, -1).mean(1)  # in the texture itself both sides nearly agree
    side = size >> levels
    block = torch.unique(taps[-1][0] * side + taps[-1][1])  # texels of the smallest mip level that seams show
    row, col = _texels(block, side, levels)
    mips = [
        _Mip.of(_cells(rows, cols, block, side, levels - level), weight, len(block) << 2 * (levels - level))
        for level, (rows, cols, weight) in enumerate(taps[1:], 1)
    ]
    texels, free = values[place[row, col]].T.contiguous(), ~covered[row, col]
    means, share = _quarter(texels), _quarter(free[None].float())
    change = _solve(means, share, colours, mips)
    change = torch.nn.functional.hardshrink(change.clamp(-_FARTHEST, _FARTHEST), _LEAST)
    fill = (texels + change.repeat_interleave(4, 1))[:, free].T.clamp(0, 1)
    numbers = len(values) + torch.arange(len(fill), device=row.device)
    return torch.cat([values, fill]), place.index_put((row[free], col[free]), numbers)


def seam_places(mesh: UnwrappedMesh, size: int) -> Tensor:
    """Points along the edges that lie in a texture of `size` texels twice: float64 [S, 2, 2], u and v on both sides."""
    corner = mesh.faces.long()
    start, end = corner.reshape(-1), corner.roll(-1, 1).reshape(-1)
    count = len(mesh.vertices)
    lone = ~torch.isin(start * count + end, end * count + start)
    edge = torch.stack([start[lone], end[lone]], 1)
    rim, index = torch.unique(edge, return_inverse=True)
    point = torch.unique(mesh.vertices[rim], dim=0, return_inverse=True)[1][index]
    forth, back = point[:, 0] * len(rim) + point[:, 1], point[:, 1] * len(rim) + point[:, 0]
    key, own, uses = torch.unique(torch.cat([forth, back]), return_inverse=True, return_counts=True)
    number = torch.arange(len(edge), device=edge.device)
    with_key = torch.zeros_like(key).index_copy(0, own[: len(edge)], number)
    other = with_key[own[len(edge) :]]
    # exactly one edge goes forth and one back where both keys occur twice, as a way of one and as the way back of the other
    seam = (uses[own[: len(edge)]] == 2) & (own[: len(edge)][other] == own[len(edge) :]) & (forth < back)
    one, two = number[seam], other[seam]
    ends = mesh.uvs.double()[torch.stack([edge[one], edge[two].flip(1)], 1)]
    length = (ends[:, 0, 1] - ends[:, 0, 0]).norm(dim=1) * size
    pieces = torch.ceil(length / _SPACING).long().clamp_min(1)
    seam = torch.repeat_interleave(torch.arange(len(one), device=edge.device), pieces)
    rank = torch.arange(len(seam), device=edge.device) - (torch.cumsum(pieces, 0) - pieces)[seam]
    share = ((rank + 0.5) / pieces[seam])[:, None, None]
    return ends[seam, :, 0] * (1 - share) + ends[seam, :, 1] * share


def _taps(uv: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns int64 [S, 4] and weights float32 [S, 4] of what a bilinear sample at uv [S, 2] mixes."""
    where = uv * size - 0.5
    low = torch.floor(where)
    part = (where - low)[:, :, None]
    at = torch.stack([low, low + 1], 2).long().clamp(0, size - 1)
    weight = torch.cat([1 - part, part], 2).float()
    (x, y), (across, down) = at.unbind(1), weight.unbind(1)
    return y.repeat_interleave(2, 1), x.repeat(1, 2), down.repeat_interleave(2, 1) * across.repeat(1, 2)


def _texels(block: Tensor, side: int, levels: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the texels of every block, one of `side` times `side`: by quarters, each by quarters."""
    row, col = block // side, block % side
    for _ in range(levels):
        row, col = (
            torch.stack([2 * at + quarter[axis] for quarter in _QUARTERS], 1).flatten() for axis, at in enumerate((row, col))
        )
    return row, col


def _cells(row: Tensor, col: Tensor, block: Tensor, side: int, depth: int) -> Tensor:
    """Numbers, in the same order, of texels of the mip level that has 2 ^ `depth` of them across a block."""
    number = torch.searchsorted(block, (row >> depth) * side + (col >> depth))
    for bit in range(depth - 1, -1, -1):
        number = 4 * number + 2 * (row >> bit & 1) + (col >> bit & 1)
    return number


@dataclass(frozen=True)
class _Mip:
    """Samples of one mip level.

    Attributes:
        texel: int64 [S, 4]; weight: float32 [S, 4], what a sample mixes.
        order: int64 [4 S], these sorted by texel; start: int64 [T + 1], where each texel's begin.
    """

    texel: Tensor
    weight: Tensor
    order: Tensor
    start: Tensor

    @staticmethod
    def of(texel: Tensor, weight: Tensor, texels: int) -> _Mip:
        order = torch.sort(texel.reshape(-1), stable=True)
        return _Mip(texel, weight, order.indices, run_starts(order.values, texels))

    def samples(self, mip: Tensor) -> Tensor:
        """float32 [S, C] of a mip level [C, T]."""
        return (mip.T[self.texel] * self.weight[:, :, None]).sum(1)

    def back(self, samples: Tensor) -> Tensor:
        """The transposed: float32 [C, T] of samples [S, C]."""
        told = samples[self.order // 4] * self.weight.reshape(-1)[self.order, None]
        return segment_sum(told, self.start).float().T


def _solve(means: Tensor, share: Tensor, colours: Tensor, mips: list[_Mip]) -> Tensor:
    """What to add to the free texels of every 2 x 2, float32 [C, T], from their means and the shares [1, T] of free ones.

    Of samples a and b on the sides of a seam and its colour t, from `colours` [S, C], the least of `(a - b)^2 +
    _TRUTH (a + b - 2 t)^2` over all mip levels, finest first.
    """

    def samples(first: Tensor) -> list[Tensor]:
        levels = [first]
        for _ in mips[1:]:
            levels.append(_quarter(levels[-1]))
        return [mip.samples(level).view(len(colours), 2, -1) for mip, level in zip(mips, levels, strict=True)]

    def back(found: list[Tensor]) -> Tensor:
        total = torch.zeros_like(means[:, :1])
        for mip, sides in zip(reversed(mips), reversed(found), strict=True):
            apart, off = sides[:, 0] - sides[:, 1], _TRUTH * (sides[:, 0] + sides[:, 1])
            here = mip.back(torch.stack([off + apart, off - apart], 1).flatten(0, 1))
            total = here.unflatten(1, (-1, 4)).add(total[:, :, None] / 4).flatten(1) if mip is not mips[-1] else here
        return share * total

    change = torch.zeros_like(means)
    rest = back([colours[:, None] - sides for sides in samples(means)])
    step, size = rest, _squared(rest)
    for _ in range(_STEPS):
        answer = back(samples(share * step)) + _HOLD * share * step
        length = size / (step * answer).sum(dtype=torch.float64).clamp_min(_TINY)
        change, rest = change + length * step, rest - length * answer
        size, before = _squared(rest), size
        step = rest + size / before.clamp_min(_TINY) * step
    return change


def _squared(values: Tensor) -> Tensor:
    return values.square().sum(dtype=torch.float64)  # so that the number of threads makes no difference


def _quarter(level: Tensor) -> Tensor:
    """The next mip level [C, T / 4]."""
    return sum(level[:, part::4] for part in range(4)) / 4
