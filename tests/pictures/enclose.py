# SPDX-License-Identifier: Apache-2.0
"""Surfaces of a small network's O-Voxels, repaired and below enclosed: `python -m tests.pictures.enclose OUT.jpg ASSET...`.

Every ASSET is a generated asset's folder; the table printed beside the picture counts what can be seen in it.
"""

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
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.vxz import read_vxz
from genesis_server.report.geometry import measure_shape
from genesis_server.report.render import SHEET_BACKGROUND, View, over, render_views

VIEWS = (View(0, 10, "clay"), View(50, 20, "clay"), View(180, 20, "clay"), View(-60, 35, "clay"))
FACES = 50_000
SIZE = 220


def pictures(mesh: Mesh) -> np.ndarray:
    """The four views side by side, uint8 [SIZE, 4 SIZE, 3]."""
    white = Material(np.full((1, 1, 4), 255, np.uint8), np.full((1, 1, 3), 128, np.uint8))
    uvs = np.zeros((len(mesh.vertices), 2), np.float32)
    model = GlbModel(mesh.vertices.numpy(), vertex_normals(mesh).numpy(), mesh.faces.numpy(), uvs, white)
    return np.concatenate([over(picture, SHEET_BACKGROUND) for picture in render_views(model, VIEWS, SIZE)], 1)


def main(out: Path, assets: list[Path]) -> None:
    blocks = []
    for asset in assets:
        voxels = read_vxz(asset / "ovoxel.vxz")
        raw, enclosed = extract_mesh(voxels), enclosed_surface(voxels)
        rows = {"repaired": finish_mesh(raw, FACES)}
        rows["enclosed"] = finish_mesh(enclosed or raw, FACES, closed=enclosed is not None)
        for name, mesh in rows.items():
            found = measure_shape(mesh.vertices.numpy(), mesh.faces.numpy())
            keys = ("boundary_edges", "components", "inside_out_components", "sliver_faces")
            print(f"{asset.stem:16} {name:9}", {key: found[key] for key in keys})
        blocks.append(np.concatenate([pictures(mesh) for mesh in rows.values()]))
    while len(blocks) % 2:
        blocks.append(np.full_like(blocks[0], SHEET_BACKGROUND))
    lines = [np.concatenate(blocks[i : i + 2], 1) for i in range(0, len(blocks), 2)]
    Image.fromarray(np.concatenate(lines)).save(out, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
