# SPDX-License-Identifier: Apache-2.0
"""What build_addon.py makes, built once, and a Python that has Blender."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import BUILD_TIMEOUT, PLATFORMS, ROOT


@pytest.fixture(scope="session")
def zips() -> dict[str, Path]:
    """All three, built as a developer does."""
    built = subprocess.run(
        [sys.executable, "build_addon.py"], cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return {platform: next((ROOT / "dist").glob(f"genesis-*-{platform}.zip")) for platform in PLATFORMS}


@pytest.fixture(scope="session")
def bpy_python() -> Path:
    """An interpreter with Blender as a module."""
    places = [os.environ.get("GENESIS_BPY_PYTHON", ""), ROOT / ".venv-bpy/bin/python", ROOT / ".venv-bpy/Scripts/python.exe"]
    found = next((Path(place) for place in places if place and Path(place).exists()), None)
    if found is None:
        pytest.skip("no Python with bpy: run dev.py test, or set GENESIS_BPY_PYTHON")
    return found


@pytest.fixture(scope="session")
def blender_tool(bpy_python: Path) -> list[str]:
    """The command of Blender's own tool for extensions."""
    place = "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('bpy').origin).parent)"
    found = subprocess.run([bpy_python, "-c", place], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    return [str(bpy_python), str(next(Path(found).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")))]
