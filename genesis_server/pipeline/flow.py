# SPDX-License-Identifier: Apache-2.0
"""The process that the flow networks were trained on, and its time schedule (docs/spec/pipeline.md 7.1, 7.2).

    x_t = (1 - t) x_0 + w(t) eps,   w(t) = sigma + (1 - sigma) t,   v = (1 - sigma) eps - x_0

Times are Python floats (double); only their products with tensors are rounded to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlowProcess:
    """Conversions between state x_t, velocity v, data x_0 and noise eps; all elementwise, t a scalar in 0..1."""

    sigma_min: float = 1e-5

    def noise_weight(self, t: float) -> float:
        """w(t)."""
        return self.sigma_min + (1 - self.sigma_min) * t

    def state(self, x_0: Tensor, eps: Tensor, t: float) -> Tensor:
        """x_t between data and noise."""
        return (1 - t) * x_0 + self.noise_weight(t) * eps

    def data_from_velocity(self, x_t: Tensor, v: Tensor, t: float) -> Tensor:
        """x_0 = (1 - sigma) x_t - w v."""
        return (1 - self.sigma_min) * x_t - self.noise_weight(t) * v

    def noise_from_velocity(self, x_t: Tensor, v: Tensor, t: float) -> Tensor:
        """eps = x_t + (1 - t) v."""
        return x_t + (1 - t) * v

    def velocity_from_data(self, x_t: Tensor, x_0: Tensor, t: float) -> Tensor:
        """v = ((1 - sigma) x_t - x_0) / w."""
        return ((1 - self.sigma_min) * x_t - x_0) / self.noise_weight(t)

    def data_from_noise(self, x_t: Tensor, eps: Tensor, t: float) -> Tensor:
        """x_0 = (x_t - w eps) / (1 - t)."""
        return (x_t - self.noise_weight(t) * eps) / (1 - t)

    def noise_from_data(self, x_t: Tensor, x_0: Tensor, t: float) -> Tensor:
        """eps = (x_t - (1 - t) x_0) / w."""
        return (x_t - (1 - t) * x_0) / self.noise_weight(t)


def time_schedule(steps: int, rescale_t: float) -> list[float]:
    """steps + 1 times from exactly 1 to exactly 0.

    Double precision on purpose: the ends of the guidance interval are compared with these numbers and are hit exactly.
    """
    spaced = [1.0 + i * (-1.0 / steps) for i in range(steps)] + [0.0]
    return [rescale_t * s / (1 + (rescale_t - 1) * s) for s in spaced]


def merge_late(times: list[float]) -> list[float]:
    """A schedule with two steps made one, again and again, from the second quarter on: 12 steps become 8.

    Early steps decide the object and are all kept, as is the last one; a schedule below eight steps stays as it is.
    """
    steps = len(times) - 1
    if steps < 8:
        return times
    return [t for i, t in enumerate(times) if i % 2 == 0 or i < steps // 4 or i >= steps - 1]


def network_time(t: float, samples: int, device: torch.device) -> Tensor:
    """What a network receives for time t: float32 [samples] of 1000 t, the product taken in double."""
    return torch.full((samples,), 1000 * t, dtype=torch.float32, device=device)
