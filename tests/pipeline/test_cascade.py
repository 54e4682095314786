# SPDX-License-Identifier: Apache-2.0
"""A small model with networks for two resolutions runs as a cascade, within a token limit."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from genesis_server.pipeline.conditioning import encode
from genesis_server.pipeline.decode import decode
from genesis_server.pipeline.latents import Sampling, seeded
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.pipeline.shape import sample_shape
from genesis_server.pipeline.structure import sample_structure
from genesis_server.pipeline.texture import sample_texture


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Model:
    folder = shutil.copytree(tiny_model, tmp_path / "two")
    config = json.loads((folder / "pipeline.json").read_text())
    models = config["args"]["models"]
    for stage in ("shape", "tex"):
        models[f"{stage}_slat_flow_model_64"] = models[f"{stage}_slat_flow_model_32"]
    config["args"]["default_pipeline_type"] = "64_cascade"
    (folder / "pipeline.json").write_text(json.dumps(config))
    return Model.load(str(folder), "cpu")


@pytest.mark.parametrize(
    ("pipeline_type", "limit", "resolution"), [("64_cascade", 10**6, 64), ("96_cascade", 10**6, 96), ("128_cascade", 1, 64)]
)
def test_a_cascade_ends_at_the_resolution_the_limit_allows(
    model: Model, pipeline_type: str, limit: int, resolution: int
) -> None:
    plan, generator = model.plan(pipeline_type), seeded(1)
    with model.network(ENCODER) as encoder:
        tokens = [encode(encoder, [Image.new("RGB", (9, 9), "red")], size) for size in plan.image_sizes]
    parameters = {stage: Sampling(value) for stage, value in model.config.samplers.items()}
    structure = sample_structure(model, plan, tokens, generator, parameters["structure"])
    assert structure.resolution == 4
    shape = sample_shape(model, plan, structure, tokens, generator, parameters["shape"], limit)
    texture = sample_texture(model, plan, shape, tokens, generator, parameters["texture"])
    assert shape.resolution == resolution and int(shape.coords[:, 1:].max()) < resolution // 8
    voxels = decode(model, shape, texture)[0]
    assert voxels.resolution == resolution and int(voxels.coords.max()) < resolution
