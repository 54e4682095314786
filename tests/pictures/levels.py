# SPDX-License-Identifier: Apache-2.0
"""Levels of detail, from exported files: `python -m tests.pictures.levels OUT.jpg [VOXELS.vxz...]`.

100, 25 and 5 % of 12,000 faces from two sides, all in one texture, and the faces of 5 %.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from genesis_server.bake.read_gltf import read_glb
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.ovoxel.vxz import read_vxz
from genesis_server.pipeline.bake import BAKE_STAGES, bake_voxels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.render import View
from tests.analytic import noisy_blob, text, torus_knot, voxelize
from tests.pictures.bake import labelled, rendered

SETTINGS = BakeSettings(faces=12_000, texture_size=1024, lods=3)
SIZE = 220
FRONT, BACK = View(azimuth=35, elevation=25), View(azimuth=215, elevation=25)


def level_row(name: str, voxels: OVoxel) -> np.ndarray:
    progress = Progress(BAKE_STAGES, lambda event: None, lambda: False)
    progress.started("mesh")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.glb"
        write_baked(path, bake_voxels(voxels, SETTINGS, progress, "cpu"), SETTINGS)
        levels = [read_glb(path, level) for level in range(3)]
    pictures = [rendered(level, view=view, size=SIZE) for level in levels for view in (FRONT, BACK)]
    pictures.append(rendered(levels[-1], "wire", FRONT, SIZE))
    return labelled(np.concatenate(pictures, 1), f"{name}: {', '.join(str(len(level.faces)) for level in levels)} faces")


def main(out: Path, files: list[Path]) -> None:
    assets = {solid.name: voxelize(solid, 128) for solid in (torus_knot(), text(), noisy_blob())}
    assets |= {path.parent.stem: read_vxz(path) for path in files}
    rows = [level_row(name, voxels) for name, voxels in assets.items()]
    Image.fromarray(np.concatenate(rows)).save(out, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
