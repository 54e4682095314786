# SPDX-License-Identifier: Apache-2.0
"""An indexed triangle mesh as two tensors; every operator of this room takes and returns one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from native_ext.mesh_sides import Fans, fans_of


@dataclass(frozen=True)
class Mesh:
    """Triangles in model space (z up, the unit cube around the origin), counter-clockwise seen from outside.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], indices into `vertices`.
    """

    vertices: torch.Tensor
    faces: torch.Tensor

    @cached_property
    def fans(self) -> Fans:
        """The sides that start in each vertex; sorted once, as several operators of a clean-up ask for them."""
        return fans_of(self.faces, len(self.vertices))
