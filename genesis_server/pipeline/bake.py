# SPDX-License-Identifier: Apache-2.0
"""O-Voxel to GLB: the chain below the networks, for `genesis bake`, a re-bake, and the last stage of every generation."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from genesis_server.bake.gltf import write_glb
from genesis_server.bake.layout import PACK_SIZE
from genesis_server.bake.levels import LEVEL_SHARES, coarser_level
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.bake.tangents import vertex_tangents
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.ovoxel.vxz import read_vxz
from genesis_server.pipeline.memory import is_out_of_memory
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BakeSettings

BAKE_STAGES = ("mesh", "bake")
_STEPS = 8  # after so many, two thirds of the way are done; meshes take 10 to 30
_UNWRAPPED = 60  # per cent of the bake, before textures are filled
T = TypeVar("T")


@dataclass(frozen=True)
class Baked:
    """What a GLB is written from.

    Attributes:
        levels: the mesh in its levels of detail, finest first, all in one texture.
        material: of all levels.
        faces_before: of the extracted surface.
    """

    levels: Sequence[UnwrappedMesh]
    material: Material
    faces_before: int

    def statistics(self) -> dict[str, Any]:
        """As kept in an asset's record."""
        return {
            "faces": len(self.levels[0].faces),
            "vertices": len(self.levels[0].vertices),
            "level_faces": [len(level.faces) for level in self.levels],
            "texture_size": self.material.base_color.shape[0],
            "alpha_mode": self.material.alpha_mode,
            "faces_before": self.faces_before,
        }


def bake_voxels(
    voxels: OVoxel,
    settings: BakeSettings,
    progress: Progress,
    device: str | None = None,
    levels: Sequence[UnwrappedMesh] = (),
) -> Baked:
    """Mesh, levels of detail and textures of an O-Voxel.

    Args:
        voxels: with attributes.
        settings: what is to be made of it.
        progress: told of the stages "mesh" and "bake"; "mesh" has been started by the caller, "bake" is finished by it.
        device: where to work; by default the GPU where there is one.
        levels: meshes of an earlier bake with the same `layout_settings`, which are then not made again.

    Raises:
        GenesisError: EMPTY_STRUCTURE, BAD_ASSET or BAD_MESH for voxels without surface or colours, or with values that are no
            numbers; CANCELLED.
    """
    _check_values(voxels)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def meshed(device: str) -> tuple[int, bool, Mesh, Mesh | None]:
        here = _moved(dataclasses.replace(voxels, attributes=None), device)  # what is not needed leaves room for what is
        raw = extract_mesh(here)
        progress.step("mesh", 5, 100)
        enclosed = enclosed_surface(here)
        progress.step("mesh", 10, 100)
        del here
        detailed = enclosed or raw
        check = _telling(progress, "mesh", 10, 100)
        finished = None if levels else _finished(detailed, settings, voxels.resolution, enclosed is not None, check)
        return len(raw.faces), enclosed is not None, Mesh(detailed.vertices, detailed.faces), finished

    def textured(device: str) -> Baked:
        here, surface = _moved(voxels, device), _mesh_moved(detailed, device)
        done = [_level_moved(level, device) for level in levels]
        unwrapped = 0 if done else _UNWRAPPED
        if not done:
            done = _unwrapped(_mesh_moved(mesh, device), settings, _telling(progress, "bake", 0, unwrapped))

        def told(step: int, steps: int) -> None:
            progress.step("bake", round(unwrapped + (100 - unwrapped) * step / steps), 100)

        progress.check()
        material = bake_textures(done[0], surface, here, settings, told, outward)
        return Baked(done, material, extracted)

    (extracted, outward, detailed, mesh), device = _where_it_fits(meshed, device, partial(progress.note, "mesh"))
    progress.finished("mesh")
    progress.started("bake")
    return _where_it_fits(textured, device, partial(progress.note, "bake"))[0]


def _telling(progress: Progress, stage: str, low: float, high: float) -> Callable[[], None]:
    """A check that also tells how far the work is, in per cent of the stage.

    How many steps there will be nobody knows before; each call takes the bar a part of the way that is left.
    """
    reached = low

    def check() -> None:
        nonlocal reached
        reached += (high - reached) / _STEPS
        progress.step(stage, round(reached), 100)

    return check


