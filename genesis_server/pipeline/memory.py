# SPDX-License-Identifier: Apache-2.0
"""How a model is made to fit the GPU: decided before anything runs, from a budget in bytes.

There is a ladder of ways to run, each slower and smaller than the one before. For every use of a network the first rung
whose predicted peak stays below the budget is taken, so that a stage with few tokens is not slowed down by what one with
many needs. When memory runs out in spite of the prediction, the lower rungs are barred and the stage runs again.

The predictions count tensors: weights, the widest moment of a block, tables of neighbours, kept keys and values; they are for
one object. On an H100 a flow at 28,672 tokens took 4.15 GiB where 4.25 were predicted (workspaces not counted in either).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

PUBLISHED, EXACT, FAST = "auto", "float32", "fast"  # how exactly a flow network computes; the middle one in float32
BUDGET_VARIABLE = "GENESIS_VRAM_BUDGET"
MARGIN = 600 << 20  # of free memory that is left to others: the desktop, the driver, what Blender draws with
OVERHEAD = 250 << 20  # workspaces of matrix and attention libraries, fragments
FILLED = 0.97  # of a budget that the tensors of a way to run may take; 3.96 of 4 GB ran out, for the holes between them
CELLS_PER_SQUARE = 7.0  # cells of a surface on a grid of side g, over g * g; 5.9 and 6.0 were measured, a fern has more
BAKE_BYTES_PER_VOXEL = 600  # of mesh and bake; 3.68 and 2.87 GB were measured for 6.72M voxels
VOXELS_PER_CELL = 257.0  # of four subdivisions, measured
OUT_OF_MEMORY_NOTE = "The GPU's memory ran out; going on with less of it, more slowly."
_UNITS = {"": 1e9, "GB": 1e9, "G": 1e9, "GIB": 2**30, "MB": 1e6, "M": 1e6, "MIB": 2**20}


class Rung(NamedTuple):
    """One way to run.

    Attributes:
        resident: all networks stay on the device; otherwise each comes for its use and goes after it.
        keep_context: keys and values of the image tokens are kept for a whole sampling, not made anew in every pass.
        stream: a flow network's matrices pass through block by block.
        tiles: parts in which decoders make their finest levels.
    """

    resident: bool = False
    keep_context: bool = True
    stream: bool = False
    tiles: int = 1


LADDER = (
    Rung(resident=True),
    Rung(),
    Rung(keep_context=False, tiles=3),
    Rung(keep_context=False, tiles=6),
    Rung(keep_context=False, stream=True, tiles=10),
    Rung(keep_context=False, stream=True, tiles=24),
)


@dataclass(frozen=True)
class Work:
    """What a network is about to do.

    Attributes:
        tokens: rows of a flow network, or latent cells of a decoder.
        context: image tokens.
        passes: of guidance, done in one batch.
        coordinates_only: a decoder says which voxels there are and makes no features of the finest level.
    """

    tokens: int = 0
    context: int = 0
    passes: int = 1
    coordinates_only: bool = False


@dataclass(frozen=True)
class Network:
    """What counts about one network: constructor arguments and bytes of its weights."""

    args: Mapping[str, Any]
    weights: int
    scale: int = 1  # bytes of a value over those of half precision
    float8: bool = False  # the large matrices of a flow's blocks have one byte a value

    def doubled(self) -> Network:
        """The same in float32."""
        return Network(self.args, 2 * self.weights, 2 * self.scale)

    def in_float8(self) -> Network:
        """The same with 8-bit products."""
        c, hidden, blocks = _widths(self.args)
        return Network(self.args, self.weights - blocks * (6 * c * c + 2 * c * hidden), self.scale, True)

    @property
    def is_flow(self) -> bool:
        """A flow network, whose blocks are all alike, so that their weights can pass through one by one."""
        return "num_heads" in self.args or "num_head_channels" in self.args

    def peak(self, rung: Rung, work: Work) -> int:
        """Bytes at its widest moment, other networks not counted."""
        if self.is_flow:
            rounded = work.tokens * work.passes * _widths(self.args)[1] if self.float8 else 0
            return _flow_weights(self, rung) + self.scale * _flow_work(self.args, rung, work) + rounded
        if "up_block_type" in self.args:
            return self.weights + _decoder_work(self.args, rung, work)
        if "down_block_type" in self.args:
            return self.weights + _encoder_work(self.args, work)
        return self.weights + _OTHER_WORK


_OTHER_WORK = 700 << 20  # the image encoder at 1024 pixels, the structure decoder


class MemoryPlan:
    """Decisions for one model on one device.

    Args:
        networks: by role.
        budget: bytes; None for no limit at all.
    """

    def __init__(self, networks: Mapping[str, Network], budget: int | None) -> None:
        self._networks, self.budget = dict(networks), budget
        self._staying = set(networks)
        self.floor = 0  # rungs below are barred
        self._last = 0  # the rung that was chosen last

    def knows(self, role: str) -> bool:
        """Whether anything can be said about a network."""
        return role in self._networks

    def network(self, role: str) -> Network:
        """What counts about a role's network."""
        return self._networks[role]

    def expect(self, roles: Iterable[str]) -> None:
        """Which networks there will be on the device where all of them stay; until told, every one of the model's."""
        self._staying = set(roles)

    def add(self, role: str, network: Network) -> None:
        """Another network that may be used; it counts only while it is."""
        self._networks[role] = network

    def rung(self, role: str, work: Work) -> Rung:
        """How to run a network now: the first way that fits, or the last there is."""
        fitting = (i for i in range(self.floor, len(LADDER)) if self._fits(role, LADDER[i], work))
        self._last = next(fitting, len(LADDER) - 1)
        return LADDER[self._last]

    def _fits(self, role: str, rung: Rung, work: Work) -> bool:
        return self.budget is None or self.predict(role, rung, work) <= FILLED * self.budget

    def predict(self, role: str, rung: Rung, work: Work) -> int:
        """Bytes at the widest moment of that use."""
        staying = [item for name, item in self._networks.items() if name in self._staying and name != role]
        others = sum(item.weights for item in staying) if rung.resident else 0
        return OVERHEAD + others + self._networks[role].peak(rung, work)

    def step_down(self) -> bool:
        """Bar the rung in use after memory ran out; False when there is none left."""
        following = max(self.floor, self._last) + 1
        if following >= len(LADDER):
            return False
        self.floor = following
        return True

    def least(self, uses: Mapping[str, Work]) -> int:
        """The smallest budget with which all of these uses fit."""
        return max(self.predict(role, LADDER[-1], work) for role, work in uses.items())

    def require(self, uses: Mapping[str, Work], what: str, instead: Callable[[], str] = lambda: "") -> int:
        """Predicted peak of a run.

        Args:
            uses: every network with what it will do.
            what: name of the run, for the error.
            instead: what to do where it does not fit.

        Raises:
            GenesisError: OUT_OF_MEMORY when it cannot fit, saying what it needs.
        """
        least = self.least(uses)
        if self.budget is not None and least > self.budget:
            raise GenesisError(
                ErrorCode.OUT_OF_MEMORY,
                f"{what} needs at least {least / 1e9:.1f} GB of GPU memory; {self.budget / 1e9:.1f} GB may be used.",
                instead() or "Close other programs that use the GPU, or use the small model.",
                Remedy.USE_MINI,
            )
        return max(self.predict(role, self.rung(role, work), work) for role, work in uses.items())


