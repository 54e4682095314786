# SPDX-License-Identifier: Apache-2.0
"""Read a GLB: the triangles of its scene as one mesh, and the textures of its first material (docs/spec/geometry.md 1.2, 1.4).

Enough for files of any tool that are to be judged or looked at: node transforms, several primitives, PNG, JPEG and WebP inside
the file, interleaved and normalised accessors. What it cannot read it names.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genesis_server.bake.gltf import CHUNK_BIN, CHUNK_JSON, MAGIC, from_gltf
from genesis_server.bake.images import decode_image
from genesis_server.bake.material import Material
from genesis_server.protocol.errors import ErrorCode, GenesisError

_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES = 4
_UNREADABLE = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu")
_NODES_MAX = 10_000  # of a scene walked; a cycle of nodes ends here


@dataclass(frozen=True, eq=False)
class GlbModel:
    """What a GLB holds, in model space (z up).

    Attributes:
        vertices, normals: float32 [V, 3]; zero normals where the file has none.
        faces: int32 [F, 3].
        uvs: float32 [V, 2], glTF convention.
        material: textures and alpha mode of the first material; one white texel where the file has none.
        tangents: float32 [V, 4] in model space, or None.
        materials: how many materials the triangles use.
        levels: levels of detail that the file offers, 1 or more.
        extras: the application's own notes.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    material: Material
    tangents: np.ndarray | None = None
    materials: int = 1
    levels: int = 1
    extras: dict[str, Any] = field(default_factory=dict)


