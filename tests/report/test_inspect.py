# SPDX-License-Identifier: Apache-2.0
"""`inspect` counts what is there, and sees what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.report.inspect import inspect
from tests import analytic


@pytest.fixture(scope="module")
def unwrapped() -> UnwrappedMesh:
    return unwrap(analytic.dual_mesh(analytic.torus(), 32)[0], 256)


@pytest.fixture
def model(unwrapped: UnwrappedMesh) -> GlbModel:
    plain = Material(np.full((256, 256, 4), 255, np.uint8), np.full((256, 128, 3), 255, np.uint8))
    arrays = [getattr(unwrapped, name).numpy() for name in ("vertices", "normals", "faces", "uvs")]
    return GlbModel(*arrays, plain)


def test_a_good_file_is_described(tmp_path: Path, unwrapped: UnwrappedMesh, model: GlbModel) -> None:
    write_glb(tmp_path / "a.glb", unwrapped, model.material)
    found = inspect(tmp_path / "a.glb")
    assert json.loads(json.dumps(found)) == found == inspect(model)
    assert found["faces"] == len(unwrapped.faces) and found["vertices"] == len(unwrapped.vertices)
    assert found["textures"] == {"base_color": [256, 256], "metallic_roughness": [128, 256]}
    assert found["watertight"] and found["components"] == 1 and found["charts"] == int(unwrapped.chart.max()) + 1
    assert [found[key] for key in ("degenerate_faces", "zero_uv_faces", "mirrored_faces", "uv_overlap")] == [0, 0, 0, 0]
    assert 0.4 < found["uv_use"] < 1
    assert np.allclose(found["bounds"], [[-0.42, -0.42, -0.12], [0.42, 0.42, 0.12]], atol=0.01)


def test_defects_are_counted(model: GlbModel) -> None:
    assert inspect(replace(model, faces=model.faces[1:]))["boundary_edges"] == 3
    assert not inspect(replace(model, faces=model.faces[1:]))["watertight"]
    flat = model.faces.copy()
    flat[0, 1] = flat[0, 0]
    assert inspect(replace(model, faces=flat))["degenerate_faces"] == 1
    assert inspect(replace(model, faces=np.concatenate([model.faces, model.faces[:1]])))["non_manifold_edges"] == 3
    twice = np.concatenate([model.vertices, model.vertices + np.float32(2)])
    double = GlbModel(
        twice,
        np.tile(model.normals, (2, 1)),
        np.concatenate([model.faces, model.faces + len(model.vertices)]),
        np.tile(model.uvs, (2, 1)),
        model.material,
    )
    assert inspect(double)["components"] == 2
    assert inspect(double)["uv_overlap"] > 0.4
    collapsed = replace(model, uvs=np.zeros_like(model.uvs))
    assert inspect(collapsed)["zero_uv_faces"] == len(model.faces)
    mirrored = replace(model, uvs=model.uvs * np.float32([-1, 1]) + np.float32([1, 0]))
    assert inspect(mirrored)["mirrored_faces"] == len(model.faces)
