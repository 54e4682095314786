# SPDX-License-Identifier: Apache-2.0
"""A comparison finds what differs, and nothing where nothing does."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.unwrap import unwrap
from genesis_server.report.compare import Comparison, compare
from genesis_server.report.page import comparison_page
from tests import analytic

LINES = ["shape", "structure", "texture clarity", "colour", "PBR", "UV", "topology"]


def model_of(solid: analytic.Solid) -> GlbModel:
    mesh = unwrap(analytic.dual_mesh(solid, 32)[0], 128)
    base = np.random.default_rng(0).integers(0, 256, (128, 128, 4)).astype(np.uint8)
    base[..., 3] = 255
    surface = np.full((128, 128, 3), 128, np.uint8)
    arrays = [getattr(mesh, name).numpy() for name in ("vertices", "normals", "faces", "uvs")]
    return GlbModel(*arrays, Material(base, surface))


@pytest.fixture(scope="module")
def torus() -> GlbModel:
    return model_of(analytic.torus())


def scores(result: Comparison) -> dict[str, float]:
    return {score.name: score.value for score in result.scores}


def test_a_model_equals_itself(torus: GlbModel) -> None:
    result = compare(torus, torus, 64)
    found = scores(result)
    assert list(found) == LINES
    assert [round(found[name]) for name in LINES[:5]] == [100] * 5
    assert result.measures["chamfer"] < 1e-6 and result.measures["rendered_difference"] == 0


def test_each_line_sees_its_own_difference(torus: GlbModel) -> None:
    material = torus.material
    blurred = replace(material, base_color=np.full_like(material.base_color, 255))
    shiny = replace(material, metallic_roughness=np.full_like(material.metallic_roughness, 255))
    cases = {
        "shape": model_of(analytic.sphere()),
        "texture clarity": replace(torus, material=blurred),
        "colour": replace(torus, material=blurred),
        "PBR": replace(torus, material=shiny),
        "UV": replace(torus, uvs=torus.uvs * np.float32(0.2)),
        "topology": replace(torus, faces=torus.faces[: len(torus.faces) // 2]),
    }
    for name, other in cases.items():
        found = scores(compare(torus, other, 64))
        assert found[name] < 90, name
        untouched = set(LINES[:5]) - {name, "texture clarity", "colour"}
        if name in ("texture clarity", "PBR", "UV"):
            assert all(found[line] > 95 for line in untouched), found


def test_distances_are_those_of_a_moved_copy(torus: GlbModel) -> None:
    moved = replace(torus, vertices=torus.vertices * np.float32(1.1))
    measures = compare(torus, moved, 64).measures
    assert 0.005 < measures["chamfer"] < 0.05
    assert np.allclose(np.array(measures["extents"][1]) / measures["extents"][0], 1.1, atol=1e-3)
    assert measures["areas"][1] / measures["areas"][0] == pytest.approx(1.21, rel=1e-3)


def test_the_page_needs_nothing_else(torus: GlbModel) -> None:
    page = comparison_page(compare(torus, torus, 64), "<a>.glb", "b.glb")
    assert "&lt;a&gt;.glb" in page and "<a>.glb" not in page
    assert all(name in page for name in LINES)
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    assert page.count("data:image/jpeg;base64,") == 15
