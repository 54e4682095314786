# SPDX-License-Identifier: Apache-2.0
"""What all training phases share: time-based schedule, optimiser, moving average, checkpoints, log (docs/spec/mini.md 3, 10).

A phase lasts a given number of *seconds*; its learning rate follows the fraction of them that has passed, so that every
phase ends decayed whatever the machine's speed. Files in the run folder:

    <phase>.training.safetensors   parameters, moving averages, moments, time used: written twice a minute, removed at the end
    <phase>.log.jsonl              one JSON object per report
    <phase>.done.json              summaries of the phase's rounds; a phase that has one is not run again unless asked for
    <role>.safetensors             the moving average of a finished network, float32
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genesis_server.mini.config import Sizes
from genesis_server.mini.muon import Muon

REPORT_STEPS = 50  # the only place where the host waits for the device
CHECKPOINT_SECONDS = 30.0
CLIP = 1.0  # gradient norm, per network
AGAIN_DECAY_FROM = 0.2
IN_BLOCK = re.compile(r"\b(blocks|layer)\.\d+\.")

log = logging.getLogger("genesis.mini")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: where everything is written; an interrupted run continues from it.
        device: one GPU, or the CPU for tests.
        sizes: of data and networks.
        seed: of everything; two runs with the same seed still differ, since schedules follow the clock.
        compiled: compile transformer blocks (25 s once; pays after a minute).
        scale: factor on batch and pool sizes; below 1 only to try the code on a small machine.
        again: this is another round: networks start from what the folder has, at rates that fall almost from the start. Give
            it another seed, or it sees the first round's objects once more.
    """

    folder: Path
    device: torch.device
    sizes: Sizes
    seed: int = 1
    compiled: bool = True
    scale: float = 1.0
    again: bool = False

    def scaled(self, count: int) -> int:
        """A batch or pool size."""
        return max(4, round(count * self.scale))

    def done(self, phase: str) -> list[dict[str, Any]]:
        """Summaries of a phase's finished rounds."""
        path = self.folder / f"{phase}.done.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def finish(self, phase: str, summary: dict[str, Any]) -> None:
        """Mark a round of a phase as finished."""
        rounds = [*self.done(phase), summary]
        (self.folder / f"{phase}.done.json").write_text(json.dumps(rounds, indent=2) + "\n", encoding="utf-8")

    def start(self, role: str, network: nn.Module) -> None:
        """Give a network that is about to be trained what an earlier round left of it; a first round finds nothing."""
        if self.again and self.path(role).is_file():
            network.load_state_dict(self.load(role))

    def save(self, role: str, state: Mapping[str, Tensor]) -> None:
        """Store a finished network or table."""
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, self.path(role))

    def load(self, role: str) -> dict[str, Tensor]:
        """What `save` stored, on the run's device."""
        return load_file(self.path(role), device=str(self.device))

    def path(self, role: str) -> Path:
        return self.folder / f"{role}.safetensors"

    def autocast(self) -> torch.autocast:
        """bfloat16 products over float32 weights on a GPU; plain float32 elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


class Training:
    """Optimises some networks together for a number of seconds.

    Args:
        networks: role -> network, in training state on the run's device.
        rates: role -> peak learning rate.
        seconds: length of the phase, compilation included.
        decay_from: fraction of the time after which the rate falls linearly to zero; in a further round `AGAIN_DECAY_FROM`.
        warm_up: steps of linear rise.
        average: decay of the moving average per step.
        matrix_rate: peak learning rate of Muon for the matrices of transformer blocks; AdamW takes everything without it.
    """

    def __init__(
        self,
        run: Run,
        phase: str,
        networks: Mapping[str, nn.Module],
        rates: Mapping[str, float],
        seconds: float,
        decay_from: float = 0.65,
        warm_up: int = 100,
        average: float = 0.999,
        matrix_rate: float | None = None,
    ) -> None:
        self.run, self.phase, self.networks, self.seconds = run, phase, dict(networks), seconds
        self.decay_from, self.warm_up, self.average = AGAIN_DECAY_FROM if run.again else decay_from, warm_up, average
        for role, network in self.networks.items():
            run.start(role, network)
        self.rates = dict(rates)
        self.groups = {role: list(network.parameters()) for role, network in networks.items()}
        self.parameters = [p for group in self.groups.values() for p in group]
        self.averages = [p.detach().clone() for p in self.parameters]
        matrices = {} if matrix_rate is None else {id(p) for net in networks.values() for p in block_matrices(net)}
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": [p for p in group if id(p) not in matrices], "lr": 0.0, "peak": self.rates[role]}
                    for role, group in self.groups.items()
                ],
                betas=(0.9, 0.95),
                weight_decay=0.01,
                fused=run.device.type == "cuda",
            )
        ]
        if matrices:
            self.optimisers.append(Muon([p for p in self.parameters if id(p) in matrices], lr=0.0))
            self.optimisers[1].param_groups[0]["peak"] = matrix_rate
        self.step_count, self.used = 0, 0.0
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._resume()
        self._started = self._saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds used, earlier parts of an interrupted phase included."""
        return self.used + time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        return self.elapsed / self.seconds

    def running(self) -> bool:
        """Whether there is time left for a step (for one in any case); also the place where checkpoints are written."""
        now = time.monotonic()
        if now - self._saved > CHECKPOINT_SECONDS:
            self._checkpoint()
            self._saved = now
        return self.step_count == 0 or self.fraction < 1

    def step(self, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """One optimiser step; `parts` are averaged into the next report."""
        loss.backward()
        slope = min(1.0, (1 - self.fraction) / (1 - self.decay_from), (self.step_count + 1) / self.warm_up)
        for parameters in self.groups.values():
            nn.utils.clip_grad_norm_(parameters, CLIP)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * max(slope, 0.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        decay = min(self.average, (1 + self.step_count) / (10 + self.step_count))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().float()
        self._summed += 1
        if self.step_count % REPORT_STEPS == 0:
            self.report()

    def report(self, **more: float) -> None:
        """Write means of the losses since the last report, and anything measured."""
        means = {name: round(value.item() / self._summed, 5) for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        entry = {"phase": self.phase, "second": round(self.elapsed, 1), "step": self.step_count, **means}
        entry |= {name: round(float(value), 5) for name, value in more.items()}
        with (self.run.folder / f"{self.phase}.log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        log.info(" ".join(f"{name} {value}" for name, value in entry.items()))

    def averaged(self, role: str) -> dict[str, Tensor]:
        """State dict of a network with its moving averages."""
        average = {id(p): value for p, value in zip(self.parameters, self.averages, strict=True)}
        state = self.networks[role].state_dict(keep_vars=True)
        return {name: average.get(id(value), value).detach() for name, value in state.items()}

    def finish(self, **measured: float) -> None:
        """Store the averages of all networks and mark the phase as finished."""
        self.report(**measured)
        for role in self.networks:
            self.run.save(role, self.averaged(role))
        summary = {"steps": self.step_count, "seconds": round(self.elapsed, 1), "rates": self.rates}
        self.run.finish(self.phase, {**summary, **{name: round(float(value), 5) for name, value in measured.items()}})
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.run.folder / f"{self.phase}.training.safetensors"

    def _checkpoint(self) -> None:
        tensors = {}
        for index, (parameter, average) in enumerate(zip(self.parameters, self.averages, strict=True)):
            tensors[f"{index}.parameter"], tensors[f"{index}.average"] = parameter.detach(), average
            for optimiser in self.optimisers:
                for name, value in optimiser.state.get(parameter, {}).items():
                    tensors[f"{index}.{name}"] = torch.as_tensor(value)
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        temporary = self._path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"steps": str(self.step_count), "seconds": str(self.elapsed)})
        temporary.replace(self._path)

    def _resume(self) -> None:
        if not self._path.is_file():
            return
        index_of = {id(parameter): index for index, parameter in enumerate(self.parameters)}
        with safe_open(self._path, framework="pt", device=str(self.run.device)) as file:
            self.step_count, self.used = int(file.metadata()["steps"]), float(file.metadata()["seconds"])
            names = set(file.keys())
            for index, parameter in enumerate(self.parameters):
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(f"{index}.parameter"))
                self.averages[index].copy_(file.get_tensor(f"{index}.average"))
            for optimiser in self.optimisers:
                kinds = ("momentum",) if isinstance(optimiser, Muon) else ("step", "exp_avg", "exp_avg_sq")
                for parameter in (p for group in optimiser.param_groups for p in group["params"]):
                    stored = {kind: f"{index_of[id(parameter)]}.{kind}" for kind in kinds}
                    if names.issuperset(stored.values()):
                        optimiser.state[parameter] = {kind: file.get_tensor(name) for kind, name in stored.items()}
        log.info("%s continues at step %d, %.0f s", self.phase, self.step_count, self.used)


def block_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weight matrices inside a transformer's blocks: what Muon is for. Modulations start at zero and are left out."""
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim == 2 and IN_BLOCK.search(name) and name.endswith(".weight") and "adaLN" not in name
    ]
