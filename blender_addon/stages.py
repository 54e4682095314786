# SPDX-License-Identifier: GPL-3.0-or-later
"""What a placeholder shows while its job runs: the voxels after the first stage, the bare shape after the second.

The arrays are made on a thread; Blender's part takes a few milliseconds, since the pictures of both stages are kept small.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import bpy
import numpy as np

from genesis_server.protocol.messages import Preview

from . import geometry
from .delivery import may_import
from .glb import MeshArrays, placed

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


class Stages:
    """The previews that have come and have not been shown; of each job the newest."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._reading: dict[str, Future[MeshArrays]] = {}

    def read(self, preview: Preview) -> None:
        """Begins to make a mesh of a preview."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "genesis-preview")
        self._reading[preview.job] = self._pool.submit(arrays_of, preview)

    def show(self, meshes_of: Callable[[str], list[bpy.types.Mesh]]) -> None:
        """Shows one preview that is ready, on the placeholders that wait for its job."""
        job = next((job for job, reading in self._reading.items() if reading.done()), None)
        if job is None or not may_import():
            return
        reading = self._reading.pop(job)
        if reading.exception() is not None:  # a picture on the way is not worth an error; the result will tell
            return
        for mesh in meshes_of(job):
            if not mesh.genesis.imported and not mesh.genesis.textured:
                show(mesh, reading.result())

    def close(self) -> None:
        """Ends the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def show(mesh: bpy.types.Mesh, arrays: MeshArrays) -> None:
    """A preview in a placeholder, as large as the result will be and on the same ground."""
    low, high = arrays.vertices.min(axis=0), arrays.vertices.max(axis=0)
    longest = float((high - low).max())
    geometry.fill(mesh, placed(arrays, mesh.genesis.size / longest if longest > 0.0 else 1.0, float(low[2])))
    mesh.shade_flat()  # voxels have edges, and the raw surface is not oriented yet: smooth, it would look torn


def arrays_of(preview: Preview) -> MeshArrays:
    """The mesh of a preview, z up.

    Raises:
        ValueError: where it holds nothing, or names vertices that do not exist.
    """
    if preview.kind == VOXELS:
        cells = np.frombuffer(preview.coords, "<u2").reshape(-1, 3).astype(np.int32)
        return voxel_faces(cells, preview.resolution)
    vertices = np.frombuffer(preview.vertices, "<f4").reshape(-1, 3)
    corners = np.frombuffer(preview.faces, "<i4")
    if not len(corners) or corners.min() < 0 or corners.max() >= len(vertices):
        raise ValueError("its faces name vertices that do not exist")
    return MeshArrays(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(corners, np.int32))


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
    return MeshArrays(vertices, corners.reshape(-1).astype(np.int32), sides=4)
