# SPDX-License-Identifier: Apache-2.0
"""The procedural world that genesis-mini is trained and measured on (docs/spec/mini.md 1).

Objects are signed distance fields drawn from integer seeds; pictures, O-Voxels and their attributes are computed from
them exactly, on a GPU or on the CPU, from one Warp source.

    world = World("cuda")
    objects = world.objects(seed=1, start=0, count=64)
    pictures = world.pictures(objects)
    voxels = world.voxels(objects)
"""

from __future__ import annotations

import torch

from genesis_server.protocol.errors import ErrorCode, GenesisError

from . import sdf, voxels
from .objects import Objects, generate, turned
from .render import Pictures, take_pictures
from .sheet import save_sheet
from .voxels import Voxels, visible

__all__ = ["Objects", "Pictures", "Voxels", "World", "save_sheet", "visible"]


class World:
    """Source of objects and of everything there is to know about them.

    Args:
        device: where every result lives.
        resolution: O-Voxel cells per side, a multiple of 4.
        picture: default picture size in pixels.
        further: share of slender things and fruit. Without it objects are those of the first twelve slots alone, on which all
            numbers of the model card but those of slender things are measured.
        toys: share of toys, flowers, cakes, shoes and the like among what is left after that.

    Raises:
        GenesisError: BAD_PARAMETER for a resolution that is no positive multiple of 4.
    """

    def __init__(
        self, device: torch.device | str, resolution: int = 128, picture: int = 224, further: float = 0.0, toys: float = 0.0
    ) -> None:
        if resolution < 4 or resolution % voxels.BLOCK:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"The world cannot make voxels at resolution {resolution}.",
                f"Use a positive multiple of {voxels.BLOCK}.",
            )
        self.device = torch.device(device)
        self.resolution = resolution
        self.picture = picture
        self.further, self.toys = further, toys

    def objects(self, seed: int, start: int, count: int) -> Objects:
        """Objects `start` .. `start + count - 1` of `seed`: the same ones whatever the batch."""
        return generate(self.device, seed, start, count, self.further, self.toys)

    def turned(self, objects: Objects, turn: torch.Tensor) -> Objects:
        """The same objects after a turn [B] in radians about their vertical axis, counter-clockwise from above; framed anew."""
        return turned(objects, turn)

    def pictures(self, objects: Objects, size: int | None = None, supersample: int = 2) -> Pictures:
        """Square pictures of `size` pixels (default: the world's) with supersample^2 rays per pixel, and their maps."""
        size = size or self.picture
        return take_pictures(objects.primitives, objects.materials, objects.frame, objects.light, size, supersample)

    def voxels(self, objects: Objects) -> Voxels:
        """O-Voxel with PBR attributes at the world's resolution."""
        return voxels.voxelise(objects.primitives, objects.materials, objects.frame, self.resolution)

    def occupancy(self, cells: Voxels, grid: int) -> torch.Tensor:
        """Bool [B, grid, grid, grid]: coarse cells that hold an active cell; `grid` divides the resolution."""
        return voxels.occupancy(cells, grid)

    def sdf(self, objects: Objects, points: torch.Tensor) -> torch.Tensor:
        """Signed distance [B, P] float32 at model points [B, P, 3]: negative inside, a lower bound in magnitude."""
        return sdf.sample(objects.primitives, objects.frame, points)