def read_glb(path: str | os.PathLike[str], level: int = 0, textures: bool = True) -> GlbModel:
    """Reads one level of detail of a GLB file.

    Args:
        path: of the file.
        level: 0 is the scene as it is shown; above, the mesh of that level (MSFT_lod).
        textures: whether to decode them; the material is plain white otherwise.

    Raises:
        GenesisError: BAD_MESH when the file is not a readable GLB, has no texture coordinates, no triangles or not this level.
    """
    try:
        document, binary = read_chunks(Path(path).read_bytes())
        return _model(document, binary, level, textures)
    except FileNotFoundError:
        raise GenesisError(ErrorCode.BAD_MESH, f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise GenesisError(ErrorCode.BAD_MESH, f"{path} cannot be read: {error.strerror}.", "Name a GLB file.") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise GenesisError(
            ErrorCode.BAD_MESH, f"{path} is not a textured GLB file: {error}.", "Export it as binary glTF 2.0 with UVs."
        ) from error


def read_chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The description and the binary part of a GLB file; ValueError says what is wrong with it."""
    magic, version, length = struct.unpack_from("<III", data) if len(data) >= 12 else (0, 0, 0)
    if magic != MAGIC or version != 2:
        raise ValueError("it does not start as a GLB 2.0 file does")
    if length > len(data):
        raise ValueError(f"it says {length} bytes and has {len(data)}")
    found: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", data, offset)
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if CHUNK_JSON not in found:
        raise ValueError("its description is missing")
    return json.loads(found[CHUNK_JSON]), found.get(CHUNK_BIN, b"")


def _model(document: dict[str, Any], binary: bytes, level: int, textures: bool) -> GlbModel:
    for name in _UNREADABLE:
        if name in document.get("extensionsRequired", []):
            raise ValueError(f"it needs the extension {name}, which is not supported here")
    nodes = document.get("nodes", [])
    scenes = document.get("scenes") or [{"nodes": list(range(len(nodes)))}]
    roots = scenes[document.get("scene", 0)].get("nodes", [])
    levels = [roots]
    for node in roots:
        for number in nodes[node].get("extensions", {}).get("MSFT_lod", {}).get("ids", []):
            levels.append([number])
    if not 0 <= level < len(levels):
        raise ValueError(f"it has no level of detail {level}, only 0 to {len(levels) - 1}")
    parts = _placed_primitives(nodes, document.get("meshes", []), levels[level])
    if not parts:
        raise ValueError("it has no triangles")
    pieces, offset = [], 0
    for primitive, transform in parts:
        piece = _piece(document, binary, primitive, transform)
        pieces.append({**piece, "faces": piece["faces"] + offset})
        offset += len(piece["vertices"])
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in ("vertices", "normals", "uvs", "faces")}
    tangents = None
    if all(piece["tangents"] is not None for piece in pieces):
        tangents = np.concatenate([piece["tangents"] for piece in pieces])
    used = {primitive.get("material") for primitive, _ in parts}
    return GlbModel(
        vertices=joined["vertices"],
        normals=joined["normals"],
        faces=joined["faces"].astype(np.int32),
        uvs=joined["uvs"],
        material=_material(document, binary, parts[0][0] if textures else {}),
        tangents=tangents,
        materials=len(used),
        levels=len(levels),
        extras=document.get("asset", {}).get("extras", {}),
    )


def _placed_primitives(nodes: list, meshes: list, roots: list[int]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Triangle primitives below the given nodes, with their transforms to the scene (4 x 4)."""
    found, stack, seen = [], [(number, np.eye(4)) for number in reversed(roots)], 0
    while stack and seen < _NODES_MAX:
        number, above = stack.pop()
        seen += 1
        node = nodes[number]
        transform = above @ _local_transform(node)
        if "mesh" in node:
            primitives = meshes[node["mesh"]]["primitives"]
            found += [(part, transform) for part in primitives if part.get("mode", _TRIANGLES) == _TRIANGLES]
        stack += [(child, transform) for child in reversed(node.get("children", []))]
    return found


def _local_transform(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = node.get("rotation", [0, 0, 0, 1])
    turn = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    result = np.eye(4)
    result[:3, :3] = np.array(turn) * np.array(node.get("scale", [1, 1, 1]), float)
    result[:3, 3] = node.get("translation", [0, 0, 0])
    return result


def _piece(document: dict[str, Any], binary: bytes, primitive: dict[str, Any], transform: np.ndarray) -> dict[str, Any]:
    attributes = primitive["attributes"]
    if "TEXCOORD_0" not in attributes:
        raise ValueError("it has no texture coordinates")
    vertices = _accessor(document, binary, attributes["POSITION"]).astype(np.float32)
    normals = np.zeros_like(vertices)
    if "NORMAL" in attributes:
        normals = _accessor(document, binary, attributes["NORMAL"]).astype(np.float32)
    tangents = _accessor(document, binary, attributes["TANGENT"]) if "TANGENT" in attributes else None
    faces = np.arange(len(vertices))
    if "indices" in primitive:
        faces = _accessor(document, binary, primitive["indices"])
    faces = faces.reshape(-1, 3).astype(np.int64)
    if len(faces) == 0 or faces.max() >= len(vertices):
        raise ValueError("its faces name vertices that do not exist" if len(faces) else "it has no faces")
    if not np.isfinite(vertices).all():
        raise ValueError("it has positions that are not finite")
    if not np.array_equal(transform, np.eye(4)):
        linear = transform[:3, :3]
        vertices = (vertices @ linear.T + transform[:3, 3]).astype(np.float32)
        normals = _unit(normals @ np.linalg.pinv(linear))
        if tangents is not None:
            tangents = np.concatenate([_unit(tangents[:, :3] @ linear.T), tangents[:, 3:]], 1)
        if np.linalg.det(linear) < 0:
            faces = faces[:, ::-1]
    if tangents is not None:
        tangents = np.concatenate([from_gltf(tangents[:, :3]), tangents[:, 3:]], 1).astype(np.float32)
    uvs = _accessor(document, binary, attributes["TEXCOORD_0"]).astype(np.float32)
    return {
        "vertices": from_gltf(vertices),
        "normals": from_gltf(normals),
        "uvs": uvs,
        "faces": faces,
        "tangents": tangents,
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)).astype(np.float32)


def _material(document: dict[str, Any], binary: bytes, primitive: dict[str, Any]) -> Material:
    surface = document["materials"][primitive["material"]] if "material" in primitive else {}
    pbr = surface.get("pbrMetallicRoughness", {})
    base = _texture(document, binary, pbr.get("baseColorTexture"))
    orm = _texture(document, binary, pbr.get("metallicRoughnessTexture"))[..., :3]
    base = _scaled(base, pbr.get("baseColorFactor", [1, 1, 1, 1]))
    orm = _scaled(orm, [1, pbr.get("roughnessFactor", 1), pbr.get("metallicFactor", 1)])
    normal = None
    if "normalTexture" in surface:
        normal = _texture(document, binary, surface["normalTexture"], deep=True)[..., :3]
    return Material(base, orm, surface.get("alphaMode", "OPAQUE"), surface.get("doubleSided", False), normal)


def _accessor(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    accessor = document["accessors"][number]
    if "sparse" in accessor or "bufferView" not in accessor:
        raise ValueError("it has sparse accessors, which are not supported here")
    view = document["bufferViews"][accessor["bufferView"]]
    if view.get("buffer", 0) != 0 or "uri" in document["buffers"][0]:
        raise ValueError("its data lies in another file")
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", dtype.itemsize * width)
    rows = np.ndarray((accessor["count"], width), dtype, binary, start, (stride, dtype.itemsize))
    if accessor.get("normalized", False):
        rows = rows.astype(np.float32) / np.iinfo(dtype).max
    return np.ascontiguousarray(rows[:, 0] if width == 1 else rows)


def _texture(document: dict[str, Any], binary: bytes, reference: dict[str, Any] | None, deep: bool = False) -> np.ndarray:
    """uint8 [H, W, 4] of a texture; one white texel where there is none."""
    if reference is None:
        return np.full((1, 1, 4), 255, np.uint8)
    texture = document["textures"][reference["index"]]
    source = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source", texture.get("source"))
    image = document["images"][source]
    if "bufferView" not in image:
        raise ValueError(f"its image {image.get('name', '')!r} lies in another file")
    view = document["bufferViews"][image["bufferView"]]
    start = view.get("byteOffset", 0)
    return decode_image(binary[start : start + view["byteLength"]], deep)


def _scaled(picture: np.ndarray, factors: list[float]) -> np.ndarray:
    if all(factor == 1 for factor in factors):
        return picture
    return (picture * np.asarray(factors) + 0.5).clip(0, 255).astype(np.uint8)
