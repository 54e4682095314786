# SPDX-License-Identifier: Apache-2.0
"""GLB files are valid for every reader, round-trip, and are never half written (docs/spec/geometry.md 1.2, 17.9-10)."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import read_glb
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.protocol.errors import ErrorCode, GenesisError
from tests import analytic

NODE_MODULES = Path(__file__).resolve().parents[2] / ".cache" / "node_modules"
VALIDATE = """
const validator = require(process.argv[1]), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="module")
def mesh() -> UnwrappedMesh:
    return unwrap(analytic.dual_mesh(analytic.rounded_box(), 16)[0], 64)


@pytest.fixture(scope="module")
def material() -> Material:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (64, 64, 4)).astype(np.uint8)
    surface = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return Material(base, surface, "BLEND")


def document(path: Path) -> dict:
    data = path.read_bytes()
    length, kind = struct.unpack_from("<II", data, 12)
    assert kind == 0x4E4F534A
    return json.loads(data[20 : 20 + length])


def test_a_written_file_reads_back_exactly(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    write_glb(tmp_path / "a.glb", mesh, material, {"seed": 7, "bake": {"faces": 10}})
    model = read_glb(tmp_path / "a.glb")
    for name in ("vertices", "normals", "uvs", "faces"):
        assert np.array_equal(getattr(model, name), getattr(mesh, name).numpy()), name
    assert np.array_equal(model.material.base_color, material.base_color)
    assert np.array_equal(model.material.metallic_roughness, material.metallic_roughness)
    assert (model.material.alpha_mode, model.material.double_sided) == ("BLEND", True)
    assert model.extras == {"seed": 7, "bake": {"faces": 10}}


def test_another_reader_sees_the_object_upright(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    write_glb(tmp_path / "a.glb", mesh, material)
    other = next(iter(trimesh.load(tmp_path / "a.glb").geometry.values()))
    x, y, z = mesh.vertices.numpy().T
    assert np.allclose(other.vertices, np.stack([x, z, -y], 1), atol=1e-7)
    assert trimesh.Trimesh(other.vertices, other.faces, process=True).volume > 0  # winding survived the turn
    assert np.allclose(other.visual.uv[:, 1], 1 - mesh.uvs.numpy()[:, 1], atol=1e-6)  # that reader counts v from below


@pytest.mark.parametrize("mode", ["OPAQUE", "MASK", "BLEND"])
def test_the_khronos_validator_finds_nothing(tmp_path: Path, mesh: UnwrappedMesh, material: Material, mode: str) -> None:
    if shutil.which("node") is None or not (NODE_MODULES / "gltf-validator").is_dir():
        pytest.skip(
            "needs node and .cache/node_modules/gltf-validator: npm install --prefix .cache gltf-validator@2.0.0-dev.3.10"
        )
    write_glb(tmp_path / "a.glb", mesh, replace(material, alpha_mode=mode), {"seed": 1})
    command = ["node", "-e", VALIDATE, str(NODE_MODULES / "gltf-validator"), str(tmp_path / "a.glb")]
    issues = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_large_meshes_use_wide_indices(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    write_glb(tmp_path / "small.glb", mesh, material)
    assert document(tmp_path / "small.glb")["accessors"][3]["componentType"] == 5123
    repeat = 70_000 // len(mesh.vertices) + 1
    wide = replace(
        mesh, vertices=mesh.vertices.repeat(repeat, 1), normals=mesh.normals.repeat(repeat, 1), uvs=mesh.uvs.repeat(repeat, 1)
    )
    write_glb(tmp_path / "large.glb", wide, material)
    assert document(tmp_path / "large.glb")["accessors"][3]["componentType"] == 5125
    assert len(read_glb(tmp_path / "large.glb").vertices) > 65535


def test_opaque_colour_is_stored_without_alpha(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    base = material.base_color.copy()
    base[..., 3] = 255
    write_glb(tmp_path / "a.glb", mesh, Material(base, material.metallic_roughness))
    assert "alphaMode" not in document(tmp_path / "a.glb")["materials"][0]
    assert np.array_equal(read_glb(tmp_path / "a.glb").material.base_color, base)


@pytest.mark.parametrize("content", [b"", b"not a mesh at all", b"glTF" + bytes(8), None])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "odd.glb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GenesisError) as error:
        read_glb(path)
    assert error.value.code is ErrorCode.BAD_MESH and "odd.glb" in error.value.message


def test_faces_that_name_vertices_out_of_range_are_refused(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    path = tmp_path / "a.glb"
    write_glb(path, mesh, material)
    content = bytearray(path.read_bytes())
    head = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    indices = head["accessors"][head["meshes"][0]["primitives"][0]["indices"]]
    width = {5123: 2, 5125: 4}[indices["componentType"]]
    view = head["bufferViews"][indices["bufferView"]]
    start = 20 + int.from_bytes(content[12:16], "little") + 8 + view.get("byteOffset", 0) + indices.get("byteOffset", 0)
    content[start : start + width] = len(mesh.vertices).to_bytes(width, "little")  # one beyond the last
    path.write_bytes(content)
    with pytest.raises(GenesisError) as error:
        read_glb(path)
    assert error.value.code is ErrorCode.BAD_MESH and "a.glb" in error.value.message


def test_truncated_files_and_files_without_uvs_are_refused(tmp_path: Path, mesh: UnwrappedMesh, material: Material) -> None:
    path = tmp_path / "a.glb"
    write_glb(path, mesh, material)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(GenesisError):
        read_glb(path)
    trimesh.creation.box().export(path)
    with pytest.raises(GenesisError, match="texture coordinates"):
        read_glb(path)
