# SPDX-License-Identifier: Apache-2.0
"""Golden folders against this implementation: `python -m tests.parity DIR...`.

A module of this package with `run(folder) -> Iterator[Outcome]`, or with `cases(folder)` yielding (name, ours, golden,
largest absolute difference), is a runner: it is shown each folder below the given ones and answers for the cases it
knows there, or with nothing. A new kind of golden is one new module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Limit:
    """How far a case may be off: absolute error, relative L2 error (`inf` where only the other one counts)."""

    absolute: float = float("inf")
    relative: float = float("inf")

    def __str__(self) -> str:
        return f"abs {self.absolute:.0e} rel {self.relative:.0e}"


@dataclass(frozen=True)
class Outcome:
    """One case: its worst errors over all compared tensors, and what went wrong beyond numbers (shapes, rows)."""

    name: str
    absolute: float
    relative: float
    limit: Limit
    fault: str = ""

    @property
    def passed(self) -> bool:
        return not self.fault and self.absolute <= self.limit.absolute and self.relative <= self.limit.relative

    def __str__(self) -> str:
        verdict = "PASS" if self.passed else f"FAIL {self.fault}"
        return f"{self.name:<44} abs {self.absolute:.2e}  rel {self.relative:.2e}  limit {self.limit}  {verdict}"


def compare(name: str, limit: Limit, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> Outcome:
    """Compare named (ours, golden) pairs; integers and booleans must be equal."""
    absolute = relative = 0.0
    for label, ours, golden in pairs:
        if ours.shape != golden.shape:
            return Outcome(name, absolute, relative, limit, f"{label}: shape {tuple(ours.shape)} for {tuple(golden.shape)}")
        if not golden.is_floating_point():
            if not torch.equal(ours.to(golden.dtype), golden):
                return Outcome(name, absolute, relative, limit, f"{label}: not equal")
            continue
        ours, golden = ours.detach().double().cpu(), golden.double()
        if not torch.isfinite(ours).all():
            return Outcome(name, absolute, relative, limit, f"{label}: not finite")
        absolute = max(absolute, float((ours - golden).abs().max()))
        relative = max(relative, float((ours - golden).norm() / golden.norm().clamp(min=1e-30)))
    return Outcome(name, absolute, relative, limit)


def outcomes(cases: Callable[[Path], Iterable[tuple]], folder: Path) -> Iterator[Outcome]:
    """Outcomes of a runner that yields (name, ours, golden, largest absolute difference) of arrays."""
    for name, ours, golden, absolute in cases(folder):
        pair = (name, torch.as_tensor(ours), torch.as_tensor(golden))
        yield compare(f"{folder.name} {name}", Limit(absolute=absolute), [pair])
