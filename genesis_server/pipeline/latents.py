# SPDX-License-Identifier: Apache-2.0
"""What passes between the sampled stages, and the noise they start from (docs/spec/pipeline.md 8, 12)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genesis_server.networks.flow_transformer import ProjectedContext
from genesis_server.pipeline.conditioning import Conditioning
from genesis_server.pipeline.memory import EXACT, FAST, PUBLISHED, Work
from genesis_server.pipeline.samplers import STOCHASTIC, OnStep, SamplerParameters, sample_flow
from genesis_server.pipeline.velocity import PAIRED_TOKENS, NetworkVelocity
from genesis_server.sparse.tensor import Level

if TYPE_CHECKING:
    from genesis_server.pipeline.config import ModelConfig
    from genesis_server.pipeline.model import Use
    from genesis_server.protocol.parameters import GenerateSettings


@dataclass(frozen=True)
class Structure:
    """Where the object is.

    Attributes:
        coords: int32 `[T, 4]`, (sample, x, y, z), lexicographic.
        resolution: cells per axis.
    """

    coords: Tensor
    resolution: int


@dataclass(frozen=True)
class Latent:
    """A structured latent as the decoders read it.

    Attributes:
        coords: int32 `[T, 4]`, (sample, x, y, z), on the latent grid.
        feats: float32 `[T, C]`, raw (denormalised).
        resolution: voxels per axis of what it decodes to.
    """

    coords: Tensor
    feats: Tensor
    resolution: int


@dataclass(frozen=True)
class Sampling:
    """How a stage is to be sampled.

    Attributes:
        parameters: of the stage's sampler.
        multi_view: `stochastic` or `multidiffusion`.
        on_step: told of every step; may raise to stop.
        precision: of the network (`pipeline.model`).
    """

    parameters: SamplerParameters
    multi_view: str = STOCHASTIC
    on_step: OnStep | None = None
    precision: str = PUBLISHED

    def part(self, index: int, count: int) -> Sampling:
        """The same for run `index` of `count` of one stage, its steps counted through."""
        if self.on_step is None or count == 1:
            return self
        tell = self.on_step
        return dataclasses.replace(self, on_step=lambda step, steps: tell(index * steps + step, count * steps))


def stage_sampling(config: ModelConfig, settings: GenerateSettings, stage: str, on_step: OnStep) -> Sampling:
    """How an asset's settings want a stage sampled.

    Structure is always as published: it takes the least time, and its cells decide everything after it.
    """
    parameters = config.samplers[stage].replace(getattr(settings, stage).overrides())
    hurried = settings.speed != "published" and stage != "structure"
    parameters = parameters.replace({"merge_late": hurried})
    precision = FAST if hurried and settings.speed == "fastest" else PUBLISHED
    if stage == "texture" and settings.texture_precision == EXACT:
        precision = EXACT
    return Sampling(parameters, settings.multi_view, on_step, precision)


def speed_key(settings: GenerateSettings) -> dict[str, str]:
    """What the choice of speed adds to the key of a sampled stage: nothing where all is as published."""
    return {} if settings.speed == "published" else {"speed": settings.speed}


def seeded(seed: int) -> torch.Generator:
    """A private generator that gives the numbers of the published `torch.manual_seed`; always on the CPU."""
    return torch.Generator("cpu").manual_seed(seed)


def draw_noise(generator: torch.Generator, *shape: int) -> Tensor:
    """Float32 noise on the CPU, so that it does not depend on the GPU."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32)


def flow_work(tokens: int, conditioning: Conditioning) -> Work:
    """What a flow network is about to do on that many tokens."""
    return Work(tokens, conditioning.views[0].shape[0], 2 if tokens <= PAIRED_TOKENS else 1)


def run_sampler(
    used: Use,
    noise: Tensor,
    conditioning: Conditioning,
    sampling: Sampling,
    level: Level | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Sample one network; the image tokens' keys and values are computed once where network and memory allow.

    Args:
        used: the network, and how it is to be run.
        noise: on the network's device.
        level: the voxels of a sparse state.
        known: further channels that a sparse network sees beside the state.
    """
    network = used.network
    samples = noise.shape[0] if level is None else level.batch_size
    views, negative = conditioning.batched(samples)
    project = getattr(network, "project_context", lambda tokens: tokens)
    velocity = NetworkVelocity(network, level, known)
    with torch.inference_mode():
        keep = project if used.rung.keep_context else lambda tokens: tokens
        positive, unguided = [keep(view.to(noise.device)) for view in views], project(negative.to(noise.device))
        return sample_flow(
            velocity,
            noise,
            positive,
            unguided,
            sampling.parameters,
            None if level is None else level.slices,
            sampling.multi_view,
            sampling.on_step,
            velocity.both if used.rung.keep_context and isinstance(unguided, ProjectedContext) else None,
        )


def pick(conditionings: Sequence[Conditioning], size: int) -> Conditioning:
    """The conditioning made at `size` pixels."""
    return next(item for item in conditionings if item.size == size)
