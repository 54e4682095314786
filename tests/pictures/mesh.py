# SPDX-License-Identifier: Apache-2.0
"""Finished meshes of the analytic assets, lit and with their faces: `python -m tests.pictures.mesh OUT.jpg`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.report.render import SHEET_BACKGROUND, View, over, render_views
from tests.analytic import leaves, solids, voxelize
from tests.pictures.bake import labelled

RESOLUTION, FACES = 128, 6000
SIZE, COLUMNS = 300, 4
VIEWS = (View(35, 25, "clay"), View(35, 25, "wire"))


def pictures(mesh: Mesh) -> np.ndarray:
    """Lit above faces, uint8 [2 SIZE, SIZE, 3]."""
    white = Material(np.full((1, 1, 4), 255, np.uint8), np.full((1, 1, 3), 128, np.uint8))
    uvs = np.zeros((len(mesh.vertices), 2), np.float32)
    model = GlbModel(mesh.vertices.numpy(), vertex_normals(mesh).numpy(), mesh.faces.numpy(), uvs, white)
    return np.concatenate([over(picture, SHEET_BACKGROUND) for picture in render_views(model, VIEWS, SIZE)])


def main(out: Path) -> None:
    assets = {solid.name: voxelize(solid, RESOLUTION) for solid in solids()}
    assets["leaves"] = voxelize_mesh(leaves(), RESOLUTION)
    blocks = []
    for name, voxels in assets.items():
        mesh = finish_mesh(extract_mesh(voxels), FACES, resolution=RESOLUTION)
        blocks.append(labelled(pictures(mesh), f"{name}: {len(mesh.faces)} faces"))
    rows = [np.concatenate(blocks[i : i + COLUMNS], 1) for i in range(0, len(blocks), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(out, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
