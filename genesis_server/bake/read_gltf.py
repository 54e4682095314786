# SPDX-License-Identifier: Apache-2.0
"""Read a GLB: the triangles of its scene as one mesh, and the textures of their materials (docs/spec/geometry.md 1.2, 1.4).

Enough for files of any tool that are to be judged or looked at: node transforms, several primitives and materials, strips and
fans, PNG, JPEG and WebP inside the file, moved texture coordinates, interleaved and normalised accessors. What it cannot read
it names.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genesis_server.bake.gltf import CHUNK_BIN, CHUNK_JSON, MAGIC, from_gltf
from genesis_server.bake.material import Material
from genesis_server.bake.read_material import coordinates_of, read_material
from genesis_server.protocol.errors import ErrorCode, GenesisError

_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_UNREADABLE = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu")


@dataclass(frozen=True, eq=False)
class GlbModel:
    """What a GLB holds, in model space (z up).

    Attributes:
        vertices, normals: float32 [V, 3]; zero normals where the file has none.
        faces: int32 [F, 3].
        uvs: float32 [V, 2], glTF convention.
        material: textures and alpha mode of the first material; one white texel where the file has none.
        tangents: float32 [V, 4] in model space, or None.
        level_faces: faces of each level of detail that the file offers, finest first; empty where there is but this one.
        extras: the application's own notes.
        others: the materials after the first, where the triangles use several.
        surface: int32 [F], the material of each face, 0 for the first; None where there is one.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    material: Material
    tangents: np.ndarray | None = None
    level_faces: tuple[int, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)
    others: tuple[Material, ...] = ()
    surface: np.ndarray | None = None

    @property
    def levels(self) -> int:
        """How many levels of detail the file offers."""
        return max(1, len(self.level_faces))

    def by_material(self) -> list[GlbModel]:
        """A model of one material each; unused vertices are left out."""
        if not self.others:
            return [self]
        models = []
        for number, material in enumerate((self.material, *self.others)):
            used, faces = np.unique(self.faces[self.surface == number], return_inverse=True)
            rows = {name: getattr(self, name)[used] for name in ("vertices", "normals", "uvs")}
            tangents = None if self.tangents is None else self.tangents[used]
            faces = faces.reshape(-1, 3).astype(np.int32)
            models.append(replace(self, **rows, faces=faces, tangents=tangents, material=material, others=(), surface=None))
        return models


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
            ErrorCode.BAD_MESH,
            f"{path} is not a textured GLB file: {error}.",
            "Export it as binary glTF 2.0 (.glb) with UVs, uncompressed.",
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
    placed = [_placed_primitives(nodes, document.get("meshes", []), roots) for roots in levels]
    parts = placed[level]
    if not parts:
        raise ValueError("it has no triangles")
    used = list(dict.fromkeys(primitive.get("material") for primitive, _ in parts))
    pieces, offset = [], 0
    for primitive, transform in parts:
        piece = _piece(document, binary, primitive, transform)
        surface = np.full(len(piece["faces"]), used.index(primitive.get("material")), np.int32)
        pieces.append({**piece, "faces": piece["faces"] + offset, "surface": surface})
        offset += len(piece["vertices"])
    joined = {
        name: np.concatenate([piece[name] for piece in pieces]) for name in ("vertices", "normals", "uvs", "faces", "surface")
    }
    tangents = None
    if all(piece["tangents"] is not None for piece in pieces):
        tangents = np.concatenate([piece["tangents"] for piece in pieces])
    first, *others = (read_material(document, binary, number) for number in (used if textures else [None]))
    return GlbModel(
        vertices=joined["vertices"],
        normals=joined["normals"],
        faces=joined["faces"].astype(np.int32),
        uvs=joined["uvs"],
        material=first,
        tangents=tangents,
        level_faces=tuple(sum(_count(document, primitive) for primitive, _ in level) for level in placed),
        extras=document.get("asset", {}).get("extras", {}),
        others=tuple(others),
        surface=joined["surface"] if others else None,
    )


def _placed_primitives(nodes: list, meshes: list, roots: list[int]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Triangle primitives below the given nodes, with their transforms to the scene (4 x 4)."""
    found, stack, seen = [], [(number, np.eye(4)) for number in reversed(roots)], set()
    while stack:
        number, above = stack.pop()
        if number in seen:
            raise ValueError("its nodes are no tree: one of them stands below two others, or below itself")
        seen.add(number)
        node = nodes[number]
        transform = above @ _local_transform(node)
        if "mesh" in node:
            primitives = meshes[node["mesh"]]["primitives"]
            found += [(part, transform) for part in primitives if part.get("mode", _TRIANGLES) in (_TRIANGLES, _STRIP, _FAN)]
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
    coordinates, moved = coordinates_of(document, primitive.get("material"))
    if f"TEXCOORD_{coordinates}" not in attributes:
        raise ValueError("it has no texture coordinates")
    vertices = _accessor(document, binary, attributes["POSITION"]).astype(np.float32)
    normals = np.zeros_like(vertices)
    if "NORMAL" in attributes:
        normals = _accessor(document, binary, attributes["NORMAL"]).astype(np.float32)
    tangents = _accessor(document, binary, attributes["TANGENT"]) if "TANGENT" in attributes else None
    index = np.arange(len(vertices))
    if "indices" in primitive:
        index = _accessor(document, binary, primitive["indices"])
    faces = _triangles(index.astype(np.int64), primitive.get("mode", _TRIANGLES))
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
    uvs = _accessor(document, binary, attributes[f"TEXCOORD_{coordinates}"]).astype(np.float32)
    if not np.array_equal(moved, np.eye(3)):
        uvs = (uvs @ moved[:2, :2].T + moved[:2, 2]).astype(np.float32)
    if len(uvs) != len(vertices) or not np.isfinite(uvs).all():
        raise ValueError("its texture coordinates are too few or not finite")
    return {
        "vertices": from_gltf(vertices),
        "normals": from_gltf(normals),
        "uvs": uvs,
        "faces": faces,
        "tangents": tangents,
    }


def _triangles(index: np.ndarray, mode: int) -> np.ndarray:
    """int64 [F, 3] of the vertices of triangles, a strip of them, or a fan."""
    if mode == _TRIANGLES:
        if len(index) % 3:
            raise ValueError(f"it has {len(index)} corners of triangles, which is no multiple of 3")
        return index.reshape(-1, 3)
    if mode == _FAN:
        return np.stack([index[1:-1], index[2:], np.broadcast_to(index[:1], len(index[2:]))], 1)
    faces = np.stack([index[:-2], index[1:-1], index[2:]], 1)
    faces[1::2] = faces[1::2, [0, 2, 1]]
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]  # strips are joined by triangles without area


def _count(document: dict[str, Any], primitive: dict[str, Any]) -> int:
    """How many triangles a primitive has."""
    number = primitive["indices"] if "indices" in primitive else primitive["attributes"]["POSITION"]
    count = int(document["accessors"][number]["count"])
    return count // 3 if primitive.get("mode", _TRIANGLES) == _TRIANGLES else max(count - 2, 0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)).astype(np.float32)


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
    if accessor["count"] < 1 or start + stride * (accessor["count"] - 1) + dtype.itemsize * width > len(binary):
        raise ValueError("it names data that lies beyond its end")
    rows = np.ndarray((accessor["count"], width), dtype, binary, start, (stride, dtype.itemsize))
    if accessor.get("normalized", False):
        rows = (rows.astype(np.float32) / np.iinfo(dtype).max).clip(min=-1)
    return np.ascontiguousarray(rows[:, 0] if width == 1 else rows)
