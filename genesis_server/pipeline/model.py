# SPDX-License-Identifier: Apache-2.0
"""A model: its configuration, its networks by role, loaded when first used (docs/spec/pipeline.md 3, 10).

On a GPU a memory plan decides which networks stay there, which come for their use, and which pass through block by block
(`genesis_server.pipeline.memory`); results are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import nn

from genesis_server.hub.locate import REMOVER_VARIABLE, find_checkpoint, find_remover, open_source
from genesis_server.networks.float8 import use_float8
from genesis_server.networks.registry import check_checkpoint, load_checkpoint
from genesis_server.networks.residence import HostCopy, let_go
from genesis_server.pipeline.background import BackgroundRemover, NetworkRemover, PlainRemover, Removal
from genesis_server.pipeline.config import CONFIG_FILE, TEXTURING_CONFIG_FILE, ModelConfig
from genesis_server.pipeline.device import choose_device
from genesis_server.pipeline.memory import (
    BUDGET_VARIABLE,
    EXACT,
    FAST,
    LADDER,
    PUBLISHED,
    MemoryPlan,
    Network,
    Rung,
    Work,
    device_budget,
    expected_cells,
)
from genesis_server.pipeline.model_files import (
    ENCODER_FILES,
    check_encoder,
    find_encoder,
    find_pair,
    load_encoder,
    load_remover,
    read_architecture,
)
from genesis_server.pipeline.plan import MAX_TOKENS, Plan, TexturePlan, make_plan, make_texture_plan, pipeline_types
from genesis_server.pipeline.velocity import PAIRED_TOKENS
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext.float8_product import has_float8

ENCODER = "image_cond_model"
STRUCTURE_FLOW, STRUCTURE_DECODER = "sparse_structure_flow_model", "sparse_structure_decoder"
SHAPE_ENCODER, SHAPE_DECODER, TEXTURE_DECODER = "shape_slat_encoder", "shape_slat_decoder", "tex_slat_decoder"
REMOVER = "rembg_model"

_PATCH, _OTHER_TOKENS = 16, 5  # of the image encoder: pixels of a patch, class and register tokens

Loader = Callable[..., nn.Module]  # of a device, and for checkpoints `dtype`


class Use(NamedTuple):
    """A network ready to run, and how it is to be run."""

    network: nn.Module
    rung: Rung


class Model:
    """Networks and constants of one model.

    Args:
        identity: id and revision or fingerprint; part of every stage key.
        config: its configuration.
        architectures: constructor arguments of each role's network, as its checkpoint states them.
        loaders: how to load each role's network onto a device; `image_cond_model` is the encoder, `rembg_model` the
            background remover where one is at hand.
        device: where networks compute.
        low_vram: overrides the configuration's; on a GPU, True keeps no network there between its uses.
        remover_name: of the background remover's weights; empty for none.
        weights: bytes of each role's weights; without them a GPU's memory is not planned.
        budget: bytes of GPU memory; None for no limit.
    """

    def __init__(
        self,
        identity: str,
        config: ModelConfig,
        architectures: Mapping[str, Mapping[str, Any]],
        loaders: Mapping[str, Loader],
        device: torch.device | str = "cpu",
        low_vram: bool | None = None,
        remover_name: str = "",
        weights: Mapping[str, int] | None = None,
        budget: int | None = None,
    ) -> None:
        self.identity = identity
        self.config = config
        self.device = torch.device(device)
        self.low_vram = config.low_vram if low_vram is None else low_vram
        self.remover_name = remover_name
        self._architectures = architectures
        self._loaders = loaders
        self._loaded: dict[str, nn.Module] = {}
        known = {role: Network(architectures.get(role, {}), size) for role, size in (weights or {}).items()}
        self.memory = MemoryPlan(known, budget)
        if low_vram:
            self.memory.step_down()

    @classmethod
    def load(cls, model_id: str, device: torch.device | str | None = None, config_file: str = CONFIG_FILE) -> Model:
        """The model of an id (`mini`, a folder, a downloaded Hub id); its networks are read when first used.

        Args:
            device: default the GPU where there is one, else the CPU for models that are small enough.
            config_file: `pipeline.json` or `texturing_pipeline.json`.

        Raises:
            GenesisError: MODEL_MISSING naming the file that is not here, BAD_MODEL for a damaged configuration, GPU_UNUSABLE
                for a large model without a GPU.
        """
        source = open_source(model_id)
        config = ModelConfig.read(source.require(config_file))
        # encoders of latents serve training and the texturing of given meshes; a folder may come without them
        wanted = (
            item for item in config.models.items() if not item[0].endswith("_encoder") or find_checkpoint(source, item[1])
        )
        pairs = {role: find_pair(source, value) for role, value in wanted}
        encoder = find_encoder(source, config.encoder)
        for _, weights in pairs.values():
            check_checkpoint(weights.with_suffix(""))  # before any work is done with another one of them
        architectures = {role: read_architecture(path) for role, (path, _) in pairs.items()}
        widths = [args["cond_channels"] for args in architectures.values() if "cond_channels" in args]
        values = check_encoder(encoder, widths[0] if widths else None)
        used = [path for pair in pairs.values() for path in pair] + [encoder / name for name in ENCODER_FILES]
        sizes = {role: weights.stat().st_size for role, (_, weights) in pairs.items()}
        device = choose_device(sum(sizes.values()), source.id) if device is None else torch.device(device)
        loaders: dict[str, Loader] = {
            role: partial(load_checkpoint, weights.with_suffix(""), computes_on=device) for role, (_, weights) in pairs.items()
        }
        loaders[ENCODER] = partial(load_encoder, encoder)
        remover = find_remover(os.environ.get(REMOVER_VARIABLE, "") or config.remover)
        if remover is not None:
            loaders[REMOVER] = partial(load_remover, remover[1])
        return cls(
            source.identity([source.require(config_file), *used]),
            config,
            architectures,
            loaders,
            device,
            remover_name=remover[0] if remover else "",
            weights={**sizes, ENCODER: 6 * values},  # float32, and rounded copies
            budget=device_budget(device, os.environ.get(BUDGET_VARIABLE, "")),
        )

    def architecture(self, role: str) -> Mapping[str, Any]:
        """Constructor arguments of a role's network.

        Raises:
            GenesisError: BAD_MODEL when the model has no such network.
        """
        if role not in self._architectures:
            raise GenesisError(ErrorCode.BAD_MODEL, f"The model has no {role}.", f"It has {', '.join(self._architectures)}.")
        return self._architectures[role]

    def plan(self, pipeline_type: str | None = None) -> Plan:
        """What a pipeline type (None: the model's default) runs on this model."""
        levels = len(self.architecture(SHAPE_DECODER)["model_channels"])
        return make_plan(
            pipeline_type or self.config.default_type, self._architectures, 2 ** (levels - 1), self.config.image_size
        )

    def texture_plan(self, pipeline_type: str | None = None) -> TexturePlan:
        """What texturing a given mesh runs at the resolution of a pipeline type (None: the model's default).

        Raises:
            GenesisError: BAD_MODEL when the model has no shape encoder, BAD_PARAMETER for a type without a resolution.
        """
        levels = len(self.architecture(SHAPE_ENCODER)["model_channels"])
        return make_texture_plan(
            pipeline_type or self.config.default_type, self._architectures, 2 ** (levels - 1), self.config.image_size
        )

    def prepare(self, plan: Plan | TexturePlan) -> int:
        """Decide how a whole run is to fit the device, before it begins.

        Returns:
            The predicted peak in bytes; 0 where nothing is planned.

        Raises:
            GenesisError: OUT_OF_MEMORY when it cannot fit, saying what it needs and what would fit.
        """
        textures = isinstance(plan, TexturePlan)
        if self.device.type != "cuda" or (SHAPE_ENCODER if textures else SHAPE_DECODER) not in self._architectures:
            return 0
        uses = self._texture_uses(plan) if textures else self._uses(plan)
        self.memory.expect({*uses, ENCODER, *([] if textures else [STRUCTURE_DECODER]), *self._loaded})
        # the encoder, of which nothing was measured, refuses no one: it may need less than is thought
        sure = {role: work for role, work in uses.items() if role != SHAPE_ENCODER}
        what = f"Texturing at {plan.resolution}" if textures else plan.type
        peak = self.memory.require(sure, what, lambda: "Choose a lower resolution." if textures else self._smaller(plan))
        if not all(self.memory.rung(role, work).resident for role, work in uses.items()):
            self.memory.floor = max(self.memory.floor, 1)  # networks that would have to go again need not stay first
        return peak

    @contextmanager
    def use(self, role: str, work: Work | None = None, precision: str = PUBLISHED) -> Iterator[Use]:
        """A role's network on the device, for the length of a `with` block, and how it is to be run.

        Args:
            work: what it is about to do; None for little.
            precision: of a flow network on a GPU: PUBLISHED, EXACT (float32), or FAST (8-bit products, where it has them).
        """
        if role not in self._loaders:
            raise GenesisError(ErrorCode.BAD_MODEL, f"The model has no {role}.", f"It has {', '.join(self._loaders)}.")
        role, load = self._variant(role, precision)
        if self.device.type != "cuda":
            if role not in self._loaded:
                self._loaded[role] = load(self.device)
            yield from self._use_on_host(self._loaded[role])
            return
        planned = work is not None and self.memory.knows(role)
        rung = self.memory.rung(role, work) if planned else LADDER[min(self.memory.floor, 1)]
        if rung.resident:
            if role not in self._loaded:
                self._loaded[role] = load(self.device)
            yield Use(self._loaded[role], rung)
            return
        here = self._loaded.pop(role, None)
        self._let_go(list(self._loaded))
        streamed = rung.stream and self.memory.network(role).is_flow
        network = here or load(torch.device("cpu") if streamed and precision != FAST else self.device)
        try:
            with HostCopy(network, self.device).streamed() if streamed else nullcontext():
                yield Use(network, rung)
        finally:
            let_go(network)
            torch.cuda.empty_cache()  # what the next network needs has other sizes

    @contextmanager
    def network(self, role: str) -> Iterator[nn.Module]:
        """`use` for work that needs little memory beside the weights."""
        with self.use(role) as used:
            yield used.network

    def save_memory(self) -> bool:
        """After memory ran out: run in the next smaller way from now on; False when there is none."""
        return self.device.type == "cuda" and self.memory.step_down()

    def make_room(self, needed: int) -> None:
        """Before work on the device that is no network's: as many networks as stand in its way are let go, the largest first.

        Args:
            needed: bytes.
        """
        if self.device.type != "cuda" or self.memory.budget is None:
            return
        staying = {role: self.memory.network(role).weights for role in self._loaded if self.memory.knows(role)}
        while staying and sum(staying.values()) + needed > self.memory.budget:
            role = max(staying, key=lambda name: staying[name])
            del staying[role]
            self._let_go([role])
        torch.cuda.empty_cache()

    def _let_go(self, roles: list[str]) -> None:
        """Take networks off the device; they are read from their files again when they are next used."""
        for role in roles:
            let_go(self._loaded.pop(role))

    def _variant(self, role: str, precision: str) -> tuple[str, Loader]:
        """Name under which a network in some precision is kept and counted, and how it is loaded."""
        load = self._loaders[role]
        if self.device.type != "cuda" or precision == PUBLISHED or (precision == FAST and not has_float8(self.device)):
            return role, load
        name = f"{role} {precision}"
        if self.memory.knows(role):
            known = self.memory.network(role)
            self.memory.add(name, known.doubled() if precision == EXACT else known.in_float8())
        if precision == EXACT:
            return name, partial(load, dtype=torch.float32)
        return name, lambda device: use_float8(load(device))

    def _use_on_host(self, network: nn.Module) -> Iterator[Use]:
        if not self.low_vram:
            yield Use(network, Rung())
            return
        network.to(self.device)
        try:
            yield Use(network, Rung())
        finally:
            network.cpu()

    def _uses(self, plan: Plan) -> dict[str, Work]:
        """Every network of a run with what it can be expected to do."""
        size = self.architecture(STRUCTURE_FLOW)["resolution"]
        uses = {STRUCTURE_FLOW: Work(size**3, _image_tokens(plan.structure_size), 2)}
        last = 0
        for item in plan.shape:
            resolution = plan.resolution if item is plan.shape[-1] else item.resolution
            last = expected_cells(resolution // plan.ratio)
            if len(plan.shape) > 1 and resolution > item.resolution:
                last = min(last, MAX_TOKENS)
            uses[item.role] = Work(last, _image_tokens(item.image_size), 2 if last <= PAIRED_TOKENS else 1)
        uses[plan.texture.role] = Work(last, _image_tokens(plan.texture.image_size))
        uses[SHAPE_DECODER] = uses[TEXTURE_DECODER] = Work(last)
        return uses

    def _texture_uses(self, plan: TexturePlan) -> dict[str, Work]:
        """The same for texturing a given mesh, which has as many cells as an object made at that resolution."""
        cells = expected_cells(plan.resolution // plan.ratio)
        texture = Work(cells, _image_tokens(plan.texture.image_size))
        return {SHAPE_ENCODER: Work(cells), plan.texture.role: texture, TEXTURE_DECODER: Work(cells)}

    def _smaller(self, plan: Plan) -> str:
        """What would fit instead of a plan, in words."""
        fitting = []
        for name in pipeline_types(self._architectures):
            other = self.plan(name)
            least = self.memory.least(self._uses(other))
            if other.resolution < plan.resolution and least <= (self.memory.budget or 0):
                fitting.append(f"{name} (needs {least / 1e9:.1f} GB)")
        return f"Choose the resolution {' or '.join(fitting)}." if fitting else ""

    def remover(self) -> BackgroundRemover:
        """What removes backgrounds: a segmentation network where one is at hand, else plain image processing."""
        return _LazyRemover(self) if REMOVER in self._loaders else PlainRemover()


def _image_tokens(size: int) -> int:
    return _OTHER_TOKENS + (size // _PATCH) ** 2


def texturing_configuration(model_id: str) -> str:
    """The configuration file with which a model textures given meshes: its own for that, else the general one."""
    return TEXTURING_CONFIG_FILE if open_source(model_id).find(TEXTURING_CONFIG_FILE) else CONFIG_FILE


class _LazyRemover:
    """The model's segmentation network, loaded for the first picture that needs it."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def remove(self, picture: Image.Image) -> Removal:
        """RGB to RGBA."""
        with self._model.network(REMOVER) as network:
            return NetworkRemover(self._model.remover_name, network, self._model.device).remove(picture)
