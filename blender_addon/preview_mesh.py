# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a preview. Needs numpy and nothing of Blender: it runs on a thread of its own."""

from __future__ import annotations

import numpy as np

from .glb import MeshArrays, placed
from .lazy import messages

VOXELS = "voxels"
MAX_CELLS = 32  # per axis that are shown: more cost milliseconds and look the same
# corners of the face of a cell toward -x, +x, -y, +y, -z, +z, seen from outside in anticlockwise order
_FACES = np.array(
    [
        [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)],
        [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)],
        [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)],
        [(0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)],
        [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)],
        [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)],
    ],
    np.int32,
)


def arrays_of(preview: messages.Preview) -> MeshArrays:
    """The mesh of a preview, z up: its longest side is 1, and it stands on the ground.

    Raises:
        ValueError: where it holds nothing, or names vertices that do not exist.
    """
    if preview.kind == VOXELS:
        cells = np.frombuffer(preview.coords, "<u2").reshape(-1, 3).astype(np.int32)
        return _standing(voxel_faces(cells, preview.resolution))
    vertices = np.frombuffer(preview.vertices, "<f4").reshape(-1, 3)
    corners = np.frombuffer(preview.faces, "<i4")
    if not len(corners) or corners.min() < 0 or corners.max() >= len(vertices):
        raise ValueError("its faces name vertices that do not exist")
    return _standing(MeshArrays(vertices.astype(np.float32), corners.astype(np.int32), flat=True))


def _standing(mesh: MeshArrays) -> MeshArrays:
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    longest = float((high - low).max())
    return placed(mesh, 1.0 / longest if longest > 0.0 else 1.0, float(low[2]))


def voxel_faces(cells: np.ndarray, resolution: int) -> MeshArrays:
    """The visible faces of occupied cells as quads.

    Args:
        cells: int32 [N, 3].
        resolution: cells per axis; they fill the cube [-0.5, 0.5]^3.
    """
    if not len(cells) or cells.max() >= resolution:
        raise ValueError("it has no cells, or some outside of its cube")
    step = -(-resolution // MAX_CELLS)
    size = -(-resolution // step)
    filled = np.zeros((size + 2,) * 3, bool)  # a rim of empty cells
    filled[tuple((cells // step + 1).T)] = True
    quads = []
    for face, (axis, side) in zip(_FACES, ((axis, side) for axis in range(3) for side in (-1, 1)), strict=True):
        bare = filled & ~np.roll(filled, -side, axis)
        quads.append((np.argwhere(bare)[:, None, :] - 1 + face[None]).reshape(-1, 3))
    points = np.concatenate(quads)
    number = (points[:, 0] * (size + 1) + points[:, 1]) * (size + 1) + points[:, 2]
    used, corners = np.unique(number, return_inverse=True)
    lattice = np.stack((used // (size + 1) ** 2, used // (size + 1) % (size + 1), used % (size + 1)), axis=1)
    vertices = lattice.astype(np.float32) * np.float32(step / resolution) - np.float32(0.5)
    return MeshArrays(vertices, corners.reshape(-1).astype(np.int32), sides=4, flat=True)
