# SPDX-License-Identifier: Apache-2.0
"""The page about scripting: its example is run as it stands, and it knows every operator."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import bpy
import pytest
from conftest import ROOT, Blender

PAGE = (ROOT / "docs/scripting.md").read_text("utf-8")


def test_the_batch_example_runs_as_it_stands(
    blender: Blender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pictures, target = tmp_path / "pictures", tmp_path / "assets.blend"
    pictures.mkdir()
    for name in ("apple.png", "cupcake.png"):
        shutil.copy(ROOT / "examples" / name, pictures)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    # the test's Blender is set up already, and reading the start-up file would take it away
    example = re.sub(r"bpy\.ops\.wm\.read_homefile\(.*\)\n", "", example)
    monkeypatch.setattr(sys, "argv", ["blender", "--", str(pictures), str(target)])
    script = tmp_path / "batch.py"
    script.write_text(example)
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert "apple" in said and "cupcake" in said and "seed 0" in said
    bpy.ops.wm.open_mainfile(filepath=str(target))
    items = sorted(bpy.data.objects, key=lambda item: item.location.x)
    assert [item.name for item in items] == ["apple", "cupcake"] and [item.location.x for item in items] == [0.0, 2.0]
    assert all(item.asset_data is not None and max(item.dimensions) == pytest.approx(1.5, rel=1e-4) for item in items)


def test_every_operator_is_on_the_page_or_only_for_the_panel(blender: Blender) -> None:
    from blender_addon import operators

    named = set(re.findall(r"`?(\w+)\(", PAGE))
    for cls in operators._CLASSES:
        if not issubclass(cls, bpy.types.Operator) or "INTERNAL" in getattr(cls, "bl_options", set()):
            continue
        assert cls.bl_idname.partition(".")[2] in named, f"{cls.bl_idname} is missing from docs/scripting.md"
    for name in named & {match for match in re.findall(r"\| `(\w+)\(", PAGE)}:
        assert hasattr(bpy.types, f"GENESIS_OT_{name}"), f"docs/scripting.md names {name}, which does not exist"
