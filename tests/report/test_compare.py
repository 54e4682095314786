# SPDX-License-Identifier: Apache-2.0
"""A comparison finds what differs, and nothing where nothing does."""

from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.unwrap import unwrap
from genesis_server.report.compare import Comparison, compare
from genesis_server.report.page import comparison_page
from tests import analytic

LINES = ["shape", "structure", "texture clarity", "colour", "PBR", "UV", "topology"]


def model_of(solid: analytic.Solid, cells: int = 32) -> GlbModel:
    mesh = unwrap(analytic.dual_mesh(solid, cells)[0], 128)
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
    assert [round(found[name], 1) for name in LINES] == [100] * 7
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
        found = scores(compare(torus, other, 64, modes=()))
        assert found[name] < 90, name
        untouched = set(LINES[:5]) - {name, "texture clarity", "colour"}
        if name in ("texture clarity", "PBR", "UV"):
            assert all(found[line] > 95 for line in untouched), found


def test_what_has_changed_places_is_seen_though_the_distributions_are_the_same(torus: GlbModel) -> None:
    right = torus.vertices[torus.faces].mean(1)[:, 0] > 0
    sides = [replace(torus, faces=torus.faces[side]) for side in (right, ~right)]
    reds = Material(np.full((4, 4, 4), (200, 0, 0, 255), np.uint8), np.full((4, 4, 3), 0, np.uint8))
    blues = Material(np.full((4, 4, 4), (0, 0, 200, 255), np.uint8), np.full((4, 4, 3), 255, np.uint8))
    faces = np.concatenate([side.faces for side in sides])
    number = np.repeat(np.array([0, 1], np.int32), [len(side.faces) for side in sides])
    one = replace(torus, faces=faces, surface=number, material=reds, others=(blues,))
    two = replace(one, material=blues, others=(reds,))
    result = compare(one, two, 64, modes=())
    found = scores(result)
    assert result.measures["colour_distance"] < 5 and result.measures["metallic_difference"] < 0.05
    assert found["colour"] < 20 and found["PBR"] < 20
    assert min(found[name] for name in ("shape", "structure", "texture clarity", "UV", "topology")) > 95


def test_noise_is_no_detail_and_darker_colours_have_as_much(torus: GlbModel) -> None:
    material = torus.material
    soft = material.base_color.copy()
    soft[..., :3] = cv2.GaussianBlur(soft[..., :3], (0, 0), 6)
    soft[:64, :, :3] //= 3
    smooth = replace(torus, material=replace(material, base_color=soft))
    dark = replace(torus, material=replace(material, base_color=np.dstack([soft[..., :3] // 2, soft[..., 3:]])))
    assert scores(compare(torus, smooth, 64, modes=()))["texture clarity"] < 60
    assert scores(compare(smooth, torus, 64, modes=()))["texture clarity"] < 90
    found = scores(compare(smooth, dark, 64, modes=()))
    assert found["texture clarity"] > 95 and found["colour"] < 60


def test_fewer_faces_lower_the_shape_and_crumbs_the_topology(torus: GlbModel) -> None:
    coarse = model_of(analytic.torus(), 8)
    found = scores(compare(torus, coarse, 64, modes=()))
    assert found["shape"] < 95 and found["topology"] > 99
    crumb = torus.vertices[:3] * np.float32(0.001)
    apart = np.concatenate([crumb + np.float32(0.01 * number) for number in range(220)])
    parts = {"vertices": apart, "normals": np.tile(torus.normals[:3], (220, 1)), "uvs": np.tile(torus.uvs[:3], (220, 1))}
    joined = {name: np.concatenate([getattr(torus, name), values]) for name, values in parts.items()}
    loose = len(torus.vertices) + np.arange(660, dtype=np.int32).reshape(-1, 3)
    crumbly = replace(torus, **joined, faces=np.concatenate([torus.faces, loose]))
    assert scores(compare(torus, crumbly, 64, modes=()))["topology"] < 85


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
    assert page.count("data:image/jpeg;base64,") == 3 * 7 + 2
