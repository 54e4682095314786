# SPDX-License-Identifier: Apache-2.0
"""Stage two: the shape latent on the occupied cells, in one pass or as a cascade (docs/spec/pipeline.md 9.3, 9.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genesis_server.pipeline.conditioning import Conditioning
from genesis_server.pipeline.latents import Latent, Sampling, Structure, draw_noise, flow_work, pick, run_sampler
from genesis_server.pipeline.memory import Work
from genesis_server.pipeline.model import SHAPE_DECODER, Model
from genesis_server.pipeline.plan import LIMIT_STEP, MAX_TOKENS, Pass, Plan
from genesis_server.sparse.tensor import Level, SparseTensor


def sample_shape(
    model: Model,
    plan: Plan,
    structure: Structure,
    conditionings: Sequence[Conditioning],
    generator: torch.Generator,
    sampling: Sampling,
    max_tokens: int = MAX_TOKENS,
) -> Latent:
    """Sample the shape; a cascade refines the coordinates of its first pass and samples anew on them.

    Returns:
        The latent, whose `resolution` is below the plan's where the token limit asked for it.
    """
    coords, resolution, count = structure.coords.to(model.device), plan.resolution, len(plan.shape)
    for index, item in enumerate(plan.shape):
        feats = _sample_pass(model, item, coords, conditionings, generator, sampling.part(index, count))
        if index + 1 < count:
            fine = _upsampled(model, coords, feats, plan.ratio)
            coords, resolution = limit_tokens(
                fine, item.resolution, plan.resolution, plan.shape[-1].resolution, plan.ratio, max_tokens
            )
    return Latent(coords, feats, resolution)


def skip_shape_noise(model: Model, plan: Plan, structure: Structure, shape: Latent, generator: torch.Generator) -> None:
    """Draw what `sample_shape` drew, so that the texture's noise follows as if it had run."""
    for item, coords in zip(plan.shape, (structure.coords, shape.coords), strict=False):
        if item is plan.shape[-1]:
            coords = shape.coords
        draw_noise(generator, len(coords), model.architecture(item.role)["in_channels"])


def limit_tokens(
    fine: Tensor, fine_resolution: int, wanted: int, lowest: int, ratio: int, max_tokens: int
) -> tuple[Tensor, int]:
    """Coordinates of the refined pass, on the largest grid that stays below the limit.

    Args:
        fine: int32 `[n, 4]`, (sample, x, y, z) on a grid of `fine_resolution`.
        wanted, lowest: resolutions in voxels; `lowest` is accepted whatever its number of tokens.
        ratio: voxels per latent cell.

    Returns:
        int32 `[T, 4]`, unique, lexicographic, and the resolution they belong to.
    """
    resolution = wanted
    while True:
        # (c + 0.5) / fine * cells, truncated, in exact integers
        cells = ((2 * fine[:, 1:].long() + 1) * (resolution // ratio)) // (2 * fine_resolution)
        coords = torch.cat([fine[:, :1].long(), cells], dim=1).unique(dim=0)
        if len(coords) < max_tokens or resolution <= lowest:
            return coords.int(), resolution
        resolution = max(lowest, resolution - LIMIT_STEP * ratio)


def _sample_pass(
    model: Model,
    item: Pass,
    coords: Tensor,
    conditionings: Sequence[Conditioning],
    generator: torch.Generator,
    sampling: Sampling,
) -> Tensor:
    noise = draw_noise(generator, len(coords), model.architecture(item.role)["in_channels"]).to(model.device)
    conditioning = pick(conditionings, item.image_size)
    with model.use(item.role, flow_work(len(coords), conditioning), sampling.precision) as used:
        normalised = run_sampler(used, noise, conditioning, sampling, Level(coords))
    return model.config.shape.undo(normalised)


def _upsampled(model: Model, coords: Tensor, feats: Tensor, ratio: int) -> Tensor:
    with model.use(SHAPE_DECODER, Work(len(coords), coordinates_only=True)) as used, torch.inference_mode():
        return used.network.upsample(SparseTensor(feats, coords), ratio.bit_length() - 1)
