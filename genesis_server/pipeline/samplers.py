# SPDX-License-Identifier: Apache-2.0
"""Euler sampling of a flow network, guided in an interval of time, by one or several views (docs/spec/pipeline.md 7, 14.2).

Dense and sparse latents go through the same code: the state is one tensor of features, and `samples` says which rows belong
to which object. A network is handed over as a function of (features, time, tokens), so that nothing here knows its class.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genesis_server.pipeline.flow import FlowProcess, merge_late, network_time, time_schedule
from genesis_server.protocol.errors import ErrorCode, GenesisError

Tokens = Any  # what the velocity function understands: tensors [B, L, D], or keys and values made of them
Velocity = Callable[[Tensor, Tensor, Tokens], Tensor]  # (state, time [B], tokens) -> velocity like state
Both = Callable[[Tensor, Tensor, Tokens, Tokens], tuple[Tensor, Tensor]]  # two velocities of one state and time at once
OnStep = Callable[[int, int], None]  # (finished steps, all steps); called before each step and after the last; may raise

STOCHASTIC, MULTIDIFFUSION = "stochastic", "multidiffusion"


@dataclass(frozen=True)
class SamplerParameters:
    """How one stage is sampled; the defaults are those of the published sampler library (docs/spec/pipeline.md 7.6).

    Attributes:
        sigma_min: noise left at t = 0.
        steps: Euler steps.
        rescale_t: above 1 spends more of the steps near the noise.
        guidance_strength: 1 ignores the negative conditioning, 0 the positive one.
        guidance_rescale: share of the guided prediction that is rescaled to the contrast of the unguided one.
        guidance_interval: both ends inclusive; outside, strength 1.
        merge_late: take late steps two at a time (`pipeline.flow.merge_late`).
    """

    sigma_min: float = 1e-5
    steps: int = 50
    rescale_t: float = 1.0
    guidance_strength: float = 3.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    merge_late: bool = False

    @classmethod
    def from_config(cls, name: str, args: Mapping[str, Any], params: Mapping[str, Any]) -> SamplerParameters:
        """Parameters of a sampler entry of `pipeline.json` (docs/spec/pipeline.md 2.1).

        Raises:
            GenesisError: BAD_MODEL for an unknown sampler class or parameter.
        """
        rules: dict[str, dict[str, Any]] = {
            "FlowEulerSampler": {"guidance_strength": 1.0},
            "FlowEulerCfgSampler": {"guidance_interval": (-math.inf, math.inf)},
            "FlowEulerGuidanceIntervalSampler": {},
        }
        if name not in rules:
            raise GenesisError(ErrorCode.BAD_MODEL, f"The model asks for the sampler {name!r}.", f"Known: {', '.join(rules)}.")
        known = {item.name for item in dataclasses.fields(cls)} - {"merge_late"}
        values = {**args, **params}
        if unknown := sorted(set(values) - known):
            raise GenesisError(
                ErrorCode.BAD_MODEL,
                f"The model sets unknown sampler parameters: {', '.join(unknown)}.",
                f"Known: {sorted(known)}.",
            )
        return cls().replace({**values, **rules[name]})

    def replace(self, overrides: Mapping[str, Any]) -> SamplerParameters:
        """A copy with the given fields changed."""
        values = dict(overrides)
        if "guidance_interval" in values:
            values["guidance_interval"] = tuple(values["guidance_interval"])
        return dataclasses.replace(self, **values)


@dataclass(frozen=True)
class FlowStep:
    """State after one step and the data the step predicted, both like the noise."""

    state: Tensor
    prediction: Tensor


def flow_steps(
    velocity: Velocity,
    noise: Tensor,
    views: Sequence[Tokens],
    negative: Tokens,
    parameters: SamplerParameters,
    samples: Sequence[slice] | None = None,
    multi_view: str = STOCHASTIC,
    on_step: OnStep | None = None,
    both: Both | None = None,
) -> Iterator[FlowStep]:
    """Sample step by step.

    Args:
        velocity: the network.
        noise: float32, dense `[B, C, ...]` or sparse `[T, C]`.
        views: tokens of each view; several are used as `multi_view` says.
        negative: tokens of the unconditional pass.
        samples: rows of each object where the state is sparse; None for dense.
        both: the velocity under two tokens in one call, where that is faster than two calls.
    """
    process, p = FlowProcess(parameters.sigma_min), parameters
    times = time_schedule(p.steps, p.rescale_t)
    times = merge_late(times) if p.merge_late else times
    steps = len(times) - 1
    x, objects = noise, len(noise) if samples is None else len(samples)
    for i, (t, t_next) in enumerate(zip(times[:-1], times[1:], strict=True)):
        if on_step:
            _wait_for(x)  # steps are only queued until here: a report, or a cancellation, is about finished ones
            on_step(i, steps)
        time = network_time(t, objects, noise.device)
        chosen = views if multi_view == MULTIDIFFUSION else [views[i % len(views)]]
        v = _guided(velocity, process, x, t, time, chosen, negative, p, samples, both)
        prediction = process.data_from_velocity(x, v, t)
        x = x - (t - t_next) * v
        yield FlowStep(x, prediction)
    if on_step:
        _wait_for(x)
        on_step(steps, steps)


def sample_flow(*args: Any, **keywords: Any) -> Tensor:
    """The last state of `flow_steps`, same arguments."""
    for step in flow_steps(*args, **keywords):
        state = step.state
    return state


def _guided(
    velocity: Velocity,
    process: FlowProcess,
    x: Tensor,
    t: float,
    time: Tensor,
    views: Sequence[Tokens],
    negative: Tokens,
    p: SamplerParameters,
    samples: Sequence[slice] | None,
    both: Both | None,
) -> Tensor:
    low, high = p.guidance_interval
    strength = p.guidance_strength if low <= t <= high else 1.0
    if strength == 0:
        return velocity(x, time, negative)
    if strength != 1 and len(views) == 1 and both:
        positive, opposite = both(x, time, views[0], negative)
    else:
        positive = velocity(x, time, views[0])
        for view in views[1:]:
            positive = positive + velocity(x, time, view)
        if len(views) > 1:
            positive = positive / len(views)
        if strength == 1:
            return positive
        opposite = velocity(x, time, negative)
    v = strength * positive + (1 - strength) * opposite
    if p.guidance_rescale > 0:
        unguided = process.data_from_velocity(x, positive, t)
        guided = process.data_from_velocity(x, v, t)
        rescaled = _match_contrast(guided, unguided, samples)
        mixed = p.guidance_rescale * rescaled + (1 - p.guidance_rescale) * guided
        v = process.velocity_from_data(x, mixed, t)
    return v


def _wait_for(x: Tensor) -> None:
    """Until a GPU has computed x."""
    if x.is_cuda:
        torch.cuda.current_stream(x.device).synchronize()


def _match_contrast(guided: Tensor, unguided: Tensor, samples: Sequence[slice] | None) -> Tensor:
    """`guided` times std(unguided) / std(guided) of each object; unchanged where `guided` is constant."""
    if samples is None:
        axes = tuple(range(1, guided.ndim))
        factor = unguided.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
        return guided * torch.where(factor.isfinite(), factor, 1.0)
    factor = torch.ones_like(guided[:, :1])
    for rows in samples:
        ratio = _row_std(unguided[rows]) / _row_std(guided[rows])
        factor[rows] = torch.where(ratio.isfinite(), ratio, 1.0)
    return guided * factor


def _row_std(rows: Tensor) -> Tensor:
    """sqrt(E[x^2] - E[x]^2) with channel means first, as sparse latents are measured; clamped where rounding goes below 0."""
    square, mean = rows.square().mean(dim=1).mean(), rows.mean(dim=1).mean()
    return (square - mean.square()).clamp_min(0).sqrt()
