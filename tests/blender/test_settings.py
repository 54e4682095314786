# SPDX-License-Identifier: Apache-2.0
"""What the panel's values become on the wire, and how presets and objects fill the panel."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest
from conftest import Blender

from blender_addon import model_facts
from blender_addon.settings import changes_from
from genesis_server.protocol.answers import ModelInfo
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


def test_a_touched_value_overrides_the_model(blender: Blender) -> None:
    settings = bpy.context.scene.genesis.settings
    assert settings.to_settings().shape.guidance_strength is None, "untouched means the model's own default"
    settings.shape.guidance_strength = 3.3
    settings.shape.guidance_interval = (0.25, 0.9)
    changes = changes_from(GenerateSettings(), settings.to_settings())
    assert changes == {"shape.guidance_strength": 3.3, "shape.guidance_interval": [0.25, 0.9]}
    assert GenerateSettings().with_values(changes) == settings.to_settings()


def test_settings_go_to_an_object_and_back(blender: Blender) -> None:
    wanted = GenerateSettings().with_values({"seed": 4, "texture_seed": 9, "texture.rescale_t": 2.5, "bake.alpha": "mask"})
    memory = bpy.data.meshes.new("thing").genesis
    memory.store(wanted)
    assert memory.made_with() == memory.settings.to_settings() == wanted and not memory.changed()
    memory.settings.texture.steps = 3
    assert memory.changed() == {"texture.steps": 3}
    settings = bpy.context.scene.genesis.settings
    settings.assign(wanted)
    assert settings.to_settings() == wanted


def test_what_a_newer_release_stored_does_not_break_the_panel(blender: Blender) -> None:
    memory = bpy.data.meshes.new("thing").genesis
    memory.stored = '{"from_the_future": 1, "seed": 8, "shape": {"steps": 9, "order": 3}, "bake": {"alpha": "glass"}}'
    assert memory.made_with() == GenerateSettings().with_values({"seed": 8, "shape.steps": 9}), "what is known is kept"
    for damaged in ("{", "[]", "3"):
        memory.stored = damaged
        assert memory.made_with() == GenerateSettings()


def test_pictures_are_added_and_removed(blender: Blender, tmp_path: Path) -> None:
    for name in ("front.png", "back.png"):
        (tmp_path / name).touch()
    scene = bpy.context.scene.genesis
    bpy.ops.genesis.add_pictures(directory=str(tmp_path), files=[{"name": "front.png"}, {"name": "back.png"}])
    assert [item.name for item in scene.pictures] == ["front.png", "back.png"] and scene.active_picture == 1
    bpy.ops.genesis.remove_picture()
    assert [item.name for item in scene.pictures] == ["front.png"] and scene.active_picture == 0


def test_the_reset_arrow_gives_back_the_default(blender: Blender) -> None:
    settings = bpy.context.scene.genesis.settings
    settings.shape.steps, settings.bake.faces, settings.resolution = 44, 700, "512"
    for name in ("shape.steps", "bake.faces", "resolution"):
        *groups, last = name.split(".")
        owner = getattr(settings, groups[0]) if groups else settings
        assert owner.differs(last)
        assert bpy.ops.genesis.reset_value(name=name) == {"FINISHED"}
        assert not owner.differs(last)
    assert settings.to_settings() == GenerateSettings()


def test_a_preset_of_the_users_own_is_a_file_that_comes_back(blender: Blender, own_presets: Path) -> None:
    scene = bpy.context.scene.genesis
    scene.settings.seed = 9
    scene.settings.shape.steps, scene.settings.bake.texture_size = 31, 2048
    scene.settings.speed, scene.settings.texture_precision = "fast", "float32"
    assert bpy.ops.genesis.save_preset(name="My look") == {"FINISHED"}
    assert scene.preset == "My look" and (own_presets / "My look.json").is_file()
    assert bpy.ops.genesis.use_preset(name="draft") == {"FINISHED"}
    assert scene.settings.shape.steps == 6
    assert (scene.settings.speed, scene.settings.texture_precision) == ("published", "auto")
    assert bpy.ops.genesis.use_preset(name="My look") == {"FINISHED"}
    assert (scene.settings.speed, scene.settings.texture_precision) == ("fast", "float32")
    assert (scene.settings.shape.steps, scene.settings.bake.texture_size) == (31, 2048)
    assert scene.settings.seed == 9, "a preset says nothing about the seed"
    assert bpy.ops.genesis.remove_preset() == {"FINISHED"}
    assert not list(own_presets.iterdir()) and scene.preset == "standard"


def test_a_preset_of_an_earlier_release_means_the_published_speed(blender: Blender, own_presets: Path) -> None:
    own_presets.mkdir(exist_ok=True)
    (own_presets / "old.json").write_text('{"version": 1, "settings": {"shape": {"steps": 31}}}')
    scene = bpy.context.scene.genesis
    scene.settings.speed = "fast"
    assert bpy.ops.genesis.use_preset(name="old") == {"FINISHED"}
    assert scene.settings.shape.steps == 31 and scene.settings.speed == "published"


@pytest.mark.parametrize("name", ["", "draft", "../escape", "a/b", "x" * 200])
def test_what_cannot_name_a_preset_is_refused(blender: Blender, own_presets: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match="preset"):
        bpy.ops.genesis.save_preset(name=name)
    assert not list(own_presets.rglob("*.json"))


def test_a_damaged_preset_is_named(blender: Blender, own_presets: Path) -> None:
    (own_presets / "broken.json").write_text("{")
    with pytest.raises(RuntimeError, match="broken.json"):
        bpy.ops.genesis.use_preset(name="broken")
    assert bpy.context.scene.genesis.preset == "standard"


def told(model: str, **defaults: object) -> None:
    """As a server tells it."""
    model_facts.learn([ModelInfo(model, "folder", 0, 0, (), "Only spheres.", defaults)])


def test_an_untouched_value_shows_what_its_model_uses(blender: Blender) -> None:
    settings = bpy.context.scene.genesis.settings
    told(
        blender.preferences.model,
        **{"shape.steps": 7, "shape.guidance_interval": [0.25, 0.75], "texture.guidance_strength": 1.25, "resolution": "128"},
    )
    assert settings.shape.steps == 7 and settings.texture.guidance_strength == 1.25
    assert tuple(settings.shape.guidance_interval) == (0.25, 0.75)
    assert settings.structure.steps == 12, "what the model does not say is that of the published one"
    assert settings.to_settings() == GenerateSettings(), "showing it does not set it"
    settings.shape.steps = 9
    assert settings.to_settings().shape.steps == settings.shape.steps == 9 and settings.shape.differs("steps")
    assert bpy.ops.genesis.reset_value(name="shape.steps") == {"FINISHED"}
    assert settings.shape.steps == 7 and not settings.shape.differs("steps")
    settings.seed = 41
    assert settings.texture_seed == 41 and settings.to_settings().texture_seed is None, "it follows the seed"


def test_an_asset_shows_the_defaults_of_the_model_that_made_it(blender: Blender) -> None:
    told("acme/other", **{"shape.steps": 33})
    memory = bpy.data.meshes.new("thing").genesis
    memory.model = "acme/other"
    assert memory.settings.shape.steps == 33


def test_what_models_say_is_known_before_a_server_runs(blender: Blender, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path))
    told("acme/kept", **{"shape.steps": 5})
    model_facts.forget()
    assert model_facts.default("acme/kept", "shape.steps") == 5 and model_facts.limits("acme/kept") == "Only spheres."
    (tmp_path / model_facts.FILE).write_text('{"acme/kept": {"limits": "", "defaults": {"no.such": 1}}}')
    model_facts.forget()
    assert model_facts.default("acme/kept", "shape.steps") is None, "a file of another release is no reason to stop"


def test_the_server_tells_what_the_chosen_model_uses(blender: Blender) -> None:
    from blender_addon.questions import questions

    bpy.ops.genesis.start_server()
    blender.pump_until(lambda: questions.model() is not None)
    assert questions.model().defaults["shape.steps"] == model_facts.default(blender.preferences.model, "shape.steps")


def test_every_parameter_can_be_set_in_the_panel(blender: Blender, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace
    from unittest.mock import MagicMock

    from blender_addon.panels import draw, main, settings

    drawn = {"background"}  # each picture of the list has its own
    monkeypatch.setattr(draw, "value", lambda _layout, _group, name, prefix="", arrow=True: drawn.add(prefix + name))
    for cls in settings.CLASSES:
        if issubclass(cls, bpy.types.Panel) and cls is not settings.GENESIS_PT_object:
            cls.draw(SimpleNamespace(layout=MagicMock()), bpy.context)
    assert drawn >= set(parameter_names()) - {"seed"}
    layout = MagicMock()
    main._draw_new(layout, bpy.context, bpy.context.scene.genesis)
    assert "'seed'" in str(layout.mock_calls)
