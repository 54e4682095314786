# SPDX-License-Identifier: Apache-2.0
"""A textured surface as files hold it: triangles with UVs, normals and materials (docs/spec/geometry.md 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from torch import Tensor

from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.texture import Texture


class AlphaMode(IntEnum):
    """What alpha means."""

    OPAQUE = 0
    MASK = 1
    BLEND = 2


@dataclass(frozen=True)
class SurfaceMaterial:
    """Factors 0..1 and the textures they multiply; a texture has the channels of its factor.

    Attributes:
        alpha_cutoff: in mode MASK, alpha below is 0 and the rest 1.
        normal_texture: tangent space, [H, W, 3].
    """

    base_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    metallic: float = 1.0
    roughness: float = 1.0
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    alpha: float = 1.0
    alpha_mode: AlphaMode = AlphaMode.OPAQUE
    alpha_cutoff: float = 0.5
    base_color_texture: Texture | None = None
    metallic_texture: Texture | None = None
    roughness_texture: Texture | None = None
    emissive_texture: Texture | None = None
    alpha_texture: Texture | None = None
    normal_texture: Texture | None = None


@dataclass(frozen=True)
class TexturedSurface:
    """Triangles in model space.

    Attributes:
        mesh: F faces.
        corner_uv: float32 [F, 3, 2], v growing upward; None where nothing is textured.
        corner_normals: float32 [F, 3, 3]; None for the faces' own.
        material_of_face: int64 [F].
        materials: by number.
    """

    mesh: Mesh
    material_of_face: Tensor
    materials: tuple[SurfaceMaterial, ...] = field(default_factory=lambda: (SurfaceMaterial(),))
    corner_uv: Tensor | None = None
    corner_normals: Tensor | None = None
