# SPDX-License-Identifier: Apache-2.0
"""Write binary glTF 2.0: one object in one or several levels of detail, one material (docs/spec/geometry.md 1.2, 1.4, 17.9-10).

An own thin writer: buffer targets, bounds and alpha mode exactly as the Khronos validator wants them, and nothing else. glTF is
y-up, model space is z-up: (x, y, z) is written as (x, z, -y).

Levels of detail share the material. The scene shows level 0; the others are nodes of their own, named by level and listed by
the extension MSFT_lod on level 0. So a viewer that knows the extension switches between them, one that does not shows the
finest, and Blender imports every level as an object of its own. As several nodes of the scene they would be drawn into each
other by every viewer.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from genesis_server.bake.images import MIME, encode_image
from genesis_server.bake.material import ALPHA_CUTOFF, Material
from genesis_server.bake.unwrapped import UnwrappedMesh

GENERATOR = "Genesis"
OBJECT_NAME = "Genesis"
MAGIC, CHUNK_JSON, CHUNK_BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
SCREEN_COVERAGE = (0.3, 0.06, 0.0)  # share of the screen's height from which each level suffices (MSFT_lod's hint)
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_VERTEX_TARGET, _INDEX_TARGET = 34962, 34963
_LINEAR_MIPMAP, _LINEAR, _CLAMP = 9987, 9729, 33071
_WEBP, _LOD = "EXT_texture_webp", "MSFT_lod"


def write_glb(
    path: str | os.PathLike[str],
    levels: UnwrappedMesh | Sequence[UnwrappedMesh],
    material: Material,
    extras: Mapping[str, Any] | None = None,
    texture_format: str = "png",
) -> None:
    """Writes a GLB.

    Args:
        path: of the file; written in place, so hand in a temporary name where a crash must not matter.
        levels: the mesh in model space, or its levels of detail, finest first, all in the same texture.
        material: its textures; with a normal map, tangents are written too.
        extras: plain JSON values, kept in `asset.extras`.
        texture_format: png, webp or jpeg; a picture with transparency stays PNG where JPEG is asked for.

    Raises:
        OSError: when the file cannot be written.
    """
    levels = [levels] if isinstance(levels, UnwrappedMesh) else list(levels)
    builder = _Builder()
    pictures = [("base_color", material.base_color), ("metallic_roughness", material.metallic_roughness)]
    if material.normal is not None:
        pictures.append(("normal", material.normal))
    with ThreadPoolExecutor(len(pictures)) as pool:
        jobs = [pool.submit(encode_image, picture, texture_format, name == "base_color") for name, picture in pictures]
        for number, mesh in enumerate(levels):
            builder.add_level(mesh, number, material.normal is not None)
        for (name, _), job in zip(pictures, jobs, strict=True):
            builder.add_image(name, *job.result())
    document = builder.document(material, extras)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    with Path(path).open("wb") as file:
        file.write(struct.pack("<III", MAGIC, 2, 12 + 8 + len(text) + 8 + builder.length))
        file.write(struct.pack("<II", len(text), CHUNK_JSON) + text + struct.pack("<II", builder.length, CHUNK_BIN))
        file.writelines(builder.parts)


def to_gltf(vectors: np.ndarray) -> np.ndarray:
    """Model space (z up) to glTF (y up), float32 [n, 3]."""
    return np.ascontiguousarray(np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], 1), dtype=np.float32)


def from_gltf(vectors: np.ndarray) -> np.ndarray:
    """glTF (y up) to model space (z up), float32 [n, 3]."""
    return np.ascontiguousarray(np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], 1), dtype=np.float32)


class _Builder:
    """Collects binary parts and the glTF objects that refer to them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []
        self._meshes: list[dict[str, Any]] = []
        self._nodes: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []

    def add_level(self, mesh: UnwrappedMesh, number: int, with_tangents: bool) -> None:
        vertices, normals = to_gltf(mesh.vertices.cpu().numpy()), to_gltf(mesh.normals.cpu().numpy())
        bounds = {"min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()}
        attributes = {
            "POSITION": self._accessor(vertices, "VEC3", _FLOAT, _VERTEX_TARGET, bounds),
            "NORMAL": self._accessor(normals, "VEC3", _FLOAT, _VERTEX_TARGET),
            "TEXCOORD_0": self._accessor(mesh.uvs.cpu().numpy().astype(np.float32), "VEC2", _FLOAT, _VERTEX_TARGET),
        }
        if with_tangents:
            tangents = np.pad(to_gltf(mesh.tangents.cpu().numpy()), ((0, 0), (0, 1)), constant_values=1)
            attributes["TANGENT"] = self._accessor(tangents, "VEC4", _FLOAT, _VERTEX_TARGET)
        narrow = len(vertices) <= 65535
        indices = mesh.faces.cpu().numpy().astype(np.uint16 if narrow else np.uint32).reshape(-1)
        index = self._accessor(indices, "SCALAR", _USHORT if narrow else _UINT, _INDEX_TARGET)
        name = OBJECT_NAME if number == 0 else f"{OBJECT_NAME}_LOD{number}"
        self._meshes.append({"name": name, "primitives": [{"attributes": attributes, "indices": index, "material": 0}]})
        self._nodes.append({"name": name, "mesh": number})

    def add_image(self, name: str, data: bytes, kind: str) -> None:
        self._images.append({"name": name, "bufferView": self._view(data), "mimeType": MIME[kind]})

    def document(self, material: Material, extras: Mapping[str, Any] | None) -> dict[str, Any]:
        textures = [self._texture(number, image["mimeType"]) for number, image in enumerate(self._images)]
        document = {
            "asset": {"version": "2.0", "generator": GENERATOR, **({"extras": dict(extras)} if extras else {})},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": self._nodes,
            "meshes": self._meshes,
            "materials": [_surface(material)],
            "textures": textures,
            "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _CLAMP, "wrapT": _CLAMP}],
            "images": self._images,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": self.length}],
        }
        if len(self._nodes) > 1:
            coverage = [*SCREEN_COVERAGE[: len(self._nodes) - 1], 0.0]
            lod = {"extensions": {_LOD: {"ids": list(range(1, len(self._nodes)))}}, "extras": {"MSFT_screencoverage": coverage}}
            document["nodes"] = [{**self._nodes[0], **lod}, *self._nodes[1:]]
        webp = any("extensions" in texture for texture in textures)
        used = [name for name, needed in ((_WEBP, webp), (_LOD, len(self._nodes) > 1)) if needed]
        if used:
            document["extensionsUsed"] = used
        if webp:
            document["extensionsRequired"] = [_WEBP]
        return document

    def _texture(self, number: int, mime: str) -> dict[str, Any]:
        if mime == MIME["webp"]:
            return {"sampler": 0, "extensions": {_WEBP: {"source": number}}}
        return {"sampler": 0, "source": number}

    def _accessor(
        self, values: np.ndarray, kind: str, component: int, target: int, bounds: dict[str, Any] | None = None
    ) -> int:
        view = self._view(np.ascontiguousarray(values).tobytes(), target)
        accessor = {"bufferView": view, "componentType": component, "count": len(values), "type": kind, **(bounds or {})}
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def _view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": self.length, "byteLength": len(data)}
        self._views.append(view if target is None else {**view, "target": target})
        padding = bytes(-len(data) % 4)
        self.parts += [data, padding]
        self.length += len(data) + len(padding)
        return len(self._views) - 1


def _surface(material: Material) -> dict[str, Any]:
    surface: dict[str, Any] = {
        "name": OBJECT_NAME,
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}},
        "doubleSided": material.double_sided,
    }
    if material.normal is not None:
        surface["normalTexture"] = {"index": 2}
    if material.alpha_mode != "OPAQUE":
        surface["alphaMode"] = material.alpha_mode
    if material.alpha_mode == "MASK":
        surface["alphaCutoff"] = ALPHA_CUTOFF
    return surface
