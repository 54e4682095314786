# SPDX-License-Identifier: Apache-2.0
"""The walls of the house (docs/architecture.md): which room may import which, and what never appears in the project."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> rooms it may import besides itself and `protocol`
BELOW = {
    "protocol": set(),
    "native_ext": set(),
    "sparse": {"native_ext"},
    "networks": {"sparse", "native_ext"},
    "hub": set(),
    "ovoxel": {"native_ext", "mesh"},
    "mesh": {"native_ext"},
    "bake": {"native_ext", "mesh", "ovoxel"},
    "report": {"native_ext", "mesh", "bake"},
    "assets": {"ovoxel"},
    "pipeline": {"assets", "bake", "mesh", "ovoxel", "report", "networks", "hub", "sparse", "native_ext"},
    "mini": {"pipeline", "assets", "bake", "mesh", "ovoxel", "report", "networks", "hub", "sparse", "native_ext"},
    "service": {"pipeline", "assets", "hub"},
    "cli": {"service", "pipeline", "assets", "hub", "report", "mini", "native_ext"},
    "blender_addon": set(),
}
FORBIDDEN_CALLS = {"eval", "exec", "print"}
PRINTING_ROOMS = {"cli"}
# the supervisor side must start in under a second: none of its modules may load torch
LIGHT_MODULES = ["genesis_server.protocol", "genesis_server.service.supervisor", "genesis_server.cli"]


def sources() -> list[Path]:
    return sorted(path for room in ("genesis_server", "native_ext", "blender_addon") for path in (ROOT / room).rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str | None:
    if parts[0] in ("native_ext", "blender_addon"):
        return parts[0]
    if parts[0] != "genesis_server":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "genesis_server"


def imported_rooms(tree: ast.AST) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    rooms = {room_of(tuple(module.split("."))) for module in modules}
    return {room for room in rooms if room and room != "genesis_server"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward_only(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    room = room_of(parts)
    if room in (None, "genesis_server"):
        return
    allowed = BELOW[room] | {room, "protocol"}
    assert imported_rooms(ast.parse(path.read_text("utf-8"))) <= allowed, f"{path} reaches outside its walls"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_evaluation_pickle_or_stray_print(path: Path) -> None:
    room = room_of(path.relative_to(ROOT).with_suffix("").parts)
    text = path.read_text("utf-8")
    assert text.startswith("# SPDX-License-Identifier: "), "first line must be the licence"
    licence = "GPL-3.0-or-later" if room == "blender_addon" else "Apache-2.0"
    assert text.splitlines()[0].endswith(licence)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            assert node.func.id == "print" and room in PRINTING_ROOMS, f"{node.func.id} in line {node.lineno}"
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve"}
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name == "*" for alias in node.names), f"star import in line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert isinstance(node.value, ast.Constant) and node.value.value is False


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_modules_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
