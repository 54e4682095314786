# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a mesh of Blender's as a GLB that the server can texture, and finds its faces again in what comes back.

The mesh itself is written, without modifiers, one vertex for each corner of each triangle, positions bit for bit: so each
triangle of the result is told by its three positions, whatever order the server's unwrapping has put them in.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import bpy
import numpy as np

from genesis_server.protocol.errors import ErrorCode, GenesisError

from .glb import MeshArrays

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT = 5126


def write_mesh(path: Path, mesh: bpy.types.Mesh) -> None:
    """Writes the triangles of a mesh; with its active UVs, unless several materials may share the same part of them.

    Raises:
        GenesisError: BAD_MESH for a mesh without faces, NO_PERMISSION.
    """
    loops, positions = _triangles(mesh)
    if not len(loops):
        raise GenesisError(ErrorCode.BAD_MESH, f"{mesh.name} has no faces.", "Choose a mesh with faces.")
    blobs = [_y_up(positions)]
    names = {"POSITION": (0, "VEC3")}
    if keeps_uvs(mesh):
        uvs = np.empty(2 * len(mesh.loops), np.float32)
        mesh.uv_layers.active.uv.foreach_get("vector", uvs)
        uvs = uvs.reshape(-1, 2)[loops]
        uvs[:, 1] = 1.0 - uvs[:, 1]
        blobs.append(uvs)
        names["TEXCOORD_0"] = (1, "VEC2")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_file(blobs, names))
    except OSError as error:
        raise GenesisError(ErrorCode.NO_PERMISSION, f"{path} cannot be written: {error}.", "Free some space.") from error


def keeps_uvs(mesh: bpy.types.Mesh) -> bool:
    """Whether the mesh has UVs of its own that one texture can serve."""
    return mesh.uv_layers.active is not None and len(mesh.materials) <= 1


def uvs_of_loops(mesh: bpy.types.Mesh, textured: MeshArrays) -> np.ndarray:
    """The texture coordinates that a textured copy has for a mesh's own corners.

    Returns:
        float32 [L, 2]; corners of faces that the copy lacks, which have no area, are at 0, 0.
    """
    loops, positions = _triangles(mesh)
    both = np.concatenate((positions, textured.vertices)) + np.float32(0.0)
    _, number = np.unique(both.view([("", np.float32)] * 3).reshape(-1), return_inverse=True)
    number = number.reshape(-1).astype(np.int64)
    ours = number[: len(positions)].reshape(-1, 3)
    theirs = number[len(positions) :][textured.corners].reshape(-1, 3)
    count = int(number.max()) + 1
    our_keys, their_keys = _keys(ours, count), _keys(theirs, count)
    order = np.argsort(their_keys)
    place = np.searchsorted(their_keys[order], our_keys).clip(max=len(order) - 1)
    found = order[place]
    matches = their_keys[found] == our_keys
    result = np.zeros((len(mesh.loops), 2), np.float32)
    uvs = textured.uvs.reshape(-1, 3, 2)[found]
    for corner in range(3):
        same = theirs[found] == ours[:, corner : corner + 1]
        chosen = uvs[np.arange(len(uvs)), same.argmax(axis=1)]
        targets = loops.reshape(-1, 3)[:, corner]
        result[targets[matches]] = chosen[matches]
    return result


def _triangles(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The loop of each corner of each triangle, int32 [3 F], and its position, float32 [3 F, 3]."""
    mesh.calc_loop_triangles()
    count = 3 * len(mesh.loop_triangles)
    loops, vertices = np.empty(count, np.int32), np.empty(count, np.int32)
    mesh.loop_triangles.foreach_get("loops", loops)
    mesh.loop_triangles.foreach_get("vertices", vertices)
    positions = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", positions)
    return loops, positions.reshape(-1, 3)[vertices]


def _keys(triangles: np.ndarray, count: int) -> np.ndarray:
    """One number for each triangle, whichever corner comes first."""
    ordered = np.sort(triangles, axis=1)
    return (ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2]


def _y_up(values: np.ndarray) -> np.ndarray:
    return np.stack((values[:, 0], values[:, 2], -values[:, 1]), axis=1)


def _file(blobs: list[np.ndarray], names: dict[str, tuple[int, str]]) -> bytes:
    binary, views, accessors = bytearray(), [], []
    for blob, (_, kind) in zip(blobs, names.values(), strict=True):
        data = np.ascontiguousarray(blob, "<f4").tobytes()
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        accessors.append({"bufferView": len(views) - 1, "componentType": _FLOAT, "count": len(blob), "type": kind})
        binary += data
    accessors[0].update(min=blobs[0].min(axis=0).tolist(), max=blobs[0].max(axis=0).tolist())
    attributes = {name: index for name, (index, _) in names.items()}
    document = {
        "asset": {"version": "2.0", "generator": "Genesis for Blender"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = (
        struct.pack("<III", _MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary)),
        struct.pack("<II", len(text), _JSON),
        text,
        struct.pack("<II", len(binary), _BINARY),
        bytes(binary),
    )
    return b"".join(parts)
