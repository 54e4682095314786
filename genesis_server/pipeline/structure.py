# SPDX-License-Identifier: Apache-2.0
"""Stage one: which cells of a coarse grid the object touches (docs/spec/pipeline.md 9.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genesis_server.pipeline.conditioning import Conditioning
from genesis_server.pipeline.latents import Sampling, Structure, draw_noise, flow_work, pick, run_sampler
from genesis_server.pipeline.model import STRUCTURE_DECODER, STRUCTURE_FLOW, Model
from genesis_server.pipeline.plan import Plan
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy


def sample_structure(
    model: Model,
    plan: Plan,
    conditionings: Sequence[Conditioning],
    generator: torch.Generator,
    sampling: Sampling,
    samples: int = 1,
) -> Structure:
    """Sample the occupied cells of `samples` objects.

    Of a model's `structure_samples` of each object the one most like the others is taken. With another number of steps than the
    model's own the first is, alone: who chooses the steps chooses the time.

    Raises:
        GenesisError: EMPTY_STRUCTURE when one of them has no cell at all.
    """
    noise = structure_noise(model, generator, samples).to(model.device)
    if sampling.parameters.steps != model.config.samplers["structure"].steps:
        noise = noise[:: model.config.structure_samples].contiguous()
    conditioning = pick(conditionings, plan.structure_size)
    work = flow_work(noise[0, 0].numel() * len(noise), conditioning)
    with model.use(STRUCTURE_FLOW, work, sampling.precision) as used:
        latent = run_sampler(used, noise, conditioning, sampling)
    with model.network(STRUCTURE_DECODER) as decoder, torch.inference_mode():
        occupied = _pool(decoder(latent)[:, 0] > 0, plan.grid)
    occupied = torch.stack([_middle(drawn) for drawn in occupied.unflatten(0, (samples, -1))])
    coords = occupied.nonzero().int()
    found = torch.bincount(coords[:, 0].long(), minlength=samples)
    if not bool(found.all()):
        raise GenesisError(
            ErrorCode.EMPTY_STRUCTURE,
            f"The model found no object in the picture: none of {plan.grid}^3 cells is occupied.",
            "Try another seed, or a picture with one clear object in it.",
            Remedy.RETRY,
        )
    return Structure(coords, plan.grid)


def structure_noise(model: Model, generator: torch.Generator, samples: int = 1) -> Tensor:
    """Draw 1: float32 `[samples * structure_samples, C, r, r, r]` on the CPU, those of one object together."""
    flow = model.architecture(STRUCTURE_FLOW)
    return draw_noise(generator, samples * model.config.structure_samples, flow["in_channels"], *(flow["resolution"],) * 3)


def _middle(drawn: Tensor) -> Tensor:
    """The one of several bool grids `[N, G, G, G]` that overlaps the others most."""
    if len(drawn) == 1:
        return drawn[0]
    flat = drawn.flatten(1).float()
    both = flat @ flat.T
    size = both.diagonal()
    overlap = both / (size[:, None] + size - both).clamp(min=1)
    return drawn[int(overlap.sum(1).argmax())]


def _pool(occupied: Tensor, grid: int) -> Tensor:
    """bool `[N, R, R, R]` to `[N, grid, grid, grid]`: a cell is occupied where any of its parts is."""
    side = occupied.shape[-1]
    if side % grid:
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"The structure decoder gives {side}^3 cells, which do not divide into the {grid}^3 of the shape network.",
            "Use a structure decoder and a shape network made for each other.",
        )
    ratio = side // grid
    return torch.nn.functional.max_pool3d(occupied.float(), ratio) > 0.5
