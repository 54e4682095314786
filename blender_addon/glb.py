# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the GLB of an asset into arrays that Blender takes as they are: welded, z-up, with UVs and normals of each corner.

A GLB doubles the vertices along its UV seams. Here they become one again, since Blender keeps UVs at the corners of faces: the
mesh stays closed, shades smoothly over the seams and can be edited. Needs numpy, which Blender has, and nothing of Blender
itself: it runs on a thread of its own, and Blender's own importer, which takes seconds for such a mesh, is not used.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genesis_server.protocol.errors import ErrorCode, GenesisError

MAX_BYTES = 2 << 30  # of a file; more is not one of ours
_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)  # odd, their bits well mixed
_SAME_NORMAL = 0.9998  # cosine, about one degree: below it the copies of a vertex mean a crease


@dataclass(frozen=True, eq=False)
class MeshArrays:
    """One mesh as Blender stores it; z is up.

    Attributes:
        vertices: float32 [V, 3].
        corners: int32 [C], the vertex of each corner of each face.
        uvs: float32 [C, 2], lower left origin as in Blender; None where there are none.
        normals: float32, [V, 3], or [C, 3] where the surface has creases; None to let Blender find them.
        sides: corners of each face: 3, or 4 for voxels.
        flat: whether faces keep their edges: voxels have some, and a raw surface is not oriented yet and would look torn.
    """

    vertices: np.ndarray
    corners: np.ndarray
    uvs: np.ndarray | None = None
    normals: np.ndarray | None = None
    sides: int = 3
    flat: bool = False


@dataclass(frozen=True, eq=False)
class Texture:
    """One encoded image of the file.

    Attributes:
        data: the bytes of a PNG, JPEG or WebP file.
        suffix: of such a file, with its dot.
    """

    data: bytes
    suffix: str


@dataclass(frozen=True, eq=False)
class Surface:
    """The one material of an asset.

    Attributes:
        textures: by role, "base_color", "metallic_roughness" and "normal".
        base_color: RGBA factor, used alone where there is no texture.
        metallic, roughness: factors.
        alpha: "OPAQUE", "MASK" or "BLEND".
        cutoff: of MASK.
        two_sided: whether back faces are drawn.
    """

    textures: dict[str, Texture]
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic: float = 1.0
    roughness: float = 1.0
    alpha: str = "OPAQUE"
    cutoff: float = 0.5
    two_sided: bool = True


@dataclass(frozen=True, eq=False)
class Model:
    """An asset as it comes into Blender: its levels of detail, finest first, and what they all look like."""

    levels: tuple[MeshArrays, ...]
    surface: Surface
    extras: dict[str, Any] = field(default_factory=dict)


def read_model(path: Path) -> Model:
    """The meshes and the material of a GLB.

    Raises:
        GenesisError: BAD_ASSET for a file that is missing, broken or holds no triangles; NO_PERMISSION.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
        document, binary = _chunks(data)
        meshes = document["meshes"]
        levels = tuple(_mesh(document, binary, mesh) for mesh in meshes)
        surface = _surface(document, binary, meshes[0]["primitives"][0].get("material"))
    except FileNotFoundError:
        raise bad_asset(f"{path} does not exist.") from None
    except PermissionError as error:
        raise GenesisError(ErrorCode.NO_PERMISSION, f"{path} may not be read.", "Give yourself access to it.") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise bad_asset(f"{path} could not be read ({type(error).__name__}: {error}).") from error
    return Model(levels, surface, document.get("asset", {}).get("extras", {}))


def placed(mesh: MeshArrays, scale: float, ground: float) -> MeshArrays:
    """A copy that is `scale` times as large and stands on the plane z = 0, `ground` being its lowest z before scaling."""
    vertices = (mesh.vertices - np.array((0.0, 0.0, ground), np.float32)) * np.float32(scale)
    return replace(mesh, vertices=vertices.astype(np.float32, copy=False))


def bad_asset(message: str) -> GenesisError:
    """The error of a result that cannot be imported."""
    return GenesisError(ErrorCode.BAD_ASSET, message, "Generate it again, or correct the asset's folder in the panel.")


def _chunks(data: bytes) -> tuple[dict[str, Any], memoryview]:
    magic, version, length = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2 or length > len(data):
        raise ValueError("it is not a whole GLB file of version 2")
    size, kind = struct.unpack_from("<II", data, 12)
    if kind != _JSON:
        raise ValueError("its first chunk is not JSON")
    document = json.loads(data[20 : 20 + size])
    start = 20 + size
    binary = memoryview(b"")
    if start + 8 <= length:
        size, kind = struct.unpack_from("<II", data, start)
        if kind == _BINARY:
            binary = memoryview(data)[start + 8 : start + 8 + size]
    return document, binary


def _accessor(document: dict[str, Any], binary: memoryview, index: int) -> np.ndarray:
    """An array [count, width], or [count] for scalars; integers that stand for 0..1 are made so."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype, width = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", 0) or dtype.itemsize * width
    values = np.ndarray((accessor["count"], width), dtype, binary, start, (stride, dtype.itemsize))
    if accessor.get("normalized") and dtype.kind in "iu":
        values = np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1.0)
    return values[:, 0] if width == 1 else values


