# SPDX-License-Identifier: Apache-2.0
"""Binary glTF 2.0 files: one mesh, one metallic-roughness material, PNG textures (docs/spec/geometry.md 1.2, 1.4, 17.9-10).

An own thin writer: buffer targets, bounds and alpha mode exactly as the Khronos validator wants them, and nothing else. glTF is
y-up, model space is z-up: (x, y, z) is written as (x, z, -y).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genesis_server.bake.material import ALPHA_CUTOFF, Material
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.protocol.errors import ErrorCode, GenesisError

GENERATOR = "Genesis"
PNG_COMPRESSION = 2  # of baked textures: 6 takes three times as long for 5 % smaller files
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_VERTEX_TARGET, _INDEX_TARGET = 34962, 34963
_LINEAR_MIPMAP, _LINEAR, _CLAMP = 9987, 9729, 33071


@dataclass(frozen=True, eq=False)
class GlbModel:
    """What a GLB holds, in model space (z up).

    Attributes:
        vertices, normals: float32 [V, 3].
        faces: int32 [F, 3].
        uvs: float32 [V, 2], glTF convention.
        material: textures and alpha mode; one white texel where the file has none.
        extras: the application's own notes.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    material: Material
    extras: dict[str, Any] = field(default_factory=dict)


def write_glb(
    path: str | os.PathLike[str], unwrapped: UnwrappedMesh, material: Material, extras: Mapping[str, Any] | None = None
) -> None:
    """Writes a GLB.

    Args:
        path: of the file; written in place, so hand in a temporary name where a crash must not matter.
        unwrapped: mesh in model space.
        material: its textures.
        extras: plain JSON values, kept in `asset.extras`.

    Raises:
        OSError: when the file cannot be written.
    """
    vertices, normals = to_gltf(unwrapped.vertices.cpu().numpy()), to_gltf(unwrapped.normals.cpu().numpy())
    index = np.uint16 if len(vertices) <= 65535 else np.uint32
    indices = unwrapped.faces.cpu().numpy().astype(index).reshape(-1)
    blobs = [
        (vertices.tobytes(), _VERTEX_TARGET),
        (normals.tobytes(), _VERTEX_TARGET),
        (unwrapped.uvs.cpu().numpy().astype(np.float32).tobytes(), _VERTEX_TARGET),
        (indices.tobytes(), _INDEX_TARGET),
        (_png(material.base_color), None),
        (_png(material.metallic_roughness), None),
    ]
    binary = bytearray()
    views = []
    for data, target in blobs:
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)}
        views.append(view if target is None else {**view, "target": target})
        binary += data + bytes(-len(data) % 4)
    document = _document(vertices, indices, views, len(binary), material, extras)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    parts = [
        struct.pack("<III", _MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary)),
        struct.pack("<II", len(text), _JSON) + text,
        struct.pack("<II", len(binary), _BIN) + bytes(binary),
    ]
    Path(path).write_bytes(b"".join(parts))


def read_glb(path: str | os.PathLike[str]) -> GlbModel:
    """Reads the first primitive of a GLB file and the two textures of its material.

    Raises:
        GenesisError: BAD_MESH when the file is not a readable GLB, has no texture coordinates or no triangles.
    """
    try:
        data = Path(path).read_bytes()
        document, binary = _chunks(data)
        return _model(document, binary)
    except FileNotFoundError:
        raise GenesisError(ErrorCode.BAD_MESH, f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise GenesisError(ErrorCode.BAD_MESH, f"{path} cannot be read: {error.strerror}.", "Name a GLB file.") from error
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise GenesisError(
            ErrorCode.BAD_MESH, f"{path} is not a textured GLB file: {error}.", "Export it as binary glTF 2.0 with UVs."
        ) from error


def to_gltf(vectors: np.ndarray) -> np.ndarray:
    """Model space (z up) to glTF (y up), float32 [n, 3]."""
    return np.ascontiguousarray(np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], 1), dtype=np.float32)


def from_gltf(vectors: np.ndarray) -> np.ndarray:
    """glTF (y up) to model space (z up), float32 [n, 3]."""
    return np.ascontiguousarray(np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], 1), dtype=np.float32)