def _where_it_fits(work: Callable[[str], T], device: str, note: Callable[[str], None]) -> tuple[T, str]:
    """What `work` makes on a device, or on the CPU where the GPU's memory runs out; and where that was."""
    try:
        return work(device), device
    except RuntimeError as error:
        if device == "cpu" or not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # outside the handler: the error holds on to every tensor of the failed try
    note("The GPU's memory ran out; the rest of mesh and textures is made on the CPU, more slowly.")
    return work("cpu"), "cpu"


def layout_settings(settings: BakeSettings) -> dict[str, Any]:
    """What decides the meshes and their texture coordinates; bakes that agree in it can share them."""
    side = min(settings.texture_size, PACK_SIZE)  # larger textures have the same layout
    return {"faces": settings.faces, "remesh": settings.remesh, "solid": settings.solid, "lods": settings.lods, "side": side}


def read_levels(glb: str | os.PathLike[str], count: int) -> list[UnwrappedMesh]:
    """The meshes of a GLB that `write_baked` wrote, bit for bit as they were.

    Raises:
        GenesisError: BAD_MESH for a file that cannot be read or has fewer levels.
    """
    return [_from_glb(read_glb(glb, level, textures=False)) for level in range(count)]


def _from_glb(model: GlbModel) -> UnwrappedMesh:
    vertices, normals, uvs, faces = (
        torch.from_numpy(array) for array in (model.vertices, model.normals, model.uvs, model.faces)
    )
    tangents = vertex_tangents(vertices, normals, uvs, faces)
    if model.tangents is not None:
        tangents = torch.from_numpy(model.tangents[:, :3].copy())
    number = torch.arange(len(vertices))
    return UnwrappedMesh(vertices, faces, normals, uvs, tangents, number, torch.zeros(len(faces), dtype=torch.int32))


def _finished(detailed: Mesh, settings: BakeSettings, resolution: int, closed: bool, check: Callable[[], None]) -> Mesh:
    return finish_mesh(
        detailed,
        settings.faces,
        closed=closed,
        remesh=settings.remesh,
        solid=settings.solid,
        resolution=resolution,
        check=check,
    )


def _unwrapped(mesh: Mesh, settings: BakeSettings, check: Callable[[], None]) -> list[UnwrappedMesh]:
    levels = [unwrap(mesh, settings.texture_size, check)]
    for share in LEVEL_SHARES[1 : settings.lods]:
        check()
        levels.append(coarser_level(levels[-1], round(share * len(levels[0].faces)), settings.texture_size))
    return levels


def _mesh_moved(mesh: Mesh, device: str) -> Mesh:
    return Mesh(mesh.vertices.to(device), mesh.faces.to(device))


def _level_moved(level: UnwrappedMesh, device: str) -> UnwrappedMesh:
    return UnwrappedMesh(**{item.name: getattr(level, item.name).to(device) for item in dataclasses.fields(level)})


def write_baked(path: str | os.PathLike[str], baked: Baked, settings: BakeSettings) -> None:
    """Writes the GLB, in place: hand in a temporary name where a crash must not matter."""
    write_glb(path, baked.levels, baked.material, texture_format=settings.texture_format)


def bake_file(
    vxz: str | os.PathLike[str], glb: str | os.PathLike[str], settings: BakeSettings, progress: Progress
) -> dict[str, Any]:
    """Bakes an O-Voxel file into a GLB, in place, and returns its statistics.

    Raises:
        GenesisError: BAD_ASSET for an unreadable file, and as of `bake_voxels`.
        OSError: when the GLB cannot be written.
    """
    progress.started("mesh")
    baked = bake_voxels(read_vxz(vxz), settings, progress)
    write_baked(glb, baked, settings)
    progress.finished("bake")
    return baked.statistics()


def _check_values(voxels: OVoxel) -> None:
    if len(voxels.coords) == 0:
        raise GenesisError(ErrorCode.EMPTY_STRUCTURE, "The O-Voxel has no cells.", "Use one with a surface.")
    if voxels.attributes is None:
        raise GenesisError(ErrorCode.BAD_MESH, "The O-Voxel carries no colours to bake.", "Run the texture stage.")
    wrong = int((~torch.isfinite(voxels.attributes)).any(1).sum())
    if wrong:
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"{wrong} of the O-Voxel's cells have colours that are no numbers.", "Generate it again."
        )


def _moved(voxels: OVoxel, device: str) -> OVoxel:
    tensors = {item.name: getattr(voxels, item.name) for item in dataclasses.fields(voxels)}
    return OVoxel(**{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in tensors.items()})
