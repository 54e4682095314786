# SPDX-License-Identifier: Apache-2.0
"""What the panel's values become on the wire, and how presets and objects fill the panel."""

from __future__ import annotations

from pathlib import Path

import bpy
from conftest import Blender

from blender_addon.properties import changes_from
from genesis_server.protocol.parameters import GenerateSettings, parameter_names
from genesis_server.protocol.presets import PRESETS, preset


def test_every_parameter_has_its_property(blender: Blender) -> None:
    settings = bpy.context.scene.genesis.settings
    for name, item in parameter_names().items():
        *groups, last = name.split(".")
        owner = settings
        for group in groups:
            owner = getattr(owner, group)
        assert owner.bl_rna.properties[last].description == item.metadata["help"]


def test_an_untouched_panel_sends_the_preset_alone(blender: Blender) -> None:
    scene = bpy.context.scene.genesis
    assert changes_from(preset(scene.preset), scene.settings.to_settings()) == {}
    for name in PRESETS:
        scene.preset = name
        assert scene.settings.to_settings() == preset(name)


def test_a_switched_on_value_overrides_the_model(blender: Blender) -> None:
    settings = bpy.context.scene.genesis.settings
    settings.shape.guidance_strength = 3.3
    assert settings.to_settings().shape.guidance_strength is None, "off means the model's own default"
    settings.shape.use_guidance_strength = True
    settings.shape.use_guidance_interval = True
    settings.shape.guidance_interval = (0.25, 0.9)
    changes = changes_from(GenerateSettings(), settings.to_settings())
    assert changes == {"shape.guidance_strength": 3.3, "shape.guidance_interval": [0.25, 0.9]}
    assert GenerateSettings().with_values(changes) == settings.to_settings()


def test_settings_go_to_an_object_and_back(blender: Blender) -> None:
    wanted = GenerateSettings().with_values({"seed": 4, "texture_seed": 9, "texture.rescale_t": 2.5, "bake.alpha": "mask"})
    item = bpy.data.objects.new("thing", None)
    item.genesis.store(wanted)
    assert item.genesis.settings() == wanted and item.genesis.bake.alpha == "mask"
    settings = bpy.context.scene.genesis.settings
    settings.assign(wanted)
    assert settings.to_settings() == wanted


def test_what_a_newer_release_stored_does_not_break_the_panel(blender: Blender) -> None:
    item = bpy.data.objects.new("thing", None)
    item.genesis.stored = '{"from_the_future": 1}'
    assert item.genesis.settings() == GenerateSettings()


def test_pictures_are_added_and_removed(blender: Blender, tmp_path: Path) -> None:
    for name in ("front.png", "back.png"):
        (tmp_path / name).touch()
    scene = bpy.context.scene.genesis
    bpy.ops.genesis.add_pictures(directory=str(tmp_path), files=[{"name": "front.png"}, {"name": "back.png"}])
    assert [item.name for item in scene.pictures] == ["front.png", "back.png"] and scene.active_picture == 1
    bpy.ops.genesis.remove_picture()
    assert [item.name for item in scene.pictures] == ["front.png"] and scene.active_picture == 0