def retry_smaller(step: Callable[[], None], smaller: Callable[[], bool]) -> None:
    """Do a step; when the GPU's memory runs out and `smaller` has arranged to need less of it, do it again.

    Raises:
        RuntimeError: torch's or Warp's, when `smaller` says that there is no smaller way.
    """
    while True:
        try:
            return step()
        except RuntimeError as error:
            if not is_out_of_memory(error) or not smaller():
                raise
        torch.cuda.empty_cache()  # outside the handler: the error holds on to every tensor of the failed try


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the GPU's memory ran out; torch has a class for it, Warp a sentence."""
    return isinstance(error, torch.OutOfMemoryError) or "Failed to allocate" in str(error)


def parse_budget(text: str) -> int:
    """Bytes of `8GB`, `8`, `7.5 GiB` or `6000MB`.

    Raises:
        GenesisError: BAD_PARAMETER.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if unit is None or float(match[1]) * unit < 1e9:
        raise GenesisError(ErrorCode.BAD_PARAMETER, f"The memory budget is {text!r}.", "Write it like 8GB, at least 1GB.")
    return int(float(match[1]) * unit)


def device_budget(device: torch.device, wanted: str = "") -> int | None:
    """Bytes that may be used: what was asked for, else what is free now less a margin; None on a CPU.

    An explicit budget is also made a hard limit, so that going over it is an error at once and never a slow spill into
    host memory.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    if not wanted:
        return max(free - MARGIN, 0) + torch.cuda.memory_reserved(device)
    budget = min(parse_budget(wanted), total)
    if sys.platform == "linux":  # segments that grow: under a limit, holes between tensors count
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    index = torch.cuda.current_device() if device.index is None else device.index  # "cuda" without a number is refused
    torch.cuda.set_per_process_memory_fraction(budget / total, index)
    return budget


