# SPDX-License-Identifier: Apache-2.0
"""GLB files of other tools are read as they are meant, or refused in words: materials, transforms, repeated textures."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genesis_server.bake.read_gltf import read_glb
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.report.inspect import findings, inspect
from genesis_server.report.render import View, render_views

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32) - np.float32([0.5, 0.5, 0])
UVS = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.float32)  # row 0 of the picture is above
FACES = np.array([0, 1, 2, 2, 1, 3], np.uint16)
RED, GREEN = (255, 0, 0), (0, 255, 0)


def picture(above: tuple[int, int, int], below: tuple[int, int, int], kind: str = ".png") -> bytes:
    values = np.zeros((32, 32, 3), np.uint8)
    values[:16], values[16:] = above[::-1], below[::-1]
    return cv2.imencode(kind, values)[1].tobytes()


def sheets(path: Path, count: int = 1, change: Callable[[dict[str, Any]], None] = lambda document: None) -> Path:
    """Squares side by side, facing the viewer, each with a material and a picture, red above green; then one change."""
    image = picture(RED, GREEN)
    blobs, views, binary = [UVS, FACES, np.frombuffer(image, np.uint8), np.array([0, 1, 2, 3], np.uint16)], [], b""
    blobs += [CORNERS + np.float32([1.25 * number, 0, 0]) for number in range(count)]
    for blob in blobs:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": blob.nbytes})
        binary += blob.tobytes() + bytes(-blob.nbytes % 4)
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 3 + number, "TEXCOORD_0": 0}, "indices": 1, "material": number}
                    for number in range(count)
                ]
            }
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}} for _ in range(count)],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 2, "mimeType": "image/png"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"},
            {"bufferView": 3, "componentType": 5123, "count": 4, "type": "SCALAR"},
            *({"bufferView": 4 + number, "componentType": 5126, "count": 4, "type": "VEC3"} for number in range(count)),
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(binary)) + struct.pack("<II", len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    return path


def colours(path: Path, *places: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Base colours at rows and columns of a front view of 64 pixels."""
    shown = render_views(path, [View(0, 0, "base_color")], 64)[0]
    return [tuple(int(value) for value in shown[place][:3]) for place in places]


def test_every_material_has_its_own_textures_and_faces(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["nodes"][0]["translation"] = [-0.625, 0, 0]
        surface = {"baseColorFactor": [0.2, 0.2, 0.2, 1], "metallicFactor": 0, "roughnessFactor": 0.5}
        document["materials"][1] = {"pbrMetallicRoughness": surface}

    path = sheets(tmp_path / "a.glb", 2, change)
    model = read_glb(path)
    assert [len(part.faces) for part in model.by_material()] == [2, 2] and len(model.others) == 1
    assert model.others[0].base_color[0, 0].tolist() == [124, 124, 124, 255], "factors are linear, textures are not"
    assert colours(path, (26, 16), (38, 16), (32, 48)) == [RED, GREEN, (124, 124, 124)]
    found = inspect(path)
    assert (found["materials"], found["charts"], found["uv_overlap"]) == (2, 2, 0)
    assert found["textures"]["base_color"] == [32, 32] and found["textures"]["base_color_2"] == [1, 1]
    assert found["metallic"][:1] + found["metallic"][2:] == [0, 1] and all(line.verdict for line in findings(found))


def test_texture_coordinates_are_moved_and_textures_repeat(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        moved = {"KHR_texture_transform": {"scale": [1, 2], "offset": [0, 0.5]}}
        document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["extensions"] = moved

    path = sheets(tmp_path / "a.glb", change=change)
    rows = ((8, 32), (24, 32), (40, 32), (56, 32))
    assert colours(path, *rows) == [GREEN, RED, GREEN, RED]
    assert inspect(path)["uv_outside"] > 0


def test_a_turned_texture_transform_turns_against_the_clock(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        moved = {"KHR_texture_transform": {"rotation": np.pi / 2}}
        document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["extensions"] = moved

    uvs = read_glb(sheets(tmp_path / "a.glb", change=change)).uvs
    assert np.allclose(uvs, np.stack([UVS[:, 1], -UVS[:, 0]], 1), atol=1e-6)


@pytest.mark.parametrize("mode", [5, 6])
def test_strips_and_fans_are_triangles(tmp_path: Path, mode: int) -> None:
    def change(document: dict[str, Any]) -> None:
        document["meshes"][0]["primitives"][0].update(mode=mode, indices=2)

    model = read_glb(sheets(tmp_path / "a.glb", change=change))
    corners = model.vertices[model.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 1]
    assert len(model.faces) == 2 and (mode == 6 or (facing < 0).all())  # a fan around a corner of Z order folds over itself


def test_a_picture_inside_of_the_description_is_read(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(picture(GREEN, GREEN)).decode()}]

    assert colours(sheets(tmp_path / "a.glb", change=change), (16, 32)) == [GREEN]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]), "KHR_draco_mesh_compression"),
        (lambda d: d["accessors"][3].update(sparse={"count": 1}), "sparse"),
        (lambda d: d["accessors"][3].update(count=10**9), "beyond its end"),
        (lambda d: d["nodes"][0].update(children=[0]), "no tree"),
        (lambda d: d["images"].__setitem__(0, {"uri": "colour.png"}), "colour.png"),
        (lambda d: d["images"][0].update(bufferView=1), "decoded"),
        (lambda d: d["meshes"][0]["primitives"][0].update(mode=1), "no triangles"),
        (lambda d: d["accessors"][1].update(count=5), "5 corners"),
        (lambda d: d["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"].update(texCoord=1), "texture coordinates"),
    ],
    ids=["compressed", "sparse", "beyond", "cycle", "elsewhere", "no picture", "lines", "no multiple", "no second UVs"],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    path = sheets(tmp_path / "odd.glb", change=change)
    with pytest.raises(GenesisError, match=words) as caught:
        inspect(path)
    assert caught.value.code == ErrorCode.BAD_MESH and "odd.glb" in caught.value.message and caught.value.remedy
