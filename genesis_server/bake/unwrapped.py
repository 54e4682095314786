# SPDX-License-Identifier: Apache-2.0
"""A mesh with one place in a texture for every point of its surface."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class UnwrappedMesh:
    """Triangles in model space whose vertices are split where two charts meet.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3]; every face has area in space and in the texture.
        normals: float32 [V, 3], unit smooth normals of the mesh before the split, so that seams do not show in shading.
        uvs: float32 [V, 2] in 0..1, bake space = glTF convention: the centre of texel (row r, column c) is at
            `((c + 0.5) / W, (r + 0.5) / H)`. Charts are not mirrored: a picture on them reads the right way round from outside.
        tangents: float32 [V, 3], unit, towards growing u; the bitangent is `normal x tangent`, up in the picture.
        source_vertex: int64 [V], the vertex of the mesh that was unwrapped.
        chart: int32 [F], which connected piece of the texture the face lies in.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    uvs: Tensor
    tangents: Tensor
    source_vertex: Tensor
    chart: Tensor
