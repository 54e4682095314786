# SPDX-License-Identifier: Apache-2.0
"""Several seeds in one go: in a row, or one object to flip through."""

from __future__ import annotations

from pathlib import Path

import bpy
from conftest import Blender
from test_generate import choose

from blender_addon import discarded


def ask_for(picture: Path, count: int, layout: str) -> None:
    choose(picture, seed=3)
    scene = bpy.context.scene.genesis
    scene.variants, scene.layout, scene.size = count, layout, 2.0
    assert bpy.ops.genesis.generate() == {"FINISHED"}


def test_variants_in_a_row_stand_side_by_side_and_one_is_kept(blender: Blender, picture: Path) -> None:
    ask_for(picture, 3, "ROW")
    blender.pump_until(lambda: all(task.info for task in blender.session.tasks.values()))
    last = list(blender.session.tasks)[-1]
    assert bpy.ops.genesis.cancel(job=last) == {"FINISHED"}
    blender.wait_for_jobs()
    items = sorted(bpy.data.objects, key=lambda item: item.location.x)
    assert [item.location.x for item in items] == [1.0, 3.5], "the cancelled one is gone, the gap stays"
    seeds = [item.data.genesis.made_with().seed for item in items]
    assert seeds[0] == 3 and len(set(seeds)) == 2
    for item, seed in zip(items, seeds, strict=True):
        assert f"_seed{seed}" in item.data.genesis.asset and Path(item.data.genesis.asset).is_dir()
    bpy.context.view_layer.objects.active = items[1]
    gone, kept = (Path(item.data.genesis.asset) for item in items)
    assert bpy.ops.genesis.show_variant(index=0) == {"FINISHED"}
    assert bpy.context.view_layer.objects.active == items[0] and not items[1].select_get()
    bpy.ops.genesis.show_variant(index=1)
    assert bpy.ops.genesis.keep_variant() == {"FINISHED"}
    assert list(bpy.data.objects) == [items[1]] and len(bpy.data.meshes) == 1
    assert kept.is_dir() and not gone.exists() and len(list(gone.parent.glob("*.discarded"))) == 1
    bpy.data.meshes.new("as undo makes it").genesis.asset = str(gone)
    discarded.bring_back()
    assert (gone / "asset.json").is_file() and not list(gone.parent.glob("*.discarded"))
    assert not bpy.ops.genesis.keep_variant.poll(), "there is nothing left to choose from"


def test_variants_of_one_object_are_flipped_through(blender: Blender, picture: Path) -> None:
    ask_for(picture, 2, "STACK")
    (item,) = bpy.data.objects
    item.location.x, item.scale.z = 7.0, 2.0
    item.modifiers.new("Bevel", "BEVEL")
    blender.wait_for_jobs()
    assert len(item.genesis.variants) == 2 and item.genesis.variant == 0 and item.name == "my cake"
    first = item.data
    assert bpy.ops.genesis.show_variant(index=1) == {"FINISHED"} and item.genesis.variant == 1
    assert item.data != first and item.data.genesis.imported
    assert item.data.genesis.made_with().seed != first.genesis.made_with().seed == 3
    assert (item.location.x, item.scale.z) == (7.0, 2.0) and item.modifiers["Bevel"]
    kept = item.data
    assert bpy.ops.genesis.keep_variant() == {"FINISHED"}
    assert item.data == kept and not item.genesis.variants and list(bpy.data.meshes) == [kept]


def test_keeping_a_variant_cancels_those_still_being_made(blender: Blender, picture: Path, home: Path) -> None:
    before = list((home / "assets").glob("my cake_seed*.genesis"))
    ask_for(picture, 3, "STACK")
    (item,) = bpy.data.objects
    blender.pump_until(lambda: item.data.genesis.imported)
    assert bpy.ops.genesis.keep_variant() == {"FINISHED"}
    blender.pump_until(lambda: not blender.session.busy)
    assert blender.session.error is None
    assert list(bpy.data.objects) == [item] and len(bpy.data.meshes) == 1 and item.data.genesis.imported
    folders = list(Path(item.data.genesis.asset).parent.glob("my cake_seed*.genesis"))
    assert Path(item.data.genesis.asset) in folders and len([path for path in folders if path in before]) == len(before)
    assert len(folders) == len(before) + 1, "what was still being made has no folder either"


def test_only_an_assets_own_folder_is_discarded(blender: Blender, tmp_path: Path) -> None:
    other, shared = tmp_path / "photos", tmp_path / "shared.genesis"
    for folder in (other, shared):
        folder.mkdir()
    (other / "holiday.png").touch()
    (shared / "asset.json").touch()
    bpy.data.meshes.new("a copy").genesis.asset = str(shared)
    discarded.put_aside(other)
    discarded.put_aside(shared)
    assert other.is_dir() and shared.is_dir(), "no asset, and one that another object still stands for"
    bpy.data.meshes.remove(bpy.data.meshes["a copy"])
    discarded.put_aside(shared)
    assert not shared.exists()
    discarded.clear()
    assert list(tmp_path.iterdir()) == [other]
