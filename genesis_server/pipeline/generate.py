# SPDX-License-Identifier: Apache-2.0
"""The spine: run those stages of an asset whose key has changed, each saved before the next begins (docs/architecture.md).

One call serves everything: a first generation, resuming one that stopped, another texture on the same shape, a re-bake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import torch
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.assets.asset import StageWriter
from genesis_server.assets.keys import file_hash, stage_key
from genesis_server.assets.tensors import load_tensors, save_tensors
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.networks.dual_grid_vae import DualGridVoxels
from genesis_server.ovoxel.vxz import read_vxz, write_vxz
from genesis_server.pipeline.bake import bake_voxels, layout_settings, read_levels, write_baked
from genesis_server.pipeline.conditioning import Conditioning, encode
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.decode import decode, decode_shape
from genesis_server.pipeline.latents import Latent, Sampling, Structure, seeded, speed_key, stage_sampling
from genesis_server.pipeline.memory import BAKE_BYTES_PER_VOXEL, EXACT, OUT_OF_MEMORY_NOTE, retry_smaller
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.pipeline.outline import fitted
from genesis_server.pipeline.picture import load_picture
from genesis_server.pipeline.plan import Plan
from genesis_server.pipeline.preview import mesh_preview, voxel_preview
from genesis_server.pipeline.progress import Progress
from genesis_server.pipeline.shape import sample_shape, skip_shape_noise
from genesis_server.pipeline.structure import sample_structure, structure_noise
from genesis_server.pipeline.texture import sample_texture
from genesis_server.pipeline.thumbnail import MODEL_FILE, add_thumbnail
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import Event
from genesis_server.protocol.messages import Preview
from genesis_server.protocol.parameters import GenerateSettings

STAGES = ("cutout", "structure", "shape", "texture", "voxels", "mesh")
STRUCTURE_FILE, SHAPE_FILE, TEXTURE_FILE = "structure.safetensors", "shape.safetensors", "texture.safetensors"
VOXELS_FILE = "ovoxel.vxz"


def generate(
    asset: Asset,
    model: Model | None,
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool] = lambda: False,
    expected: Mapping[str, float] | None = None,
    on_preview: Callable[[Preview], None] | None = None,
) -> None:
    """Bring an asset to what its settings ask for.

    Args:
        model: None to make only mesh and textures anew, from the O-Voxel as it is stored; no weights are needed then.
        on_event: told of stages, steps and notes.
        cancelled: asked between steps.
        expected: seconds of each reported stage, for honest progress.
        on_preview: shown the structure and the bare shape as soon as they are there.

    Raises:
        GenesisError: CANCELLED, EMPTY_STRUCTURE, NO_FOREGROUND, DISK_FULL and whatever else stops it; every
            stage finished until then is kept, and the next call goes on after it.
    """
    stages = stages_to_run(asset, model)
    if model is None and asset.stage("voxels") is None:
        raise GenesisError(
            ErrorCode.BAD_ASSET,
            f"{asset.folder} has no finished O-Voxel to bake.",
            "Generate the asset first.",
        )
    progress = Progress(reported_stages(asset, model), on_event, cancelled, expected)
    _Generation(asset, model, progress, on_preview).run(stages)


def reported_stages(asset: Asset, model: Model | None) -> list[str]:
    """`stages_to_run` by the names under which progress is told: the bake is one of its own."""
    return [name for stage in stages_to_run(asset, model) for name in ((stage, "bake") if stage == "mesh" else (stage,))]


def stages_to_run(asset: Asset, model: Model | None) -> list[str]:
    """The stages that `generate` would run: all from the first one whose key differs.

    Without a model only the mesh is looked at; the stages above it are taken as they are.
    """
    wanted = wanted_keys(asset, model)
    looked_at = STAGES if model is not None else STAGES[-1:]
    for index, stage in enumerate(looked_at):
        record = asset.stage(stage)
        if record is None or record.key != wanted[stage]:
            return list(looked_at[index:])
    return []


def wanted_keys(asset: Asset, model: Model | None) -> dict[str, str]:
    """Key of every stage under the asset's present settings.

    A sampler's own defaults are not spelled out: they belong to the model, whose identity is part of the keys.
    """
    settings = asset.settings
    keys: dict[str, str] = {}
    if model is None:
        keys = {stage: record.key if (record := asset.stage(stage)) else "" for stage in STAGES[:-1]}
    else:
        pictures = [file_hash(path) for path in asset.inputs]
        # another background remover matters only to pictures without alpha of their own
        choices = asset.backgrounds
        asked = any(
            choice == "remove" or (choice == "auto" and Image.open(path).mode != "RGBA")
            for path, choice in zip(asset.inputs, choices, strict=True)
        )
        remover = model.remover_name if asked else ""
        ingredients = {
            "cutout": {"pictures": pictures, "background": choices, "remover": remover},
            "structure": {
                "model": model.identity,
                "seed": settings.seed,
                "resolution": settings.resolution,
                "multi_view": settings.multi_view if len(pictures) > 1 else "",
                **settings.structure.overrides(),
            },
            "shape": {**speed_key(settings), **settings.shape.overrides()},
            "texture": {
                "seed": settings.texture_seed,
                **({"precision": EXACT} if settings.texture_precision == EXACT else {}),
                **settings.texture.overrides(),
            },
            "voxels": {},
        }
        above = ""
        for stage in STAGES[:-1]:
            above = keys[stage] = stage_key(stage, ingredients[stage], above)
    keys["mesh"] = stage_key("mesh", dataclasses.asdict(settings.bake), keys["voxels"])
    return keys


class _Generation:
    """One run over an asset, holding what later stages can use without reading it again."""

    def __init__(
        self, asset: Asset, model: Model | None, progress: Progress, on_preview: Callable[[Preview], None] | None = None
    ) -> None:
        self.asset, self.model, self.progress, self.on_preview = asset, model, progress, on_preview
        self.settings: GenerateSettings = asset.settings
        self.plan: Plan | None = None
        self._generator: torch.Generator | None = None
        self._conditionings: list[Conditioning] = []
        self._structure: Structure | None = None
        self._shape: Latent | None = None
        self._texture: Latent | None = None
        self._decoded: DualGridVoxels | None = None

    def run(self, stages: list[str]) -> None:
        if self.model is not None:
            self.plan = self.model.plan(self.settings.resolution)
            self.model.prepare(self.plan)
            self.asset.made_with(self.model.identity)
        keys = wanted_keys(self.asset, self.model)
        steps = {
            "cutout": self._cut_out,
            "structure": self._sample_structure,
            "shape": self._sample_shape,
            "texture": self._sample_texture,
            "voxels": self._decode,
            "mesh": self._make_mesh,
        }
        for stage in stages:
            self.progress.started(stage)
            with self.asset.replacing(stage, keys[stage]) as writer:
                self._run(stage, partial(steps[stage], writer))
            self.progress.finished("bake" if stage == "mesh" else stage)
            if self.on_preview is not None:
                self._show(stage)

    def _run(self, stage: str, step: Callable[[], None]) -> None:
        """A stage; where the GPU's memory runs out, the same again in the next smaller way, from the same noise."""
        state = None if self._generator is None else self._generator.get_state()

        def smaller() -> bool:
            if self.model is None or not self.model.save_memory():
                return False
            if state is not None:
                self._generator.set_state(state)
            self.progress.note(stage, OUT_OF_MEMORY_NOTE)
            return True

        retry_smaller(step, smaller)

    def _show(self, stage: str) -> None:
        if stage == "structure":
            self.on_preview(voxel_preview(self._structure))
        elif stage == "shape":
            decoded = decode_shape(self.model, self._shape)
            if (preview := mesh_preview(decoded, self._shape.resolution)) is not None:
                self.on_preview(preview)
            self._decoded = None if self.model.low_vram else decoded  # wanted after the texture, if there is room to keep it

    def _cut_out(self, writer: StageWriter) -> None:
        methods = []
        for index, path in enumerate(self.asset.inputs):
            name = f"Picture {index + 1}" if len(self.asset.inputs) > 1 else "The picture"
            cutout = cut_out(load_picture(path), self.asset.backgrounds[index], self.model.remover(), name)
            cutout.picture.save(writer.file(f"cutout_{index}.png"))
            methods.append(cutout.background)
            if "no weights" in cutout.background:
                self.progress.note("cutout", f"{name}: background removed by {cutout.background}.")
        writer.statistics["background"] = methods

    def _sample_structure(self, writer: StageWriter) -> None:
        self._generator = seeded(self.settings.seed)
        self._structure = sample_structure(self.model, self.plan, self._tokens(), self._generator, self._sampling("structure"))
        notes = {"resolution": str(self._structure.resolution)}
        save_tensors(writer.file(STRUCTURE_FILE), {"coords": self._structure.coords}, notes)
        writer.statistics.update(cells=len(self._structure.coords), resolution=self._structure.resolution)

    def _sample_shape(self, writer: StageWriter) -> None:
        structure = self._known_structure()
        if self._generator is None:
            self._generator = seeded(self.settings.seed)
            structure_noise(self.model, self._generator)
        self._shape = sample_shape(
            self.model,
            self.plan,
            structure,
            self._tokens(),
            self._generator,
            self._sampling("shape"),
        )
        _save_latent(self._shape, writer, SHAPE_FILE)
        if self._shape.resolution < self.plan.resolution:
            text = f"The object is too detailed for {self.plan.resolution}; its resolution is {self._shape.resolution}."
            self.progress.note("shape", text)

    def _sample_texture(self, writer: StageWriter) -> None:
        shape = self._known_shape()
        self._texture = sample_texture(
            self.model,
            self.plan,
            shape,
            self._tokens(),
            self._texture_generator(shape),
            self._sampling("texture"),
        )
        _save_latent(self._texture, writer, TEXTURE_FILE)

    def _texture_generator(self, shape: Latent) -> torch.Generator:
        """A new one for a texture seed, else the asset's own, advanced over what the stages before drew."""
        if self.settings.texture_seed is not None:
            return seeded(self.settings.texture_seed)
        if self._generator is None:
            self._generator = seeded(self.settings.seed)
            structure_noise(self.model, self._generator)
            skip_shape_noise(self.model, self.plan, self._known_structure(), shape, self._generator)
        return self._generator

    def _decode(self, writer: StageWriter) -> None:
        texture = self._texture or _load_latent(self.asset, TEXTURE_FILE)
        voxels = decode(self.model, self._known_shape(), texture, self._decoded)[0]
        voxels = fitted(voxels, Image.open(self._cutouts()[0]), self.model.config.framing)
        self._structure = self._shape = self._texture = self._decoded = None
        write_vxz(writer.file(VOXELS_FILE), voxels, compression="deflate", level=1)  # a third larger, in half the time
        writer.statistics.update(voxels=len(voxels.coords), resolution=voxels.resolution)

    def _make_mesh(self, writer: StageWriter) -> None:
        bake, voxels = self.settings.bake, read_vxz(self.asset.path(VOXELS_FILE))
        if self.model is not None:
            self.model.make_room(BAKE_BYTES_PER_VOXEL * len(voxels.coords))
        layout = stage_key("layout", layout_settings(bake), wanted_keys(self.asset, self.model)["voxels"])
        baked = bake_voxels(voxels, bake, self.progress, levels=self._known_levels(layout))
        write_baked(writer.file(MODEL_FILE), baked, bake)
        add_thumbnail(writer, self.progress, "bake")
        writer.statistics.update(baked.statistics(), layout=layout)

    def _known_levels(self, layout: str) -> list[UnwrappedMesh]:
        """The meshes of the GLB that is there, where only its textures are to change."""
        before = self.asset.stage("mesh")
        if before is None or before.statistics.get("layout") != layout:
            return []
        try:
            return read_levels(self.asset.path(MODEL_FILE), self.settings.bake.lods)
        except GenesisError:
            return []  # it is made anew

    def _sampling(self, stage: str) -> Sampling:
        return stage_sampling(self.model.config, self.settings, stage, partial(self.progress.step, stage))

    def _tokens(self) -> list[Conditioning]:
        """Image tokens at every picture size of the plan, made when the first sampled stage asks."""
        if not self._conditionings:
            cutouts = [Image.open(path) for path in self._cutouts()]
            with self.model.network(ENCODER) as encoder:
                framing = self.model.config.framing
                self._conditionings = [encode(encoder, cutouts, size, framing) for size in self.plan.image_sizes]
        return self._conditionings

    def _cutouts(self) -> list:
        return [self.asset.path(f"cutout_{index}.png") for index in range(len(self.asset.inputs))]

    def _known_structure(self) -> Structure:
        if self._structure is None:
            tensors, notes = load_tensors(self.asset.path(STRUCTURE_FILE), ("coords",))
            self._structure = Structure(tensors["coords"], int(notes["resolution"]))
        return self._structure

    def _known_shape(self) -> Latent:
        if self._shape is None:
            self._shape = _load_latent(self.asset, SHAPE_FILE)
        return self._shape


def _save_latent(latent: Latent, writer: StageWriter, name: str) -> None:
    save_tensors(writer.file(name), {"coords": latent.coords, "feats": latent.feats}, {"resolution": str(latent.resolution)})
    writer.statistics.update(cells=len(latent.coords), resolution=latent.resolution)


def _load_latent(asset: Asset, name: str) -> Latent:
    tensors, notes = load_tensors(asset.path(name), ("coords", "feats"))
    return Latent(tensors["coords"], tensors["feats"], int(notes["resolution"]))
