# SPDX-License-Identifier: Apache-2.0
"""What a model says about itself is read without torch and without the network, and nothing wrong with it stops anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genesis_server.hub.describe import Description, describe
from genesis_server.hub.locate import MINI_FOLDER

SAMPLER = {"params": {"steps": 7, "guidance_interval": [0.1, 0.9], "sigma_min": 1e-5}}


def write(folder: Path, values: object) -> str:
    (folder / "pipeline.json").write_text(json.dumps(values))
    return str(folder)


def test_its_own_sampler_settings_and_its_limits_are_told(tmp_path: Path) -> None:
    args = {"shape_slat_sampler": SAMPLER, "default_pipeline_type": "512"}
    said = describe(write(tmp_path, {"limits": "Only spheres.", "args": args}))
    assert said.limits == "Only spheres."
    assert said.defaults == {"shape.steps": 7, "shape.guidance_interval": [0.1, 0.9], "resolution": "512"}


def test_a_model_without_words_on_its_limits_has_none(tmp_path: Path) -> None:
    assert describe(write(tmp_path, {"args": {}})) == Description()


@pytest.mark.parametrize("values", [[], {"args": []}, {"args": {"tex_slat_sampler": {"params": {"steps": "many"}}}}, 3])
def test_a_damaged_file_tells_nothing(tmp_path: Path, values: object) -> None:
    assert describe(write(tmp_path, values)) == Description()


def test_a_model_that_is_not_here_tells_nothing() -> None:
    assert describe("no such model") == describe("acme/never-downloaded") == Description()


@pytest.mark.skipif(not (MINI_FOLDER / "pipeline.json").exists(), reason="the weights are not packaged here")
def test_genesis_mini_says_what_it_cannot_do() -> None:
    said = describe("mini")
    assert "faces" in said.limits and set(said.defaults) >= {"structure.steps", "shape.guidance_strength", "texture.rescale_t"}
