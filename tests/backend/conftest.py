# SPDX-License-Identifier: Apache-2.0
"""The installer without Blender, and small wheels in place of large packages, so that a real pip installs them in seconds."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

import pytest
from small_wheels import MODULES, server_wheel, wheel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def backend():
    """blender_addon.backend; the package around it needs bpy, so that an empty one stands in."""
    if "blender_addon" not in sys.modules:
        package = types.ModuleType("blender_addon")
        package.__path__ = [str(ROOT / "blender_addon")]
        sys.modules["blender_addon"] = package
    return importlib.import_module("blender_addon.backend")


@pytest.fixture(autouse=True)
def no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's constraints and mirrors are not those of the test."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in [name for name in os.environ if name.startswith("PIP_") and name != "PIP_CONFIG_FILE"]:
        monkeypatch.delenv(name)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder that pip can install from."""
    folder = tmp_path / "wheels"
    for name, text in MODULES.items():
        wheel(folder, name, "9.9.9", {f"{name}.py": text})
    return folder


@pytest.fixture
def bundle(backend, tmp_path: Path):
    """As the extension brings it."""
    lines = tuple(f"{name}==9.9.9" for name in MODULES)
    return backend.Bundle(server_wheel(tmp_path / "bundle", "1.0"), lines)


@pytest.fixture
def found(backend):
    """This machine's Python, without a GPU, with pip."""
    version = sys.version_info[:2]
    return backend.Found("cpu", "", None, None, Path(sys.executable), version, 1000, 1000, True)
