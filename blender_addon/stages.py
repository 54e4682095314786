# SPDX-License-Identifier: GPL-3.0-or-later
"""What a placeholder shows while its job runs: the voxels after the first stage, the bare shape after the second.

The arrays are made on a thread; Blender's part takes a few milliseconds, since the pictures of both stages are kept small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import bpy

from .lazy import futures, geometry, glb, messages, preview_mesh
from .moment import may_import

if TYPE_CHECKING:
    from .glb import MeshArrays


class Stages:
    """The previews that have come and have not been shown; of each job the newest."""

    def __init__(self) -> None:
        self._pool: futures.ThreadPoolExecutor | None = None
        self._reading: dict[str, futures.Future[MeshArrays]] = {}

    def read(self, preview: messages.Preview) -> None:
        """Begins to make a mesh of a preview."""
        if self._pool is None:
            self._pool = futures.ThreadPoolExecutor(1, "genesis-preview")
        self._reading[preview.job] = self._pool.submit(preview_mesh.arrays_of, preview)

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
    geometry.fill(mesh, glb.placed(arrays, mesh.genesis.size, 0.0))
