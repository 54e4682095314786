# SPDX-License-Identifier: Apache-2.0
"""Sampling agrees with the published sampler where the golden files do not reach: schedule, callbacks, degenerate latents."""

import pytest
import torch

from genesis_server.pipeline.flow import merge_late, time_schedule
from genesis_server.pipeline.samplers import SamplerParameters, flow_steps, sample_flow
from genesis_server.protocol.errors import ErrorCode, GenesisError

OFFICIAL_SHAPE = SamplerParameters(
    steps=12, rescale_t=3.0, guidance_strength=7.5, guidance_rescale=0.5, guidance_interval=(0.6, 1.0)
)


def velocity(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
    return 0.4 * x + cond.mean() - 0.1


def tokens(value: float, batch: int = 1) -> torch.Tensor:
    return torch.full((batch, 2, 3), value)


def test_official_schedules_hit_the_interval_ends_exactly() -> None:
    times = time_schedule(12, 3.0)
    assert times[0] == 1.0 and times[-1] == 0.0
    assert times[8] == 0.6 and times[3] == 0.9  # compared as doubles with the literals of the configuration


def test_guided_steps_are_counted_with_both_ends_inside() -> None:
    calls = []

    def counted(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        calls.append(float(t[0]))
        return velocity(x, t, cond)

    sample_flow(counted, torch.randn(1, 2, 3), [tokens(1.0)], tokens(0.0), OFFICIAL_SHAPE)
    assert len(calls) == 21


def test_every_step_is_announced_and_may_stop_the_sampling() -> None:
    seen: list[tuple[int, int]] = []

    def on_step(step: int, steps: int) -> None:
        seen.append((step, steps))
        if step == 4:
            raise GenesisError(ErrorCode.CANCELLED, "Cancelled.")

    with pytest.raises(GenesisError):
        sample_flow(velocity, torch.randn(1, 2, 3), [tokens(1.0)], tokens(0.0), OFFICIAL_SHAPE, on_step=on_step)
    assert seen == [(i, 12) for i in range(5)]


def test_one_view_gives_the_same_in_both_multi_view_modes() -> None:
    noise = torch.randn(1, 2, 3)
    results = [
        sample_flow(velocity, noise, [tokens(0.7)], tokens(0.0), OFFICIAL_SHAPE, multi_view=mode)
        for mode in ("stochastic", "multidiffusion")
    ]
    assert torch.equal(*results)


def test_stochastic_views_take_turns_by_step_and_share_the_guided_pair() -> None:
    seen = []

    def recorded(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        seen.append(float(cond.mean()))
        return velocity(x, t, cond)

    parameters = SamplerParameters(steps=4, guidance_strength=2.0)
    sample_flow(recorded, torch.randn(1, 2, 3), [tokens(1.0), tokens(2.0), tokens(3.0)], tokens(0.0), parameters)
    assert seen == [1, 0, 2, 0, 3, 0, 1, 0]


def test_a_constant_latent_does_not_turn_into_nan() -> None:
    zero = torch.zeros(4, 3)
    samples = [slice(0, 4)]
    for rows in (samples, None):
        noise = zero if rows else zero[None]
        steps = flow_steps(lambda x, t, c: torch.zeros_like(x), noise, [tokens(1.0)], tokens(0.0), OFFICIAL_SHAPE, rows)
        assert all(step.state.isfinite().all() for step in steps)


def test_unknown_samplers_and_parameters_of_a_model_are_refused() -> None:
    with pytest.raises(GenesisError, match="HeunSampler"):
        SamplerParameters.from_config("HeunSampler", {}, {})
    with pytest.raises(GenesisError, match="stepz"):
        SamplerParameters.from_config("FlowEulerSampler", {}, {"stepz": 3})


def test_late_steps_are_joined_and_early_ones_kept() -> None:
    times = time_schedule(12, 3.0)
    assert merge_late(times) == [times[i] for i in (0, 1, 2, 4, 6, 8, 10, 11, 12)]
    assert merge_late(times[:7]) == times[:7], "short schedules have nothing to spare"


def test_a_sampling_with_joined_steps_counts_them_and_ends_in_the_same_place() -> None:
    told: list[tuple[int, int]] = []
    state = sample_flow(
        lambda x, t, tokens: torch.ones_like(x),
        torch.zeros(1, 2, 2, 2, 2),
        [None],
        None,
        SamplerParameters(steps=12, guidance_strength=1.0, merge_late=True),
        on_step=lambda *count: told.append(count),
    )
    assert told == [(i, 8) for i in range(9)]
    torch.testing.assert_close(state, torch.full_like(state, -1.0))
