# SPDX-License-Identifier: Apache-2.0
"""A GLB as its author made it, whose textures are to be replaced and nothing else (docs/spec/pipeline.md 13).

Names, nodes, transforms, several materials, normal maps, skins and animations stay as they are in the file: its JSON is
changed only where materials name textures, and geometry is never written again.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genesis_server.bake.gltf import CHUNK_BIN, CHUNK_JSON, MAGIC
from genesis_server.bake.images import MIME, encode_image
from genesis_server.bake.material import ALPHA_CUTOFF, Material
from genesis_server.bake.read_gltf import read_chunks
from genesis_server.protocol.errors import ErrorCode, GenesisError

_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_WEBP = "EXT_texture_webp"
_TRIANGLES = 4
_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
_DEPTH_MAX = 200  # of the tree of nodes; a cycle ends here


@dataclass(frozen=True, eq=False)
class Part:
    """One set of triangles in its place in the scene, glTF axes (y up).

    Attributes:
        material: number in the file, -1 for none.
        vertices: float64 [V, 3], in the scene.
        normals: float64 [V, 3], unit, or None.
        faces: int64 [F, 3].
        uvs: float32 [V, 2] of the first set, or None.
        repeated: another part shows the same triangles elsewhere, and shares their texture.
    """

    material: int
    vertices: np.ndarray
    normals: np.ndarray | None
    faces: np.ndarray
    uvs: np.ndarray | None
    repeated: bool


class GltfScene:
    """What a GLB file shows.

    Attributes:
        parts: every set of triangles of its scene.
    """

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        self._document, self._binary = document, binary
        self.parts = list(self._walk())
        if not any(len(part.faces) for part in self.parts):
            raise ValueError("it shows no triangles")

    @classmethod
    def read(cls, path: Path) -> GltfScene:
        """The scene of a file.

        Raises:
            GenesisError: BAD_MESH when the file is not a readable GLB or has no triangles.
        """
        try:
            return cls(*_whole(*read_chunks(path.read_bytes())))
        except FileNotFoundError:
            raise GenesisError(ErrorCode.BAD_MESH, f"There is no file {path}.", "Check the path.") from None
        except OSError as error:
            raise GenesisError(ErrorCode.BAD_MESH, f"{path} cannot be read: {error.strerror}.", "Name a GLB file.") from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
            raise GenesisError(
                ErrorCode.BAD_MESH,
                f"{path} is not a mesh that can be textured: {error}.",
                "Export it as binary glTF 2.0 (.glb), without compression.",
            ) from error

    def retextured(self, materials: Mapping[int, Material], texture_format: str = "png") -> bytes:
        """The file with other textures.

        Args:
            materials: by number, those of the parts; -1 becomes a new material.
            texture_format: png, webp or jpeg, as of `write_glb`.
        """
        document = copy.deepcopy(self._document)
        surfaces = document.setdefault("materials", [])
        if -1 in materials:
            surfaces.append({"name": "Genesis"})
            for primitive in (p for mesh in document["meshes"] for p in mesh["primitives"]):
                primitive.setdefault("material", len(surfaces) - 1)
        blobs: list[bytes] = []
        for number, material in materials.items():
            base = _add_texture(document, blobs, *encode_image(material.base_color, texture_format, True))
            rest = _add_texture(document, blobs, *encode_image(material.metallic_roughness, texture_format, False))
            _repaint(surfaces[number], material, base, rest)
        return _pack(document, self._binary, blobs)

    def _walk(self) -> Iterator[Part]:
        document = self._document
        if used := [name for name in _PACKED if name in document.get("extensionsUsed", ())]:
            raise ValueError(f"it is compressed with {used[0]}")
        scenes = document.get("scenes")
        roots = scenes[document.get("scene", 0)].get("nodes", []) if scenes else range(len(document.get("nodes", [])))
        seen: set[int] = set()
        for root in roots:
            yield from self._walk_node(root, np.eye(4), seen, 0)

    def _walk_node(self, number: int, above: np.ndarray, seen: set[int], depth: int) -> Iterator[Part]:
        if depth > _DEPTH_MAX:
            raise ValueError("its nodes go round in circles")
        node = self._document["nodes"][number]
        place = above @ _matrix(node)
        if "mesh" in node:
            mesh = node["mesh"]
            for primitive in self._document["meshes"][mesh]["primitives"]:
                if primitive.get("mode", _TRIANGLES) == _TRIANGLES:
                    yield self._part(primitive, place, mesh in seen)
            seen.add(mesh)
        for child in node.get("children", ()):
            yield from self._walk_node(child, place, seen, depth + 1)

    def _part(self, primitive: dict[str, Any], place: np.ndarray, repeated: bool) -> Part:
        attributes = primitive["attributes"]
        vertices = self._accessor(attributes["POSITION"]).astype(np.float64)
        vertices = vertices @ place[:3, :3].T + place[:3, 3]
        faces = self._accessor(primitive["indices"]) if "indices" in primitive else np.arange(len(vertices))
        faces = faces.reshape(-1, 3).astype(np.int64)
        if len(faces) and faces.max() >= len(vertices):
            raise ValueError("its faces name vertices that do not exist")
        if np.linalg.det(place[:3, :3]) < 0:
            faces = faces[:, ::-1]  # a mirrored node turns its faces
        normals = None
        if "NORMAL" in attributes:
            normals = self._accessor(attributes["NORMAL"]) @ np.linalg.pinv(place[:3, :3])  # inverse transposed
            normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-30)
        uvs = self._accessor(attributes["TEXCOORD_0"]).astype(np.float32) if "TEXCOORD_0" in attributes else None
        return Part(primitive.get("material", -1), vertices, normals, faces, uvs, repeated)

    def _accessor(self, number: int) -> np.ndarray:
        accessor = self._document["accessors"][number]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("it has sparse accessors")
        view = self._document["bufferViews"][accessor["bufferView"]]
        dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", dtype.itemsize * width)
        rows = np.ndarray((accessor["count"], width), dtype, self._binary, start, (stride, dtype.itemsize))
        if accessor.get("normalized", False):
            rows = rows.astype(np.float32) / np.iinfo(dtype).max
        return np.ascontiguousarray(rows[:, 0] if width == 1 else rows)


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """float64 [4, 4] of a node."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    result = np.eye(4)
    result[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    result[:3, 3] = node.get("translation", (0, 0, 0))
    return result


def _repaint(surface: dict[str, Any], material: Material, base: int, rest: int) -> None:
    """Give a material of the file new textures; its name, its sides and its normal map stay."""
    kept = {name: surface[name] for name in ("name", "normalTexture", "doubleSided", "extras") if name in surface}
    surface.clear()
    surface.update(kept)
    surface["pbrMetallicRoughness"] = {"baseColorTexture": {"index": base}, "metallicRoughnessTexture": {"index": rest}}
    if material.alpha_mode != "OPAQUE":
        surface["alphaMode"] = material.alpha_mode
    if material.alpha_mode == "MASK":
        surface["alphaCutoff"] = ALPHA_CUTOFF


def _add_texture(document: dict[str, Any], blobs: list[bytes], data: bytes, kind: str) -> int:
    """Number of a new texture; its image's view is numbered after the file's own, in the order of `blobs`."""
    blobs.append(data)
    view = len(document.get("bufferViews", ())) + len(blobs) - 1
    images, textures = document.setdefault("images", []), document.setdefault("textures", [])
    images.append({"bufferView": view, "mimeType": MIME[kind]})
    source = {"source": len(images) - 1}
    textures.append({"extensions": {_WEBP: source}} if kind == "webp" else source)
    if kind == "webp":
        for table in ("extensionsUsed", "extensionsRequired"):
            document[table] = sorted({*document.get(table, ()), _WEBP})
    return len(textures) - 1


def _pack(document: dict[str, Any], binary: bytes, blobs: list[bytes]) -> bytes:
    """A GLB of the document, without the textures and images that nothing names any more, and without their bytes."""
    _keep_used(document, "textures", [info for info in _dicts(document.get("materials", [])) if "index" in info], "index")
    _keep_used(document, "images", document["textures"] + [e for e in _dicts(document["textures"]) if "source" in e], "source")
    old = document.get("bufferViews", [])
    parts = [binary[v.get("byteOffset", 0) : v.get("byteOffset", 0) + v["byteLength"]] for v in old] + blobs
    views = [*old, *({"buffer": 0} for _ in blobs)]
    named = [info for info in _dicts({key: document[key] for key in ("accessors", "images") if key in document})]
    used = sorted({info["bufferView"] for info in named if "bufferView" in info})
    for info in named:
        if "bufferView" in info:
            info["bufferView"] = used.index(info["bufferView"])
    packed = bytearray()
    document["bufferViews"] = []
    for number in used:
        view = {**views[number], "byteOffset": len(packed), "byteLength": len(parts[number])}
        document["bufferViews"].append(view)
        packed += parts[number] + bytes(-len(parts[number]) % 4)
    document["buffers"] = [{"byteLength": len(packed)}]
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<III", MAGIC, 2, 28 + len(text) + len(packed))
    return head + struct.pack("<II", len(text), CHUNK_JSON) + text + struct.pack("<II", len(packed), CHUNK_BIN) + bytes(packed)


def _keep_used(document: dict[str, Any], table: str, users: list[dict[str, Any]], name: str) -> None:
    """Drop the entries of a table that no user names, and renumber."""
    users = list({id(user): user for user in users if name in user}.values())
    used = sorted({user[name] for user in users})
    document[table] = [document[table][number] for number in used]
    for user in users:
        user[name] = used.index(user[name])


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _dicts(item)


def _whole(document: dict[str, Any], binary: bytes) -> tuple[dict[str, Any], bytes]:
    if any("uri" in buffer for buffer in document.get("buffers", ())):
        raise ValueError("parts of it are in other files")
    return document, binary