def _mesh(document: dict[str, Any], binary: memoryview, mesh: dict[str, Any]) -> MeshArrays:
    (primitive,) = mesh["primitives"]
    if primitive.get("mode", 4) != 4:
        raise ValueError("it holds something else than triangles")
    attributes = primitive["attributes"]
    positions = _z_up(_accessor(document, binary, attributes["POSITION"]))
    if "indices" in primitive:
        indices = _accessor(document, binary, primitive["indices"]).astype(np.int32)
    else:
        indices = np.arange(len(positions), dtype=np.int32)
    if not len(indices) or len(indices) % 3 or indices.min() < 0 or indices.max() >= len(positions):
        raise ValueError("its faces name vertices that do not exist")
    if not np.isfinite(positions).all():
        raise ValueError("a vertex is not a number")
    vertices, welded = _welded(positions)
    faces = welded[indices].reshape(-1, 3)
    # welding may close a face to a line; Blender's mesh must not have such
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces, indices = faces[whole], indices.reshape(-1, 3)[whole].reshape(-1)
    uvs = normals = None
    if "TEXCOORD_0" in attributes:
        uvs = _accessor(document, binary, attributes["TEXCOORD_0"]).astype(np.float32)[indices]
        uvs[:, 1] = 1.0 - uvs[:, 1]
    if "NORMAL" in attributes:
        normals = _normals(_z_up(_accessor(document, binary, attributes["NORMAL"])), welded, indices, len(vertices))
    return MeshArrays(vertices, np.ascontiguousarray(faces.reshape(-1)), uvs, normals)


def _z_up(values: np.ndarray) -> np.ndarray:
    """glTF's y-up to Blender's z-up: (x, y, z) becomes (x, -z, y); negative zero becomes zero, so that equal is equal."""
    return np.stack((values[:, 0], -values[:, 2], values[:, 1]), axis=1).astype(np.float32) + np.float32(0.0)


def _welded(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct positions in the order in which they first appear, and for each old vertex its new one (int32)."""
    # sorted by one number made of all three, which is several times faster than by three
    mixed = (positions.view(np.uint32).astype(np.uint64) * _MIX).sum(axis=1)
    order = np.argsort(mixed, kind="stable")
    ordered, numbers = positions[order], mixed[order]
    begins = np.ones(len(order), bool)
    begins[1:] = numbers[1:] != numbers[:-1]
    if (ordered[1:] != ordered[:-1])[~begins[1:]].any():  # two positions with the same number: as good as never
        order = np.lexsort((positions[:, 2], positions[:, 1], positions[:, 0]))
        ordered = positions[order]
        begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(order), np.int32)
    group[order] = np.cumsum(begins, dtype=np.int32) - 1
    # the sort is stable, so the first of each group is the one that appears first
    first = order[begins]
    rank = np.empty(len(first), np.int32)
    by_appearance = np.argsort(first)
    rank[by_appearance] = np.arange(len(first), dtype=np.int32)
    return np.ascontiguousarray(positions[first[by_appearance]]), rank[group]


def _normals(normals: np.ndarray, welded: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """Of vertices, where all copies of each vertex agree; of corners otherwise."""
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.where(lengths > 0.0, lengths, 1.0)
    joined = np.empty((count, 3), np.float32)
    joined[welded] = normals
    agree = (joined[welded] * normals).sum(axis=1) >= _SAME_NORMAL
    if agree.all() or not lengths.all():
        return joined
    return np.ascontiguousarray(normals[indices])


def _surface(document: dict[str, Any], binary: memoryview, index: int | None) -> Surface:
    material = document["materials"][index] if index is not None else {}
    metal = material.get("pbrMetallicRoughness", {})
    named = {
        "base_color": metal.get("baseColorTexture"),
        "metallic_roughness": metal.get("metallicRoughnessTexture"),
        "normal": material.get("normalTexture"),
    }
    return Surface(
        {role: _texture(document, binary, info["index"]) for role, info in named.items() if info is not None},
        tuple(metal.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0))),
        metal.get("metallicFactor", 1.0),
        metal.get("roughnessFactor", 1.0),
        material.get("alphaMode", "OPAQUE"),
        material.get("alphaCutoff", 0.5),
        material.get("doubleSided", False),
    )


def _texture(document: dict[str, Any], binary: memoryview, index: int) -> Texture:
    texture = document["textures"][index]
    webp = texture.get("extensions", {}).get("EXT_texture_webp", {})
    image = document["images"][webp.get("source", texture.get("source"))]
    view = document["bufferViews"][image["bufferView"]]
    start = view.get("byteOffset", 0)
    suffix = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}[image["mimeType"]]
    return Texture(bytes(binary[start : start + view["byteLength"]]), suffix)
