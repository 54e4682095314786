# SPDX-License-Identifier: Apache-2.0
"""GLB files for the extension's tests, written here by hand so that the reader is not tested with its own twin."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def png(width: int, height: int, colour: tuple[int, ...]) -> bytes:
    """A PNG of one colour, RGB or RGBA."""
    kind = {3: 2, 4: 6}[len(colour)]
    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Writer:
    """Collects buffer views and accessors."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)})
        self.binary += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray) -> int:
        component = {"float32": 5126, "uint32": 5125, "uint16": 5123}[values.dtype.name]
        kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
        view = self.view(np.ascontiguousarray(values).tobytes())
        self.accessors.append({"bufferView": view, "componentType": component, "count": len(values), "type": kind})
        return len(self.accessors) - 1


def y_up(values: np.ndarray) -> np.ndarray:
    """Blender's z-up to glTF's y-up."""
    return np.stack((values[:, 0], values[:, 2], -values[:, 1]), axis=1).astype(np.float32)


def write(path: Path, meshes: list[dict[str, np.ndarray]], textures: dict[str, bytes], **surface: Any) -> Path:
    """Writes meshes (positions, normals, uvs, indices; z-up) with one material.

    Args:
        textures: PNG bytes by "base_color", "metallic_roughness", "normal".
        surface: further keys of the glTF material, such as alphaMode.
    """
    writer = Writer()
    documents = []
    for mesh in meshes:
        attributes = {"POSITION": writer.accessor(y_up(mesh["positions"]))}
        if "normals" in mesh:
            attributes["NORMAL"] = writer.accessor(y_up(mesh["normals"]))
        if "uvs" in mesh:
            attributes["TEXCOORD_0"] = writer.accessor(mesh["uvs"].astype(np.float32))
        indices = writer.accessor(mesh["indices"].astype(np.uint32))
        documents.append({"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]})
    images = [{"bufferView": writer.view(data), "mimeType": "image/png"} for data in textures.values()]
    index = {role: {"index": number} for number, role in enumerate(textures)}
    metal = {f"{name}Texture": index[role] for name, role in _SLOTS.items() if role in index}
    material = {"pbrMetallicRoughness": metal, "doubleSided": True, **surface}
    if "normal" in index:
        material["normalTexture"] = index["normal"]
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"mesh": number} for number in range(len(meshes))],
        "meshes": documents,
        "materials": [material],
        "textures": [{"source": number} for number in range(len(images))],
        "images": images,
        "accessors": writer.accessors,
        "bufferViews": writer.views,
        "buffers": [{"byteLength": len(writer.binary)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(writer.binary)
    path.write_bytes(
        struct.pack("<III", 0x46546C67, 2, length)
        + struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(writer.binary), 0x004E4942)
        + bytes(writer.binary)
    )
    return path


_SLOTS = {"baseColor": "base_color", "metallicRoughness": "metallic_roughness"}
TEXTURES = {
    "base_color": png(8, 8, (200, 100, 50)),
    "metallic_roughness": png(8, 8, (255, 128, 0)),
    "normal": png(8, 8, (128, 128, 255)),
}


def torus(around: int = 24, across: int = 12, radius: float = 0.35, thickness: float = 0.12) -> dict[str, np.ndarray]:
    """A closed surface, cut open along two UV seams, as files store it; around x across quads as triangles."""
    u, v = np.meshgrid(np.linspace(0, 1, around + 1), np.linspace(0, 1, across + 1), indexing="ij")
    # the seam's copies must be the same point bit for bit, as they are in a baked file
    a, b = 2 * np.pi * (u % 1.0), 2 * np.pi * (v % 1.0)
    normals = np.stack((np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)), -1)
    centre = radius * np.stack((np.cos(a), np.sin(a), np.zeros_like(a)), -1)
    grid = np.arange((around + 1) * (across + 1)).reshape(around + 1, across + 1)
    quads = np.stack((grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]), -1).reshape(-1, 4)
    return {
        "positions": (centre + thickness * normals).reshape(-1, 3).astype(np.float32),
        "normals": normals.reshape(-1, 3).astype(np.float32),
        "uvs": np.stack((u, v), -1).reshape(-1, 2).astype(np.float32),
        "indices": quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1),
    }
