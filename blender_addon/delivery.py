# SPDX-License-Identifier: GPL-3.0-or-later
"""From a finished job to the mesh that waits for it: read on a thread, put into Blender in one go, one undo step.

The thread touches files and arrays only, never Blender's data. Everything Blender has to do happens in a single step, so that
undo, file loading or a deleted object can not come in between.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import bpy

from genesis_server.protocol.connection import home_folder
from genesis_server.protocol.errors import ErrorCode, GenesisError

from . import asset_mark, geometry, glb_export, material, waiting
from .glb import MeshArrays, Model, placed, read_model
from .lazy import futures, messages, transfer
from .moment import may_import, push_undo
from .properties import GenesisMemory

MODEL_FILE = "model.glb"
FAR_FOLDER = "far"  # in the folder of this machine, for what servers on other machines have made
TEXTURE_FOLDER = "textures"
OWN_UVS = "Genesis"  # layer of a textured mesh that had no UVs one texture could serve


class Delivery:
    """One import at a time.

    Attributes:
        seconds: how long the last one blocked Blender.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pool: futures.ThreadPoolExecutor | None = None
        self._job = ""
        self._reading: futures.Future[Model] | None = None

    def step(self, job: messages.JobInfo, meshes: Sequence[bpy.types.Mesh], title: str, far_file: Path | None) -> bool:
        """Goes on with the import of a job; True once it is done.

        Args:
            far_file: connection file of a server on another machine, from which the result is fetched first.

        Raises:
            GenesisError: BAD_ASSET, NO_PERMISSION, NOT_CONNECTED; nothing has changed then.
        """
        folder = Path(job.asset) if far_file is None else home_folder() / FAR_FOLDER / PureWindowsPath(job.asset).name
        if self._job != job.id or self._reading is None:
            self._begin(job, folder, far_file)
        if not self._reading.done() or not may_import():
            return False
        reading, self._reading = self._reading, None
        model = reading.result()
        started = time.perf_counter()
        for mesh in meshes:
            try:
                deliver(mesh, job, model)
            except OSError as error:
                raise _unwritable(error) from error
            mesh.genesis.copy = str(folder) if far_file is not None else ""
        self.seconds = time.perf_counter() - started
        push_undo(title)
        return True

    def close(self) -> None:
        """Ends the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, job: messages.JobInfo, folder: Path, far_file: Path | None) -> None:
        if self._pool is None:
            self._pool = futures.ThreadPoolExecutor(1, "genesis-import")
        self._job = job.id
        self._reading = self._pool.submit(_read, job.id, folder, far_file)


def _read(job: str, folder: Path, far_file: Path | None) -> Model:
    """On the thread: the model of an asset, brought here where it is on another machine."""
    if far_file is not None:
        transfer.fetch_results(far_file, job, folder)
    return read_model(folder / MODEL_FILE)


def deliver(mesh: bpy.types.Mesh, job: messages.JobInfo, model: Model) -> None:
    """Puts a finished job's model into the mesh that waits for it; its objects, their modifiers and parents stay.

    Raises:
        GenesisError: NO_PERMISSION where textures are to be files and cannot be written.
    """
    memory: GenesisMemory = mesh.genesis
    if memory.textured:
        _retexture(mesh, model, _texture_folder(memory, job))
    else:
        _reshape(mesh, job, model)
    memory.asset, memory.job, memory.imported = job.asset, "", True
    if memory.mark_asset:
        for item in waiting.objects_of(mesh):
            asset_mark.mark(item)


def _reshape(mesh: bpy.types.Mesh, job: messages.JobInfo, model: Model) -> None:
    """Geometry, levels of detail and textures of a generated asset."""
    memory: GenesisMemory = mesh.genesis
    finest = model.levels[0]
    if not memory.scale or not (memory.imported and job.kind == "rebake"):
        low, high = finest.vertices.min(axis=0), finest.vertices.max(axis=0)
        longest = float((high - low).max())
        memory.scale, memory.ground = (memory.size / longest if longest > 0.0 else 1.0), float(low[2])
    name = mesh.name
    material.dress(mesh, model.surface, name, _texture_folder(memory, job))
    _fill(mesh, placed(finest, memory.scale, memory.ground))
    _set_levels(mesh, [placed(level, memory.scale, memory.ground) for level in model.levels[1:]])


def _retexture(mesh: bpy.types.Mesh, model: Model, folder: Path | None) -> None:
    """New textures on a mesh of the user's, whose shape, UVs and slots stay; new UVs go into a layer of their own."""
    if mesh.uv_layers.get(OWN_UVS) is not None or not glb_export.keeps_uvs(mesh):
        layer = mesh.uv_layers.get(OWN_UVS) or mesh.uv_layers.new(name=OWN_UVS)
        layer.uv.foreach_set("vector", glb_export.uvs_of_loops(mesh, model.levels[0]).reshape(-1))
        layer.active = layer.active_render = True
    ours = next((slot for slot in mesh.materials if slot is not None and material.images_by_role(slot)), None)
    made = material.dressed(ours, model.surface, mesh.name, folder)
    for index in range(len(mesh.materials)):
        mesh.materials[index] = made
    if not mesh.materials:
        mesh.materials.append(made)


def _unwritable(error: OSError) -> GenesisError:
    """Why the textures could not become files."""
    if error.errno == errno.ENOSPC:
        return GenesisError(ErrorCode.DISK_FULL, f"The disk is full: {error}.", "Free some space, then try again.")
    words = f"The textures cannot be written: {error}.", "Save the .blend elsewhere, or pack textures, then try again."
    return GenesisError(ErrorCode.NO_PERMISSION, *words)


def _fill(mesh: bpy.types.Mesh, arrays: MeshArrays) -> None:
    if mesh.shape_keys is not None:  # they belong to the vertices that go
        for item in [item for item in bpy.data.objects if item.data == mesh]:
            item.shape_key_clear()
            break
    geometry.fill(mesh, arrays)


def _set_levels(mesh: bpy.types.Mesh, coarser: Sequence[MeshArrays]) -> None:
    """The coarser levels of detail, each in a mesh of its own that stays over a re-bake; those that are gone, go."""
    levels = mesh.genesis.levels
    old = [entry.mesh for entry in levels][1:]
    kept = [level for level in old if level is not None]
    for item in [item for item in bpy.data.objects if item.data in kept[len(coarser) :]]:
        item.data = mesh
    for level in kept[len(coarser) :]:
        bpy.data.meshes.remove(level)
    kept = kept[: len(coarser)]
    while len(kept) < len(coarser):
        kept.append(bpy.data.meshes.new(f"{mesh.name} LOD{len(kept) + 1}"))
    levels.clear()
    for level in [mesh, *kept] if kept else []:
        levels.add().mesh = level
    for level, arrays in zip(kept, coarser, strict=True):
        geometry.fill(level, arrays)
        level.genesis.main = mesh
        level.materials.clear()
        for slot in mesh.materials:
            level.materials.append(slot)


def _texture_folder(memory: GenesisMemory, job: messages.JobInfo) -> Path | None:
    """Where texture files go; None packs them."""
    if memory.textures != "FILES":
        return None
    return (Path(bpy.data.filepath).parent if bpy.data.is_saved else Path(job.asset)) / TEXTURE_FOLDER
