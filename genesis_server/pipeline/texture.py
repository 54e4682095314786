# SPDX-License-Identifier: Apache-2.0
"""Stage three: the texture latent on the cells of a given shape latent (docs/spec/pipeline.md 9.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from genesis_server.pipeline.conditioning import Conditioning
from genesis_server.pipeline.latents import Latent, Sampling, draw_noise, flow_work, pick, run_sampler
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.plan import Plan, TexturePlan
from genesis_server.sparse.tensor import Level


def sample_texture(
    model: Model,
    plan: Plan | TexturePlan,
    shape: Latent,
    conditionings: Sequence[Conditioning],
    generator: torch.Generator,
    sampling: Sampling,
) -> Latent:
    """Sample the texture latent, row for row on `shape`, which the network sees normalised beside the noise."""
    item = plan.texture
    known = model.config.shape.apply(shape.feats.to(model.device))
    channels = model.architecture(item.role)["in_channels"] - known.shape[1]
    noise = draw_noise(generator, len(known), channels).to(model.device)
    level = Level(shape.coords.to(model.device))
    conditioning = pick(conditionings, item.image_size)
    with model.use(item.role, flow_work(len(known), conditioning), sampling.precision) as used:
        normalised = run_sampler(used, noise, conditioning, sampling, level, known)
    return Latent(level.coords, model.config.texture.undo(normalised), shape.resolution)
