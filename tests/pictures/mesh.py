# SPDX-License-Identifier: Apache-2.0
"""The pictures of the mesh room: `python -m tests.pictures.mesh docs/images`.

Finished meshes of the analytic assets, lit and with their faces; nested shells cut open, as they are, remeshed as published,
and remeshed here; a torn surface as extracted, at 3,000 and at 300 faces.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import vertex_normals
from genesis_server.mesh.repair import keep_faces
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.report.render import SHEET_BACKGROUND, View, over, render_views
from native_ext.narrow_band import narrow_band_surface
from tests.analytic import leaves, nested_shells, solids, torus, voxelize
from tests.mesh.noise import spoil
from tests.pictures.bake import labelled, write

RESOLUTION, FACES = 128, 6000
SHELLS = 64  # resolution of what is cut open
SIZE, COLUMNS = 300, 4
LIT, WIRE, AHEAD = View(35, 25, "clay"), View(35, 25, "wire"), View(0, 0, "clay")


def picture(mesh: Mesh, view: View) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]."""
    white = Material(np.full((1, 1, 4), 255, np.uint8), np.full((1, 1, 3), 128, np.uint8))
    uvs = np.zeros((len(mesh.vertices), 2), np.float32)
    model = GlbModel(mesh.vertices.numpy(), vertex_normals(mesh).numpy(), mesh.faces.numpy(), uvs, white)
    return over(render_views(model, (view,), SIZE)[0], SHEET_BACKGROUND)


def assets() -> np.ndarray:
    voxels = {solid.name: voxelize(solid, RESOLUTION) for solid in solids()}
    voxels["leaves"] = voxelize_mesh(leaves(), RESOLUTION)
    blocks = []
    for name, grid in voxels.items():
        mesh = finish_mesh(extract_mesh(grid), FACES, resolution=RESOLUTION)
        both = np.concatenate([picture(mesh, LIT), picture(mesh, WIRE)])
        blocks.append(labelled(both, f"{name}: {len(mesh.faces)} faces"))
    return np.concatenate([np.concatenate(blocks[i : i + COLUMNS], 1) for i in range(0, len(blocks), COLUMNS)])


def before_after() -> np.ndarray:
    shells = extract_mesh(voxelize(nested_shells(), SHELLS))
    whole = finish_mesh(shells, 10**6)
    published = Mesh(*narrow_band_surface(whole.vertices, whole.faces, torch.zeros(3), 1 + 3 / SHELLS, SHELLS))
    here = finish_mesh(shells, 10**6, remesh=True, resolution=SHELLS)
    torn = extract_mesh(spoil(voxelize(torus(), SHELLS)))
    rows = (
        {"nested shells": half(whole), "remeshed as published": half(published), "remeshed here": half(here)},
        {"torn": torn} | {f"{faces} faces": finish_mesh(torn, faces) for faces in (3000, 300)},
    )
    views = ((AHEAD,) * 3, (LIT, WIRE, WIRE))
    lines = [
        [labelled(picture(mesh, view), name) for (name, mesh), view in zip(row.items(), seen, strict=True)]
        for row, seen in zip(rows, views, strict=True)
    ]
    return np.concatenate([np.concatenate(line, 1) for line in lines])


def half(mesh: Mesh) -> Mesh:
    """What lies behind the middle, seen from the front."""
    return keep_faces(mesh, mesh.vertices[mesh.faces.long()].mean(1)[:, 1] > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="one of the pictures")
    options = parser.parse_args()
    makers: dict[str, Callable[[], np.ndarray]] = {"mesh_assets.jpg": assets, "mesh_before_after.jpg": before_after}
    for name, make in makers.items():
        if options.only in (None, name):
            write(options.folder / name, make())


if __name__ == "__main__":
    main()
