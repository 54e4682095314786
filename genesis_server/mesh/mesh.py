# SPDX-License-Identifier: Apache-2.0
"""An indexed triangle mesh as two tensors; every operator of this room takes and returns one."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mesh:
    """Triangles in model space (z up, the unit cube around the origin), counter-clockwise seen from outside.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], indices into `vertices`.
    """

    vertices: torch.Tensor
    faces: torch.Tensor
