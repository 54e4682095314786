# SPDX-License-Identifier: Apache-2.0
"""GLB files such as an artist would have: boxes in a tree of nodes, several materials, texture coordinates or none."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_EIGHTH_TURN = [0, 0.38268343, 0, 0.92387953]  # about y
_SIDES = [((0, 1), 2), ((2, 0), 1), ((1, 2), 0)]  # axes of u and v, and the axis that the side looks along


def box() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and normals [24, 3] of a unit cube, UVs [24, 2] with a sixth of the texture for each side, faces [12, 3]."""
    vertices, normals, uvs, faces = [], [], [], []
    for number in range(6):
        (u, v), axis = _SIDES[number % 3]
        sign = 1 if number < 3 else -1
        for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
            point = np.zeros(3)
            point[u], point[v], point[axis] = (a - 0.5) * sign, b - 0.5, sign / 2
            vertices.append(point)
            normals.append(np.eye(3)[axis] * sign)
            uvs.append(((number % 3 + 0.05 + 0.9 * a) / 3, (number // 3 + 0.05 + 0.9 * b) / 2))
        faces += [(4 * number, 4 * number + 1, 4 * number + 2), (4 * number, 4 * number + 2, 4 * number + 3)]
    return np.array(vertices, np.float32), np.array(normals, np.float32), np.array(uvs, np.float32), np.array(faces, np.uint16)


def write_scene(path: Path, with_uvs: bool = True, **changes: Any) -> Path:
    """Two boxes of different materials; the second one small, turned, and moved far from the origin with its parent."""
    vertices, normals, uvs, faces = box()
    _, picture = cv2.imencode(".png", np.full((256, 256, 3), 99, np.uint8))
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    _, large = cv2.imencode(".png", noise)
    blobs = [vertices.tobytes(), uvs.tobytes(), faces.tobytes(), picture.tobytes(), large.tobytes(), normals.tobytes()]
    binary, views = b"", []
    for blob in blobs:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(blob)})
        binary += blob + bytes(-len(blob) % 4)
    attributes = {"POSITION": 0, "NORMAL": 3, **({"TEXCOORD_0": 1} if with_uvs else {})}
    document = {
        "asset": {"version": "2.0", "generator": "an artist's tool"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"name": "Root", "children": [1, 2], "translation": [100, 20, 3]},
            {"name": "Body", "mesh": 0, "scale": [4, 4, 4]},
            {
                "name": "Lid",
                "mesh": 1,
                "translation": [0, 3, 0],
                "rotation": [0, 0.38268343, 0, 0.92387953],
                "scale": [2, 2, 2],
            },
        ],
        "meshes": [
            {"name": "BodyMesh", "primitives": [{"attributes": attributes, "indices": 2, "material": 0}]},
            {"name": "LidMesh", "primitives": [{"attributes": attributes, "indices": 2, "material": 1}]},
        ],
        "materials": [
            {"name": "Clay", "pbrMetallicRoughness": {"baseColorTexture": {"index": 1}}, "normalTexture": {"index": 0}},
            {"name": "Glaze", "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}, "emissiveFactor": [1, 1, 1]},
        ],
        "textures": [{"source": 0}, {"source": 1}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}, {"bufferView": 4, "mimeType": "image/png"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 24, "type": "VEC3", "min": [-0.5] * 3, "max": [0.5] * 3},
            {"bufferView": 1, "componentType": 5126, "count": 24, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 36, "type": "SCALAR"},
            {"bufferView": 5, "componentType": 5126, "count": 24, "type": "VEC3"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
        **changes,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(binary)) + struct.pack("<II", len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    return path


def read_document(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part of a GLB."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def view(document: dict[str, Any], binary: bytes, number: int) -> bytes:
    """The bytes of a buffer view."""
    place = document["bufferViews"][number]
    return binary[place["byteOffset"] : place["byteOffset"] + place["byteLength"]]