def expected_cells(grid: int) -> int:
    """Cells of an object's surface on a grid."""
    return int(CELLS_PER_SQUARE * grid * grid)


def _flow_weights(network: Network, rung: Rung) -> int:
    if not rung.stream:
        return network.weights
    c, hidden, blocks = _widths(network.args)
    value = 1 if network.float8 else 2 * network.scale
    passing = value * (5 * c * c + 2 * c * hidden)  # of one block: qkv, both outputs less one, query, MLP
    return max(network.weights - blocks * passing, 0) + 2 * passing


def _flow_work(args: Mapping[str, Any], rung: Rung, work: Work) -> int:
    c, hidden, blocks = _widths(args)
    rows = work.tokens * (work.passes if rung.keep_context else 1)  # both passes go together only with a context that is kept
    # the MLP's hidden values and eight streams: old and new, branches, norms, output (41 KB a token; measured 36 to 41); two
    # more that both passes of guidance share. Angles are float32 of D values
    values = 2 * ((10 if rung.keep_context and work.passes == 1 else 8) * c + hidden) + 4 * 128
    context = 2 * 2 * c * work.context * (blocks if rung.keep_context else 1)
    return rows * values + context


def _decoder_work(args: Mapping[str, Any], rung: Rung, work: Work) -> int:
    """At the last convolution: its input and output, the finest level's table of neighbours and maps, and what is kept above.

    Counted tensor by tensor; the same count of an earlier version of the block, with 236 bytes more a voxel, was 8 % above the
    peak that was measured for it.
    """
    widths, levels = args["model_channels"], len(args["up_block_type"])
    fine = work.tokens * VOXELS_PER_CELL ** (levels / 4)
    features, tables = 2 * widths[-2], 2 * 27 * 4  # of a voxel before the last up block
    if work.coordinates_only:
        return int(1.2 * fine / 4 * (features + tables) + fine * 60)  # 60: children, parents, coordinates
    finest = 2 * 2 * widths[-1] + 27 * 4 + 28
    shape = 0 if args.get("pred_subdiv", True) else int(fine * (86 if rung.tiles == 1 else 54))  # what waits for its colours
    if rung.tiles == 1:
        return shape + int(1.2 * fine / 4 * (features + tables) + fine * finest)  # levels above add a fifth
    share = min(1.0, 1.3 / rung.tiles + 0.02)  # of a tile, which overlaps the next ones a little
    part = fine / 4 * (features + tables) + fine * (finest + 27 * 4)  # with the table once more, as the kernel reads it
    return shape + int(
        1.2 * fine / 4 * features + share * part + fine * 90
    )  # 90: the rows that are finished already, and together


def _encoder_work(args: Mapping[str, Any], work: Work) -> int:
    """On the finest two levels: two streams and the table of neighbours of each, and what finding the levels takes."""
    fine = work.tokens * VOXELS_PER_CELL ** (len(args["down_block_type"]) / 4)
    first, second = args["model_channels"][:2]
    return int(fine * (2 * 2 * first + 27 * 4 + 80) + fine / 4 * (2 * 2 * second + 2 * 27 * 4))


def _widths(args: Mapping[str, Any]) -> tuple[int, int, int]:
    c = args["model_channels"]
    return c, int(c * args.get("mlp_ratio", 4)), args["num_blocks"]
