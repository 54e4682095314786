# SPDX-License-Identifier: Apache-2.0
"""An indexed triangle mesh as two tensors; every operator of this room takes and returns one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.mesh_sides import Fans, fans_of, twin_sides


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

    @cached_property
    def twins(self) -> torch.Tensor:
        """int32 [3 F], who lies across each side; see `twin_sides`."""
        return twin_sides(self.faces, self.fans)


def check_mesh(mesh: Mesh) -> None:
    """Raises GenesisError BAD_MESH for a mesh without faces, faces that name no vertex, or vertices that are not finite."""
    if len(mesh.faces) == 0 or len(mesh.vertices) == 0:
        raise GenesisError(ErrorCode.BAD_MESH, "The mesh has no faces.", "Choose a mesh with faces.")
    low, high = (int(end) for end in torch.aminmax(mesh.faces))
    if low < 0 or high >= len(mesh.vertices):
        raise GenesisError(
            ErrorCode.BAD_MESH,
            f"The mesh has faces that name vertex {low if low < 0 else high} of {len(mesh.vertices)}.",
            "Repair the mesh.",
        )
    wrong = int((~torch.isfinite(mesh.vertices)).any(1).sum())
    if wrong:
        raise GenesisError(ErrorCode.BAD_MESH, f"The mesh has {wrong} vertices that are not finite.", "Repair the mesh.")
