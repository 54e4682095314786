# SPDX-License-Identifier: Apache-2.0
"""How light the Blender extension is: its own import, the import of a large result beside Blender's own importer, its zips.

    .venv-bpy/bin/python tests/benchmarks/extension.py [--json FILE]

Runs in the bpy module's environment, from the project's folder. The panel's drawing and the session's steps need a window:
`tests/gui/run.py` reports them. Times are medians of REPEATS.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/blender")]
REPEATS = 5
AROUND, ACROSS = 550, 274  # quads of the torus: 301,400 triangles
TEXTURE = 2048
SEED = 0


def clock() -> float:
    """Seconds: wall time, or with --cpu that of this process, which other work on the machine disturbs less."""
    return time.process_time() if "--cpu" in sys.argv else time.perf_counter()


def import_time(cache: str) -> float:
    """Milliseconds that `import blender_addon` and `register` take in a Blender that is up.

    Args:
        cache: folder of compiled modules. Blender writes them beside an installed extension, so that its first start alone
            compiles anything.
    """
    code = (
        "import bpy, time; a = bpy.context.preferences.addons.new(); a.module = 'blender_addon';"
        f"clock = time.{'process_time' if '--cpu' in sys.argv else 'perf_counter'};"
        "s = clock(); import blender_addon; blender_addon.register(); t = clock() - s;"
        "blender_addon.unregister(); print(1000 * t, flush=True); import os; os._exit(0)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "PYTHONPYCACHEPREFIX": cache},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(done.stdout.split()[-1])


def large_file(folder: Path) -> Path:
    """A torus with three noisy textures, as a GLB."""
    import glb_files
    import numpy as np

    from blender_addon.png import write_png

    rng = np.random.default_rng(SEED)
    textures = {}
    for role in glb_files.TEXTURES:
        low = rng.integers(0, 256, (64, 64, 4), np.uint8).repeat(TEXTURE // 64, 0).repeat(TEXTURE // 64, 1)
        pixels = low // 2 + rng.integers(0, 8, low.shape, np.uint8)
        pixels[..., 3] = 255
        write_png(folder / f"{role}.png", pixels)
        textures[role] = (folder / f"{role}.png").read_bytes()
    return glb_files.write(folder / "model.glb", [glb_files.torus(AROUND, ACROSS)], textures)


def own_importer(path: Path) -> tuple[float, float]:
    """Milliseconds on the thread, and milliseconds that Blender is blocked."""
    import bpy

    from blender_addon import geometry, glb, material

    started = clock()
    model = glb.read_model(path)
    arrays = glb.placed(model.levels[0], 2.0, -0.1)
    read = clock()
    mesh = bpy.data.meshes.new("torus")
    geometry.fill(mesh, arrays)
    material.dress(mesh, model.surface, "torus", None)
    done = clock()
    assert len(mesh.polygons) == 2 * AROUND * ACROSS
    return 1000 * (read - started), 1000 * (done - read)


def blenders_importer(path: Path) -> float:
    """Milliseconds that Blender is blocked by its own one."""
    import bpy

    logging.disable(logging.INFO)
    started = clock()
    bpy.ops.import_scene.gltf(filepath=str(path))
    return 1000 * (clock() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall time")
    options = parser.parse_args()
    import bpy

    with tempfile.TemporaryDirectory() as cache:
        first, *imports = (import_time(cache) for _ in range(REPEATS + 1))
    with tempfile.TemporaryDirectory() as name:
        path = large_file(Path(name))
        own = [own_importer(path) for _ in range(REPEATS)]
        theirs = [blenders_importer(path) for _ in range(REPEATS)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    rows = {
        "extension import and register, ms": statistics.median(imports),
        "the first time, when it is compiled, ms": first,
        "large result, read on the thread, ms": statistics.median(read for read, _ in own),
        "large result, Blender blocked, ms": statistics.median(blocked for _, blocked in own),
        "large result, Blender blocked, slowest, ms": max(blocked for _, blocked in own),
        "the same by Blender's importer, ms": statistics.median(theirs),
        **{f"{path.name}, MB": path.stat().st_size / 1e6 for path in sorted((ROOT / "dist").glob("*.zip"))},
    }
    report = {
        "machine": platform.processor() or platform.machine(),
        "blender": bpy.app.version_string,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "seed": SEED,
        "clock": "processor" if options.cpu else "wall",
        "faces": 2 * AROUND * ACROSS,
        "textures": f"3 x {TEXTURE}",
        **rows,
    }
    for name, value in report.items():
        print(f"{name:50s} {value:.1f}" if isinstance(value, float) else f"{name:50s} {value}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    sys.stdout.flush()
    os._exit(0)  # bpy may hang at the end of Python


if __name__ == "__main__":
    main()