def _document(
    vertices: np.ndarray,
    indices: np.ndarray,
    views: list[dict[str, Any]],
    length: int,
    material: Material,
    extras: Mapping[str, Any] | None,
) -> dict[str, Any]:
    surface: dict[str, Any] = {
        "name": "Genesis",
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}},
        "doubleSided": material.double_sided,
    }
    if material.alpha_mode != "OPAQUE":
        surface["alphaMode"] = material.alpha_mode
    if material.alpha_mode == "MASK":
        surface["alphaCutoff"] = ALPHA_CUTOFF
    count = len(vertices)
    bounds = {"min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()}
    sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _CLAMP, "wrapT": _CLAMP}
    attributes = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}
    return {
        "asset": {"version": "2.0", "generator": GENERATOR, **({"extras": dict(extras)} if extras else {})},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "Genesis", "mesh": 0}],
        "meshes": [{"name": "Genesis", "primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        "materials": [surface],
        "textures": [{"source": 0, "sampler": 0}, {"source": 1, "sampler": 0}],
        "samplers": [sampler],
        "images": [
            {"name": "base_color", "bufferView": 4, "mimeType": "image/png"},
            {"name": "metallic_roughness", "bufferView": 5, "mimeType": "image/png"},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": count, "type": "VEC3", **bounds},
            {"bufferView": 1, "componentType": _FLOAT, "count": count, "type": "VEC3"},
            {"bufferView": 2, "componentType": _FLOAT, "count": count, "type": "VEC2"},
            {
                "bufferView": 3,
                "componentType": _USHORT if indices.dtype == np.uint16 else _UINT,
                "count": len(indices),
                "type": "SCALAR",
            },
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": length}],
    }


def _png(picture: np.ndarray) -> bytes:
    if picture.shape[2] == 4 and (picture[..., 3] == 255).all():
        picture = picture[..., :3]
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, code), [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    return data.tobytes()


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<III", data) if len(data) >= 12 else (0, 0, 0)
    if magic != _MAGIC or version != 2:
        raise ValueError("it does not start as a GLB 2.0 file does")
    if length > len(data):
        raise ValueError(f"it says {length} bytes and has {len(data)}")
    found: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", data, offset)
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    return json.loads(found[_JSON]), found.get(_BIN, b"")


def _model(document: dict[str, Any], binary: bytes) -> GlbModel:
    primitive = document["meshes"][0]["primitives"][0]
    if primitive.get("mode", 4) != 4:
        raise ValueError("its first primitive is not made of triangles")
    attributes = primitive["attributes"]
    if "TEXCOORD_0" not in attributes:
        raise ValueError("it has no texture coordinates")
    vertices = _accessor(document, binary, attributes["POSITION"])
    normals = _accessor(document, binary, attributes["NORMAL"]) if "NORMAL" in attributes else np.zeros_like(vertices)
    faces = np.arange(len(vertices))
    if "indices" in primitive:
        faces = _accessor(document, binary, primitive["indices"])
    faces = faces.reshape(-1, 3).astype(np.int64)
    if len(faces) == 0 or faces.max() >= len(vertices):
        raise ValueError("its faces name vertices that do not exist" if len(faces) else "it has no faces")
    surface = document["materials"][primitive["material"]] if "material" in primitive else {}
    pbr = surface.get("pbrMetallicRoughness", {})
    base = _texture(document, binary, pbr.get("baseColorTexture"))
    orm = _texture(document, binary, pbr.get("metallicRoughnessTexture"))[..., :3]
    base = _scaled(base, pbr.get("baseColorFactor", [1, 1, 1, 1]))
    orm = _scaled(orm, [1, pbr.get("roughnessFactor", 1), pbr.get("metallicFactor", 1)])
    return GlbModel(
        vertices=from_gltf(vertices),
        normals=from_gltf(normals),
        faces=faces.astype(np.int32),
        uvs=_accessor(document, binary, attributes["TEXCOORD_0"]).astype(np.float32),
        material=Material(base, orm, surface.get("alphaMode", "OPAQUE"), surface.get("doubleSided", False)),
        extras=document.get("asset", {}).get("extras", {}),
    )


def _accessor(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", dtype.itemsize * width)
    count = accessor["count"]
    rows = np.ndarray((count, width), dtype, binary, start, (stride, dtype.itemsize))
    if accessor.get("normalized", False):
        rows = rows.astype(np.float32) / np.iinfo(dtype).max
    return np.ascontiguousarray(rows[:, 0] if width == 1 else rows)


def _texture(document: dict[str, Any], binary: bytes, reference: dict[str, Any] | None) -> np.ndarray:
    """uint8 [H, W, 4] of a texture; one white texel where there is none."""
    if reference is None:
        return np.full((1, 1, 4), 255, np.uint8)
    image = document["images"][document["textures"][reference["index"]]["source"]]
    view = document["bufferViews"][image["bufferView"]]
    start = view.get("byteOffset", 0)
    picture = cv2.imdecode(np.frombuffer(binary, np.uint8, view["byteLength"], start), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError(f"its image {image.get('name', '')!r} cannot be decoded")
    codes = {2: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}
    return cv2.cvtColor(picture, codes[picture.ndim if picture.ndim == 2 else picture.shape[2]])


def _scaled(picture: np.ndarray, factors: list[float]) -> np.ndarray:
    if all(factor == 1 for factor in factors):
        return picture
    return (picture * np.asarray(factors) + 0.5).astype(np.uint8)
