# SPDX-License-Identifier: Apache-2.0
"""The extension in the bpy module: run with the interpreter of .venv-bpy, `python -m pytest tests/blender`.

The server runs in the server's own Python, GENESIS_PYTHON or .venv. Blender's timers never fire here, so tests call
`pump` as the timer would (docs/spec/platform.md 2).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HAS_BPY = importlib.util.find_spec("bpy") is not None
collect_ignore_glob = [] if HAS_BPY else ["test_*.py"]
PATIENCE = 240.0  # seconds for one job on a busy machine; the first one loads torch and compiles kernels
PUMP_EVERY = 0.02  # seconds, as Blender's timer about does


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config._exit_status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """bpy 4.x can hang at the end of Python although everything was unregistered (docs/spec/platform.md 2)."""
    if HAS_BPY and hasattr(config, "_exit_status"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config._exit_status)


@pytest.fixture(scope="session")
def server_python() -> Path:
    """The interpreter in which the server is installed."""
    places = [os.environ.get("GENESIS_PYTHON", ""), str(ROOT / ".venv/bin/python"), str(ROOT / ".venv/Scripts/python.exe")]
    found = next((Path(place) for place in places if place and Path(place).exists()), None)
    if found is None:
        pytest.skip("no Python with the server: run dev.py setup, or set GENESIS_PYTHON")
    return found


@pytest.fixture(scope="session")
def model(server_python: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model of random weights in the schema of the real ones: to the extension it is the same, and it takes seconds."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]);"
        "import tiny_model; tiny_model.write_tiny_model(pathlib.Path(sys.argv[2]))"
    )
    subprocess.run([server_python, "-c", code, ROOT / "tests/pipeline", folder], check=True, cwd=ROOT, timeout=120)
    return str(folder)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One server folder for all tests, so that torch is loaded once."""
    return tmp_path_factory.mktemp("genesis")


class Blender:
    """Blender with the extension, and a hand that does what its timer would."""

    def __init__(self) -> None:
        import bpy

        import blender_addon.session

        self.session = blender_addon.session.session
        self.preferences = bpy.context.preferences.addons["blender_addon"].preferences
        self.longest = 0.0  # seconds of the longest pump without an import

    def pump_until(self, reached: Callable[[], object], patience: float = PATIENCE) -> None:
        """Pumps until something is so; fails with what the session last knew."""
        end = time.monotonic() + patience
        while not reached():
            imported = self.session.imported_seconds
            started = time.monotonic()
            self.session.pump(started)
            if self.session.imported_seconds == imported:
                self.longest = max(self.longest, time.monotonic() - started)
            assert time.monotonic() < end, f"not within {patience:g} s: {self.session.tasks}, {self.session.error}"
            time.sleep(PUMP_EVERY)

    def wait_for_jobs(self) -> None:
        """Until nothing is under way."""
        self.pump_until(lambda: not self.session.busy)


@pytest.fixture
def blender(home: Path, server_python: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blender]:
    """A fresh file and the registered extension, which knows the server of the test session."""
    import bpy

    import blender_addon
    from blender_addon import model_facts

    monkeypatch.setenv("GENESIS_HOME", str(home))
    model_facts.forget()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon = bpy.context.preferences.addons.new()
    addon.module = "blender_addon"
    blender_addon.register()
    hand = Blender()
    hand.preferences.python, hand.preferences.model = str(server_python), model
    hand.preferences.connection_file = str(home / "server.json")
    yield hand
    blender_addon.unregister()
    bpy.context.preferences.addons.remove(bpy.context.preferences.addons["blender_addon"])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An example picture under a name of its own."""
    return Path(shutil.copy(ROOT / "examples/cupcake.png", tmp_path / "my cake.png"))


@pytest.fixture
def own_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's presets."""
    from blender_addon import presets

    folder = tmp_path / "presets"
    folder.mkdir()
    monkeypatch.setattr(presets, "user_folder", lambda: folder)
    return folder
