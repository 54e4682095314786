# SPDX-License-Identifier: Apache-2.0
"""A given mesh as the model sees it (one surface that fills the unit cube) and as its author sees it, and the way back:
textures baked onto its own texture coordinates (docs/spec/pipeline.md 13.2, 13.7 to 13.12)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.gltf_scene import GltfScene, Part
from genesis_server.bake.material import Material
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.mesh.repair import weld
from genesis_server.ovoxel.voxelize import fit_to_box
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.protocol.parameters import BakeSettings

OnStep = Callable[[int, int], None]

_SMALLEST_ATLAS = 1e-4  # share of the texture that all faces together must cover for coordinates to be of use
_TILES_MAX = 1.0  # extent of a face in the texture; one that spans more repeats the texture within itself


class MeshSurface:
    """The triangles of a scene.

    Attributes:
        mesh: all of them in model space (z up), centred and scaled into the box [-0.5, 0.5]^3.
        has_uvs: whether every part has texture coordinates that a texture can be baked for.
    """

    def __init__(self, scene: GltfScene) -> None:
        self._scene = scene
        self._parts = [part for part in scene.parts if len(part.faces)]
        starts = np.cumsum([0] + [len(part.vertices) for part in self._parts])
        vertices = torch.from_numpy(z_up(np.concatenate([part.vertices for part in self._parts])))
        faces = np.concatenate([part.faces + start for part, start in zip(self._parts, starts, strict=False)])
        self._placed = Mesh(vertices, torch.from_numpy(faces).int())
        fitted = fit_to_box(self._placed)
        self.mesh = Mesh(fitted.vertices.float(), fitted.faces)
        self._normals: Tensor | None = None
        if all(part.normals is not None for part in self._parts):
            self._normals = torch.from_numpy(z_up(np.concatenate([part.normals for part in self._parts]))).float()
        self.has_uvs = all(_usable(part) for part in self._parts)

    def write(self, path: Path, voxels: OVoxel, settings: BakeSettings, on_step: OnStep | None = None) -> None:
        """Bake the voxels' attributes and write the mesh with them, in its place and size.

        Args:
            voxels: of `mesh`, with attributes.
            settings: texture size and alpha mode; the mesh itself is not changed, whatever else they say.
        """
        settings = dataclasses.replace(settings, normal_map=False)  # the mesh's faces are all there; its own map is kept
        if self.has_uvs:
            materials = self._bake_own(voxels, settings, on_step)
            path.write_bytes(self._scene.retextured(materials, settings.texture_format))
            return
        unwrapped = unwrap(weld(self.mesh), settings.texture_size)  # corners with normals of their own are no cuts
        material = bake_textures(unwrapped, self.mesh, voxels, settings, on_step)
        write_glb(path, self._in_place(unwrapped), material, texture_format=settings.texture_format)

    def _in_place(self, unwrapped: UnwrappedMesh) -> UnwrappedMesh:
        """The unwrapped mesh with the scene's positions, and the normals of its own that faces have."""
        welded = weld(self.mesh).faces.long()
        rows = torch.cat([welded, unwrapped.source_vertex[unwrapped.faces.long()]])
        _, which = torch.unique(rows, dim=0, return_inverse=True)
        face = torch.empty(int(which.max()) + 1, dtype=torch.int64)
        face[which[: len(welded)]] = torch.arange(len(welded))  # of faces with the same corners, any
        corner = self._placed.faces.long()[face[which[len(welded) :]]].reshape(-1)
        pairs = torch.stack([corner, unwrapped.faces.long().reshape(-1)], dim=1)
        pairs, faces = torch.unique(pairs, dim=0, return_inverse=True)
        source, place = pairs.unbind(1)
        smooth = unwrapped.normals[place]
        return UnwrappedMesh(
            vertices=self._placed.vertices.float()[source],
            faces=faces.reshape(-1, 3).int(),
            normals=smooth if self._normals is None else self._normals[source],
            uvs=unwrapped.uvs[place],
            tangents=unwrapped.tangents[place],
            source_vertex=source,
            chart=unwrapped.chart,
        )

    def _bake_own(self, voxels: OVoxel, settings: BakeSettings, on_step: OnStep | None) -> dict[int, Material]:
        """A material for every one that the parts have, on their own coordinates."""
        normals, done = vertex_normals(self.mesh), {}
        numbers = sorted({part.material for part in self._parts})
        for index, number in enumerate(numbers):

            def tell(step: int, steps: int, index: int = index) -> None:
                if on_step is not None:
                    on_step(index * steps + step, len(numbers) * steps)

            done[number] = bake_textures(self._of_material(number, normals), self.mesh, voxels, settings, tell)
        return done

    def _of_material(self, number: int, normals: Tensor) -> UnwrappedMesh:
        """The faces of one material with their own coordinates, moved into the tile 0..1 (`_into_tile`)."""
        corners, uvs, start = [], [], 0
        for part in self._parts:
            if part.material == number and not part.repeated:
                faces, places = _into_tile(part.uvs[part.faces])
                corners.append(torch.from_numpy(part.faces[faces] + start))
                uvs.append(torch.from_numpy(places))
            start += len(part.vertices)
        corner = torch.cat(corners).reshape(-1)
        count = len(corner) // 3
        return UnwrappedMesh(
            vertices=self.mesh.vertices[corner],
            faces=torch.arange(3 * count).reshape(-1, 3).int(),
            normals=normals[corner],
            uvs=torch.cat(uvs).reshape(-1, 2).float(),
            source_vertex=corner,
            tangents=torch.zeros(3 * count, 3),  # only normal maps ask for them
            chart=torch.zeros(count, dtype=torch.int32),
        )


def z_up(vectors: np.ndarray) -> np.ndarray:
    """float64 [n, 3] from glTF's axes; in double, unlike `from_gltf`."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], 1)


def _usable(part: Part) -> bool:
    if part.uvs is None or not np.isfinite(part.uvs).all():
        return False
    corners = part.uvs[part.faces].astype(np.float64)
    if float((corners.max(1) - corners.min(1)).max()) > _TILES_MAX:
        return False
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2) > _SMALLEST_ATLAS


def _into_tile(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faces, and where in 0..1: textures repeat outside, so every tile shows the same texels.

    Args:
        corners: float [F, 3, 2].

    Returns:
        int64 [n] face numbers, and float64 [n, 3, 2].
    """
    faces = np.arange(len(corners))
    places = corners - np.floor(corners.min(1, keepdims=True))
    for axis in (0, 1):
        over = places[..., axis].max(1) > 1
        again = places[over].copy()
        again[..., axis] -= 1
        faces, places = np.concatenate([faces, faces[over]]), np.concatenate([places, again])
    return faces, places
