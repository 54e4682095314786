# SPDX-License-Identifier: Apache-2.0
"""New textures on a mesh that is there, from pictures (docs/spec/pipeline.md 13).

Unlike the published pipeline, the mesh stays what it is: texture coordinates, names, nodes, several materials, scale and
position are kept, and only textures are replaced. A mesh without usable coordinates is unwrapped, in its place and size.
Stages are saved and re-run as in `generate`; the mesh's file is part of the asset.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from genesis_server.assets import Asset
from genesis_server.assets.asset import StageWriter
from genesis_server.assets.keys import file_hash, stage_key
from genesis_server.assets.tensors import load_tensors, save_tensors
from genesis_server.bake.gltf_scene import GltfScene
from genesis_server.bake.read_gltf import read_glb
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.ovoxel.vxz import read_vxz, write_vxz
from genesis_server.pipeline.conditioning import Conditioning, encode
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.encode_mesh import decode_texture, encode_shape
from genesis_server.pipeline.latents import Latent, seeded, speed_key, stage_sampling
from genesis_server.pipeline.memory import OUT_OF_MEMORY_NOTE, retry_smaller
from genesis_server.pipeline.mesh_surface import MeshSurface
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.pipeline.progress import Progress
from genesis_server.pipeline.texture import sample_texture
from genesis_server.pipeline.thumbnail import MODEL_FILE, add_thumbnail
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event
from genesis_server.report.render import THREE_QUARTERS, render_views, write_png

STAGES = ("source", "cutout", "shape", "texture", "voxels", "mesh")
SOURCE_FILE = "source.glb"
SHAPE_FILE, TEXTURE_FILE, VOXELS_FILE = "shape.safetensors", "texture.safetensors", "ovoxel.vxz"
THUMBNAIL_SIZE = 256  # pixels


def texture_mesh(
    asset: Asset,
    mesh: Path | None,
    model: Model | None,
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool] = lambda: False,
    expected: Mapping[str, float] | None = None,
) -> None:
    """Bring an asset to the mesh with the textures that its pictures and settings ask for.

    Args:
        mesh: a GLB file; None for the one that the asset already holds.
        model: one with a shape encoder (`Model.load(..., config_file=texturing_configuration(id))`); None to bake again from
            the voxels as they are stored, with other bake settings.
        on_event: told of stages, steps and notes.
        cancelled: asked between steps.
        expected: seconds of each reported stage, for honest progress.

    Raises:
        GenesisError: BAD_MESH for a file that is no GLB or shows nothing, BAD_MODEL for a model without an encoder, and
            whatever else stops it; finished stages are kept.
    """
    run = _Texturing(asset, mesh, model)
    stages = run.stages()
    if model is None and asset.stage("voxels") is None:
        raise GenesisError(
            ErrorCode.BAD_ASSET, f"{asset.folder} has no finished textures to bake.", "Texture the mesh with a model first."
        )
    run.run(stages, Progress(_reported(stages), on_event, cancelled, expected))


def reported_texturing_stages(asset: Asset, mesh: Path | None, model: Model | None) -> list[str]:
    """The stages that `texture_mesh` would run, by the names under which progress is told.

    Raises:
        GenesisError: as `texture_mesh`, before work starts.
    """
    return _reported(_Texturing(asset, mesh, model).stages())


def _reported(stages: list[str]) -> list[str]:
    return ["bake" if stage == "mesh" else stage for stage in stages if stage != "source"]


def check_mesh(mesh: Path) -> None:
    """Refuse a file that `texture_mesh` could not use.

    Raises:
        GenesisError: BAD_MESH.
    """
    MeshSurface(GltfScene.read(mesh))


def is_textured_mesh(asset: Asset) -> bool:
    """Whether an asset was made by `texture_mesh` and not by `generate`."""
    return asset.stage("source") is not None


class _Texturing:
    """One run over an asset, holding what later stages can use without reading it again."""

    def __init__(self, asset: Asset, mesh: Path | None, model: Model | None) -> None:
        if mesh is None and not is_textured_mesh(asset):
            raise GenesisError(ErrorCode.BAD_ASSET, f"{asset.folder} holds no mesh to texture.", "Name the mesh's file.")
        self.asset, self.model, self.settings = asset, model, asset.settings
        self.file = mesh or asset.path(SOURCE_FILE)
        self.surface = MeshSurface(GltfScene.read(self.file))  # refused before anything is written
        self.plan = model.texture_plan(self.settings.resolution) if model is not None else None
        self._voxels: OVoxel | None = None
        self._shape: Latent | None = None

    def stages(self) -> list[str]:
        """The stages that would run: all from the first one whose key differs."""
        wanted = self._keys()
        looked_at = STAGES if self.model is not None else STAGES[-1:]
        for index, stage in enumerate(looked_at):
            record = self.asset.stage(stage)
            if record is None or record.key != wanted[stage]:
                return list(looked_at[index:])
        return []

    def run(self, stages: list[str], progress: Progress) -> None:
        self.progress = progress
        if self.model is not None:
            self.model.prepare(self.plan)
            self.asset.made_with(self.model.identity)
        keys = self._keys()
        steps: Mapping[str, Callable[[StageWriter], None]] = {
            "source": lambda writer: shutil.copyfile(self.file, writer.file(SOURCE_FILE)),
            "cutout": self._cut_out,
            "shape": self._encode,
            "texture": self._sample,
            "voxels": self._decode,
            "mesh": self._bake,
        }
        for stage in stages:
            told = "bake" if stage == "mesh" else stage
            if stage != "source":
                progress.started(told)
            with self.asset.replacing(stage, keys[stage]) as writer:
                retry_smaller(partial(steps[stage], writer), partial(self._smaller, told))
            if stage != "source":
                progress.finished(told)

    def _smaller(self, stage: str) -> bool:
        """Arrange to need less of the GPU's memory; every stage draws its noise anew."""
        if self.model is None or not self.model.save_memory():
            return False
        self.progress.note(stage, OUT_OF_MEMORY_NOTE)
        return True

    def _keys(self) -> dict[str, str]:
        keys: dict[str, str] = {}
        if self.model is None:
            keys = {stage: record.key if (record := self.asset.stage(stage)) else "" for stage in STAGES[:-1]}
        else:
            settings, above = self.settings, ""
            ingredients = {
                "source": {"mesh": file_hash(self.file)},
                "cutout": {
                    "pictures": self.asset.input_hashes,
                    "background": self.asset.backgrounds,
                    "model": self.model.remover_name,
                },
                "shape": {"model": self.model.identity, "resolution": self.plan.resolution},
                "texture": {
                    "precision": settings.texture_precision,
                    **speed_key(settings),
                    "seed": self._seed(),
                    "multi_view": settings.multi_view,
                    **settings.texture.overrides(),
                },
                "voxels": {},
            }
            for stage in STAGES[:-1]:
                above = keys[stage] = stage_key(stage, ingredients[stage], above)
        keys["mesh"] = stage_key("mesh", dataclasses.asdict(self.settings.bake), keys["voxels"])
        return keys

    def _seed(self) -> int:
        return self.settings.seed if self.settings.texture_seed is None else self.settings.texture_seed

    def _cut_out(self, writer: StageWriter) -> None:
        for index, path in enumerate(self.asset.inputs):
            name = f"Picture {index + 1}" if len(self.asset.inputs) > 1 else "The picture"
            cutout = cut_out(load_picture(path), self.asset.backgrounds[index], self.model.remover(), name)
            cutout.picture.save(writer.file(f"cutout_{index}.png"))
            if "no weights" in cutout.background:
                self.progress.note("cutout", f"{name}: background removed by {cutout.background}.")

    def _encode(self, writer: StageWriter) -> None:
        self._shape = encode_shape(self.model, self._mesh_voxels())
        _save(self._shape, writer, SHAPE_FILE)

    def _sample(self, writer: StageWriter) -> None:
        shape = self._shape or _load(self.asset, SHAPE_FILE)
        sampling = stage_sampling(self.model.config, self.settings, "texture", partial(self.progress.step, "texture"))
        texture = sample_texture(self.model, self.plan, shape, [self._tokens()], seeded(self._seed()), sampling)
        _save(texture, writer, TEXTURE_FILE)

    def _decode(self, writer: StageWriter) -> None:
        voxels = decode_texture(self.model, _load(self.asset, TEXTURE_FILE), self._mesh_voxels())
        write_vxz(writer.file(VOXELS_FILE), voxels, compression="deflate", level=1)
        writer.statistics.update(voxels=len(voxels.coords), resolution=voxels.resolution)

    def _bake(self, writer: StageWriter) -> None:
        surface, settings = self.surface, self.settings.bake
        voxels = read_vxz(self.asset.path(VOXELS_FILE))
        if not surface.has_uvs:
            self.progress.note("bake", "The mesh has no usable texture coordinates; it was unwrapped.")
        surface.write(writer.file(MODEL_FILE), voxels, settings, partial(self.progress.step, "bake"))
        add_thumbnail(writer, self.progress, "bake", _picture)
        writer.statistics.update(faces=len(surface.mesh.faces), texture_size=settings.texture_size, own_uvs=surface.has_uvs)

    def _mesh_voxels(self) -> OVoxel:
        """The mesh's voxels, without attributes; the same every time."""
        if self._voxels is None:
            self._voxels = voxelize_mesh(self.surface.mesh, self.plan.resolution)
        return self._voxels

    def _cutouts(self) -> list[Image.Image]:
        return [Image.open(self.asset.path(f"cutout_{index}.png")) for index in range(len(self.asset.inputs))]

    def _tokens(self) -> Conditioning:
        with self.model.network(ENCODER) as encoder:
            return encode(encoder, self._cutouts(), self.plan.texture.image_size, self.model.config.framing)


def _picture(glb: Path, png: Path) -> None:
    """A thumbnail of a mesh wherever it stands: the renderer looks at the origin."""
    model = read_glb(glb)
    low, high = model.vertices.min(0), model.vertices.max(0)
    centred = (model.vertices - (low + high) / 2) / max(float((high - low).max()), 1e-30)
    write_png(png, render_views(dataclasses.replace(model, vertices=centred), [THREE_QUARTERS], THUMBNAIL_SIZE)[0])


def _save(latent: Latent, writer: StageWriter, name: str) -> None:
    save_tensors(writer.file(name), {"coords": latent.coords, "feats": latent.feats}, {"resolution": str(latent.resolution)})
    writer.statistics.update(cells=len(latent.coords), resolution=latent.resolution)


def _load(asset: Asset, name: str) -> Latent:
    tensors, notes = load_tensors(asset.path(name), ("coords", "feats"))
    return Latent(tensors["coords"], tensors["feats"], int(notes["resolution"]))
