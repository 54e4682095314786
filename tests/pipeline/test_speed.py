# SPDX-License-Identifier: Apache-2.0
"""What the choice of speed does to a generation: fewer late steps, from the shape on, and nothing where all is as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.pipeline import model as model_room
from genesis_server.pipeline.generate import generate, stages_to_run, wanted_keys
from genesis_server.pipeline.latents import stage_sampling
from genesis_server.pipeline.memory import EXACT, FAST, PUBLISHED
from genesis_server.pipeline.model import Model
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.parameters import BakeSettings, GenerateSettings, SamplerSettings

STEPS = SamplerSettings(steps=8)
SETTINGS = GenerateSettings(shape=STEPS, texture=STEPS, structure=STEPS, bake=BakeSettings(faces=200, texture_size=64))


def test_fast_leaves_out_late_steps_and_runs_again_from_the_shape_on(tiny_model: Path, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (64, 64))
    picture.paste((200, 80, 40, 255), (8, 8, 56, 56))
    asset, model = Asset.create(tmp_path / "a", [picture], SETTINGS, "tiny"), Model.load(str(tiny_model), "cpu")
    counts: list[Counter] = []
    for settings in (SETTINGS, SETTINGS.with_values({"speed": "fast"})):
        events: list[Event] = []
        asset.change(settings)
        generate(asset, model, events.append)
        counts.append(Counter(event.stage for event in events if event.kind == EventKind.STEP and event.step))
    published, fast = counts
    assert published["structure"] == published["shape"] == published["texture"] == 8
    assert fast["shape"] == fast["texture"] == 6 and "structure" not in fast
    assert stages_to_run(asset, model) == []


def test_as_published_adds_nothing_to_the_keys(tiny_model: Path, tmp_path: Path) -> None:
    model, picture = Model.load(str(tiny_model), "cpu"), Image.new("RGBA", (8, 8), "red")
    keys = [
        wanted_keys(Asset.create(tmp_path / str(i), [picture], settings, "tiny"), model)
        for i, settings in enumerate(
            (SETTINGS, SETTINGS.with_values({"speed": "published"}), SETTINGS.with_values({"speed": "fastest"}))
        )
    ]
    assert keys[0] == keys[1]
    assert keys[0]["structure"] == keys[2]["structure"] and keys[0]["shape"] != keys[2]["shape"]


@pytest.mark.parametrize(
    ("changes", "stage", "precision", "joined"),
    [
        ({}, "shape", PUBLISHED, False),
        ({"speed": "fast"}, "shape", PUBLISHED, True),
        ({"speed": "fastest"}, "shape", FAST, True),
        ({"speed": "fastest"}, "structure", PUBLISHED, False),
        ({"speed": "fastest", "texture_precision": "float32"}, "texture", EXACT, True),
    ],
)
def test_a_stage_is_sampled_as_the_settings_say(
    tiny_model: Path, changes: dict[str, str], stage: str, precision: str, joined: bool
) -> None:
    config = Model.load(str(tiny_model), "cpu").config
    found = stage_sampling(config, SETTINGS.with_values(changes), stage, lambda *_: None)
    assert (found.precision, found.parameters.merge_late) == (precision, joined)


def test_eight_bits_are_used_only_where_the_device_has_them(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    role = "shape_slat_flow_model_32"
    model = Model.load(str(tiny_model), "cpu")
    model.device = torch.device("cuda")  # only names and loaders are asked for
    for has, expected in ((False, role), (True, f"{role} fast")):
        monkeypatch.setattr(model_room, "has_float8", lambda device, has=has: has)
        assert model._variant(role, FAST)[0] == expected
    assert model._variant(role, PUBLISHED)[0] == role
    assert model._variant(role, EXACT)[0] == f"{role} {EXACT}"
    blocks = model._variant(role, FAST)[1](torch.device("cpu")).blocks
    assert blocks[0].mlp.mlp[0].weight.dtype == torch.float8_e4m3fn
