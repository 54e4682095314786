# SPDX-License-Identifier: Apache-2.0
"""Fresh objects of the procedural world, each seen once (docs/spec/mini.md 1).

Every phase draws from a seed of its own; the held-out objects of the evaluation have a seed no phase uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genesis_server.mini.training import Run
from genesis_server.mini.world import Objects, Pictures, World
from genesis_server.pipeline.conditioning import from_behind
from genesis_server.sparse.tensor import Level, SparseTensor

HELD_OUT_SEED = 990_001
CAMERA_DISTANCE = 0.5 / math.tan(math.radians(15))  # the camera looks along +y; docs/spec/mini.md 1
DRAWN_AT_ONCE = 512
FURTHER_SHARE = 0.22  # of the objects are slender things and fruit
TOYS_SHARE = 0.3  # of the objects are toys, flowers, cakes and the like
SMOOTH_SHARE = 0.5  # of the pictures are anti-aliased, as real ones are, at three times the cost; others have one ray per pixel
# Pictures are not only the world's renderings: drawings have flat colours, photographs another exposure.
FLAT_SHARE, EXPOSED_SHARE = 0.35, 0.4
OUTLINE = 0.7  # of the flat ones have dark lines, one to five pixels wide, where the surface turns or ends
EDGED = 0.5  # of those also have lines where colours meet
# Lines and grain are often only drawn or printed: they say nothing about the shape.
HATCHED_SHARE, GRAINED_SHARE = 0.15, 0.15
GAMMA = 0.2  # exposure: v -> v^exp(u), u uniform within this
CELLS = 4  # auxiliary targets per patch and axis
OUTLINE_CELLS = 8  # of the outline, which slender things need at almost the voxels' size
AUXILIARY = {"alpha": slice(0, 1), "albedo": slice(1, 4), "material": slice(4, 6), "normal": slice(6, 9), "depth": slice(9, 10)}
AUXILIARY_CHANNELS = 10


@dataclass
class Supply:
    """Objects `seed`, 0, 1, 2, ...

    Attributes:
        run: device and sizes.
        seed: of the stream.
        next: number of the next object; differs between the parts of a resumed phase, so that nothing repeats.
    """

    run: Run
    seed: int
    next: int = 0
    world: World = field(init=False)
    _ready: Objects | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        further, toys = (0.0, 0.0) if self.seed == HELD_OUT_SEED else (FURTHER_SHARE / (1 - TOYS_SHARE), TOYS_SHARE)
        self.world = World(self.run.device, self.run.sizes.resolution, self.run.sizes.picture, further, toys)

    def objects(self, count: int) -> Objects:
        """The next `count` objects. Many are drawn at once: fitting one to its frame takes as long as fitting hundreds."""
        if self._ready is None or len(self._ready) < count:
            self._ready = self.world.objects(self.seed, self.next, max(count, self.run.scaled(DRAWN_AT_ONCE)))
        self.next += count
        chosen, self._ready = take_rows(self._ready, slice(count)), take_rows(self._ready, slice(count, None))
        return chosen

    def occupancy(self, objects: Objects) -> Tensor:
        """bool `[B, R, R, R]` of surface cells on the structure grid."""
        return self.world.occupancy(self.world.voxels(objects), self.run.sizes.structure_grid)

    def pictures(self, objects: Objects) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 `[B, 4, S, S]` pictures, float16 `[B, 10, 4P, 4P]` auxiliary targets (`AUXILIARY`), P patches a side, and the
        float16 `[B, 1, 8P, 8P]` outline.

        Targets are means over their cell's covered part; depth and normals in model units.
        """
        smooth = float(torch.rand(())) < SMOOTH_SHARE
        seen = self.world.pictures(objects, self.run.sizes.picture, 2 if smooth else 1)
        alpha = _channels_first(seen.alpha)
        maps = [seen.albedo, seen.metallic_roughness, seen.normal, seen.depth - CAMERA_DISTANCE]
        maps = torch.cat([_channels_first(value) for value in maps], dim=1)
        cell = self.run.sizes.picture // (self.run.sizes.patches * CELLS)
        cover = F.avg_pool2d(alpha, cell)
        means = F.avg_pool2d(torch.where(alpha > 0, maps, 0.0) * alpha, cell) / cover.clamp(min=1e-3)
        outline = F.avg_pool2d(alpha, self.run.sizes.picture // (self.run.sizes.patches * OUTLINE_CELLS))
        return varied(seen), torch.cat([cover, means], dim=1).half(), outline.half()

    def views(self, objects: Objects) -> tuple[Tensor, Tensor, Tensor]:
        """A second picture of each object, half of them from behind (mirrored), the others from the left or the right.

        Returns:
            uint8 `[B, 4, S, S]` and the turn that leads to it, float32 `[B]` radians (`World.turned`).
        """
        # two or four pictures of a turntable; turns of any size were tried and learned too slowly to be of use
        quarters = torch.tensor([2.0, 2.0, 1.0, 3.0], device=objects.frame.device)
        turn = quarters[torch.randint(4, (len(objects),), device=quarters.device)] * math.pi / 2
        rgb = varied(self.world.pictures(self.world.turned(objects, turn), self.run.sizes.picture, 1))
        return torch.where(from_behind(turn).view(-1, 1, 1, 1), rgb.flip(-1), rgb), turn


def varied(seen: Pictures) -> Tensor:
    """The renderings, uint8 `[B, 4, S, S]` as `plain` has them: some as flat drawings, some with lines or grain on their
    surface, some with another exposure."""
    rgb, alpha, albedo = (_channels_first(value) for value in (seen.rgb, seen.alpha, seen.albedo))
    draw = torch.rand(9, len(rgb), 1, 1, 1, device=rgb.device)
    line = torch.maximum(_jumps(_channels_first(seen.normal), 0.5), (draw[6] < EDGED) * _jumps(albedo, 0.03))
    widths = torch.stack([line, F.max_pool2d(line, 3, 1, 1), F.max_pool2d(line, 5, 1, 2)])
    line = widths.gather(0, (3 * draw[4]).long().expand_as(line)[None])[0]
    flat = torch.lerp(albedo * alpha, rgb, 0.5 * draw[5])
    flat = torch.where((line > 0) & (draw[0] < OUTLINE), 0.12 * flat, flat)
    rgb = torch.where(draw[1] < FLAT_SHARE, flat, rgb)
    rgb = torch.where(draw[7] < HATCHED_SHARE, rgb * _hatching(albedo, alpha), rgb)
    rgb = torch.where(draw[8] < GRAINED_SHARE, (rgb * _grain(rgb)).clamp(max=1).minimum(alpha), rgb)
    exponent = torch.exp(GAMMA * (2 * draw[2] - 1))
    rgb = torch.where(draw[3] < EXPOSED_SHARE, alpha * (rgb / alpha.clamp(min=1 / 255)).clamp(0, 1) ** exponent, rgb)
    return (255 * torch.cat([rgb, alpha], dim=1)).clamp(0, 255).round().to(torch.uint8)


def _jumps(maps: Tensor, least: float) -> Tensor:
    """float32 `[B, 1, S, S]`: 1 where a map `[B, C, S, S]` differs from its neighbours by a square of `least`."""
    steps = (maps - maps.roll(1, 2)).square() + (maps - maps.roll(1, 3)).square()
    return (steps.sum(1, keepdim=True) > least).float()


def _hatching(albedo: Tensor, alpha: Tensor) -> Tensor:
    """Factors `[B, 1, S, S]`: one or two families of dark, bent lines on what has the colour of a random pixel."""
    count, _, side, _ = albedo.shape
    pixel = torch.multinomial(alpha.flatten(1) + 1e-6, 1)
    colour = albedo.flatten(2).gather(2, pixel[:, None].expand(-1, 3, -1))[..., None]
    region = (albedo - colour).abs().amax(1, keepdim=True) < 0.15
    axis = torch.linspace(-1, 1, side, device=albedo.device)
    y, x = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
    draw = torch.rand(7, count, 1, 1, 1, device=albedo.device)
    angle, bend, pitch = math.pi * draw[0], 2 * draw[1] - 1, 3 + 9 * draw[2]
    lines = torch.zeros_like(alpha, dtype=torch.bool)
    for turn, wanted in ((0.0, torch.ones_like(draw[3])), (1.2, draw[3] < 0.6)):
        c, s = torch.cos(angle + turn), torch.sin(angle + turn)
        along = pitch * (c * x + s * y + bend * (c * y - s * x).square()) + draw[4]
        lines |= (along.frac().abs() < 0.08 + 0.17 * draw[5]) & (wanted > 0)
    return torch.where(lines & region, 0.1 + 0.6 * draw[6], 1.0)


def _grain(rgb: Tensor) -> Tensor:
    """Factors around 1 `[B, 1, S, S]`: smooth noise, one size of grain for all."""
    cells = int(torch.randint(10, 90, ()))
    noise = torch.randn(len(rgb), 1, cells, cells, device=rgb.device)
    noise = F.interpolate(noise, size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    return 1 + 0.3 * torch.rand(len(rgb), 1, 1, 1, device=rgb.device) * noise


def plain(seen: Pictures) -> Tensor:
    """The renderings as they are, colours multiplied by alpha and alpha, uint8 `[B, 4, S, S]`."""
    return torch.cat([seen.rgb, seen.alpha[..., None]], dim=-1).permute(0, 3, 1, 2).contiguous()


def take_rows(objects: Objects, rows: slice) -> Objects:
    """Some of the objects."""
    return Objects(**{item.name: getattr(objects, item.name)[rows].contiguous() for item in fields(objects)})


def _channels_first(image: Tensor) -> Tensor:
    """`[B, H, W]` or `[B, H, W, C]`, uint8 or float, to float32 `[B, C, H, W]`; bytes become 0..1."""
    image = image[..., None] if image.ndim == 3 else image
    image = image.permute(0, 3, 1, 2)
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def picture_tensor(pictures: Tensor) -> Tensor:
    """uint8 to the float32 0..1 that the image encoder takes."""
    return pictures.float() / 255


def shape_input(voxels: Any, level: Level) -> tuple[SparseTensor, Tensor]:
    """What the shape encoder is given: offsets and edge flags."""
    return SparseTensor(voxels.offsets, level), voxels.intersected


def texture_input(attributes: Tensor, level: Level) -> SparseTensor:
    """Attributes in 0..1 to the [-1, 1] of the texture networks."""
    return SparseTensor(attributes * 2 - 1, level)
