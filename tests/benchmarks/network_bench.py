# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of networks share: random networks of the published sizes, inputs, a clock, a report."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genesis_server.networks.attention import attend, fastest_attention
from genesis_server.networks.dual_grid_vae import FlexiDualGridVaeDecoder
from genesis_server.networks.latent_flow import SLatFlowModel
from genesis_server.networks.registry import build
from genesis_server.networks.sparse_unet import SparseUnetVaeDecoder
from genesis_server.networks.structure_flow import SparseStructureFlowModel
from genesis_server.pipeline.samplers import SamplerParameters
from genesis_server.pipeline.velocity import NetworkVelocity
from genesis_server.sparse.resample import coarsen, subdivisions_between
from genesis_server.sparse.tensor import Level

SEED = 0
H200_RATE = 790e12  # FLOP/s of a bf16 product there, which the bars were set against
SUSTAINED_SECONDS = 2.0  # after which a card's power limit has settled its clock
FLOW = {
    "resolution": 16,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 1536,
    "cond_channels": 1024,
    "num_blocks": 30,
    "num_heads": 12,
    "mlp_ratio": 5.3334,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}
DECODER = {
    "model_channels": [1024, 512, 256, 128, 64],
    "latent_channels": 32,
    "num_blocks": [4, 16, 8, 4, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4,
}
DINO = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 16,
    "num_register_tokens": 4,
    "rope_theta": 100.0,
    "layer_norm_eps": 1e-5,
    "key_bias": False,
    "image_size": 1024,
}
SAMPLERS = {  # docs/spec/pipeline.md 2.2
    "structure": SamplerParameters(1e-5, 12, 5.0, 7.5, 0.7, (0.6, 1.0)),
    "shape": SamplerParameters(1e-5, 12, 3.0, 7.5, 0.5, (0.6, 1.0)),
    "texture": SamplerParameters(1e-5, 12, 3.0, 1.0, 0.0, (0.6, 0.9)),
}
TARGETS = {  # seconds; decoding also GiB
    "structure": 0.45,
    "shape512": 0.80,
    "forward28k": 0.385,
    "shape1024": 8.0,
    "texture1024": 4.6,
    "forward49k": 0.95,
    "decode": 0.170,
    "decode_tex": 0.150,
    "newsize": 0.5,
    "dino": 0.025,
}


class Flop(NamedTuple):
    """Arithmetic of flow networks: of matrix products, and of attention itself."""

    products: float
    attention: float

    def times(self, factor: float) -> Flop:
        """The same so many times."""
        return Flop(factor * self.products, factor * self.attention)

    def plus(self, other: Flop) -> Flop:
        """Both together."""
        return Flop(self.products + other.products, self.attention + other.attention)

    def total(self) -> float:
        """All of it."""
        return self.products + self.attention


def seed_everything() -> None:
    torch.manual_seed(SEED)


@torch.no_grad()
def random_network(config: dict[str, Any], device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """A network of random weights that lets signals through: matrices scaled by their inputs, norms near one."""
    seed_everything()
    with torch.device("meta"):
        network = build(config, dtype)
    network = network.to_empty(device=device).eval().requires_grad_(False)
    for name, value in network.named_parameters():
        if value.ndim > 1 and not name.endswith("gamma"):
            value.normal_(0, (value[0].numel()) ** -0.5)
        elif name.endswith(("gamma", "norm2.weight", "norm.weight", "norm1.weight")):
            value.normal_(1, 0.1)
        else:
            value.normal_(0, 0.1)
    return network


def weight_bytes(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def relative(a: Tensor, b: Tensor) -> float:
    """Relative L2 error of a."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))


class Bench:
    """Networks, inputs and clock of one run; everything is made when the first row asks for it."""

    def __init__(self, device: torch.device, tiny: bool) -> None:
        self.device, self.tiny = device, tiny
        self.half = torch.bfloat16
        self.flow = FLOW | ({"model_channels": 64, "num_blocks": 2, "num_heads": 2, "cond_channels": 32} if tiny else {})
        narrow = {"model_channels": [64, 32, 32, 16, 16], "num_blocks": [1, 2, 1, 1, 0], "latent_channels": 8}
        self.decoder = DECODER | (narrow if tiny else {})
        self.results: dict[str, dict[str, Any]] = {}

    def size(self, tokens: int) -> int:
        return tokens // 64 if self.tiny else tokens

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, action: Callable[[], Any], repeats: int = 5, warm: int = 1) -> float:
        """Median seconds."""
        for _ in range(warm):
            action()
        times = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            action()
            self.wait()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def queued(self, action: Callable[[], Any]) -> tuple[float, float]:
        """Seconds until the host has queued a call, and until the device is done with it."""
        action()
        self.wait()
        start = time.perf_counter()
        action()
        queued = time.perf_counter() - start
        self.wait()
        return queued, time.perf_counter() - start

    def peak(self, action: Callable[[], Any]) -> float:
        """GiB at most allocated while it runs, beyond what was there before."""
        if self.device.type != "cuda":
            action()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**30

    def sustained(self, action: Callable[[], Any]) -> float:
        """Seconds of one call among many, queued one behind the other for long enough that the clock is that of steady work."""
        once = self.seconds(action, 1)
        repeats = max(3, int((0.01 if self.tiny else SUSTAINED_SECONDS) / max(once, 1e-5)))
        self.wait()
        start = time.perf_counter()
        for _ in range(repeats):
            action()
        self.wait()
        return (time.perf_counter() - start) / repeats

    def report(self, row: str, seconds: float, flop: Flop | None = None, **extra: Any) -> None:
        """Print and keep one line.

        With `flop` also two bounds at what this very card keeps up: all arithmetic at the rate of a large product, and
        products and attention each at the rate of the fastest kernel alone. And the share of the first that the bar asks for
        where it was set, on a card of 790 TFLOP/s: equal shares are equally good on cards of unequal speed.
        """
        entry: dict[str, Any] = {"seconds": seconds, **extra}
        target = TARGETS.get(row)
        words = [f"{row:14} {1e3 * seconds:9.1f} ms"]
        if target:
            entry["target"] = target
            words.append(f"bar {1e3 * target:6.0f} ms {'ok' if seconds <= target else 'OVER'}")
        if flop:
            floor = flop.total() / self.rate
            kernels = flop.products / self.rate + flop.attention / self.attention_rate
            entry |= {"floor": floor, "of_floor": floor / seconds, "kernels": kernels, "of_kernels": kernels / seconds}
            words.append(f"floor {1e3 * floor:7.1f} ms ({100 * floor / seconds:.0f} %")
            if target:
                entry["bar_of_floor"] = flop.total() / H200_RATE / target
                words[-1] += f", the bar asks {100 * entry['bar_of_floor']:.0f}"
            words[-1] += ")"
            words.append(f"its kernels alone {1e3 * kernels:7.1f} ms ({100 * kernels / seconds:.0f} %)")
        self.results[row] = entry
        words += [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in extra.items()]
        print("  ".join(words), flush=True)

    @cached_property
    def rate(self) -> float:
        """FLOP/s that the device keeps up in a large bf16 product."""
        side = 512 if self.tiny else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=self.half) for _ in range(2))
        return 2 * side**3 / self.sustained(lambda: a @ b)

    @cached_property
    def attention_rate(self) -> float:
        """FLOP/s that it keeps up in attention among 28,672 tokens."""
        tokens, heads, width = self.size(28672), self.flow["num_heads"], self.flow["model_channels"] // self.flow["num_heads"]
        q, k, v = torch.randn(3, 1, tokens, heads, width, device=self.device, dtype=self.half)
        with fastest_attention(self.device):
            return 4 * tokens**2 * heads * width / self.sustained(lambda: attend(q, k, v))

    @cached_property
    def shape_flow(self) -> SLatFlowModel:
        args = self.flow | {"in_channels": 32, "out_channels": 32}
        return random_network({"name": "SLatFlowModel", "args": args}, self.device, self.half)

    def with_ends(self, config: dict[str, Any]) -> nn.Module:
        """Another flow with the same blocks, so that all fit at once; only its first and last layers are its own."""
        blocks = self.shape_flow.blocks
        network = random_network({**config, "args": {**config["args"], "num_blocks": 1}}, self.device, self.half)
        network.blocks = blocks
        return network

    @cached_property
    def structure_flow(self) -> SparseStructureFlowModel:
        return self.with_ends({"name": "SparseStructureFlowModel", "args": self.flow})

    @cached_property
    def texture_flow(self) -> SLatFlowModel:
        return self.with_ends({"name": "SLatFlowModel", "args": self.flow | {"in_channels": 64, "out_channels": 32}})

    @cached_property
    def shape_decoder(self) -> FlexiDualGridVaeDecoder:
        args = self.decoder | {"resolution": 256}
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        return random_network({"name": "FlexiDualGridVaeDecoder", "args": args}, self.device, dtype)

    @cached_property
    def texture_decoder(self) -> SparseUnetVaeDecoder:
        args = self.decoder | {"out_channels": 6, "pred_subdiv": False}
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        return random_network({"name": "SparseUnetVaeDecoder", "args": args}, self.device, dtype)

    def tokens(self, count: int) -> tuple[Tensor, Tensor]:
        """Image tokens, and those of the unconditional pass."""
        seed_everything()
        tokens = torch.randn(1, self.size(count), self.flow["cond_channels"], device=self.device)
        return tokens, torch.zeros_like(tokens)

    def cells(self, count: int, side: int = 64) -> Tensor:
        """`count` cells of a grid, int32 `[count, 4]`."""
        seed_everything()
        chosen = torch.randperm(side**3, device=self.device)[:count].sort().values
        x = torch.stack([torch.zeros_like(chosen), chosen // side**2, chosen // side % side, chosen % side], dim=1)
        return x.int()

    def flow_flop(self, tokens: int, context: int, guided: bool = True) -> Flop:
        """Of one forward pass (docs/spec/networks.md 9), without what the unconditional pass need not compute."""
        c, blocks = self.flow["model_channels"], self.flow["num_blocks"]
        hidden = int(c * self.flow["mlp_ratio"])
        products = 2 * ((6 if guided else 4) * c * c + 2 * c * hidden)
        return Flop(tokens * products, tokens * 4 * c * (tokens + (context if guided else 0))).times(blocks)

    def shared_flop(self, tokens: int) -> Flop:
        """What both passes of guidance have in common: self-attention of the first block."""
        c = self.flow["model_channels"]
        return Flop(tokens * 8 * c * c, tokens * 4 * c * tokens)

    def surface(self) -> tuple[Tensor, list[Tensor], int]:
        """Latent cells of a bumpy surface, the subdivisions down to its voxels, and their number."""
        side = 64 if self.tiny else 1024
        axis = (torch.arange(side, device=self.device) - (side - 1) / 2) / side
        cells = []
        for i in range(side):
            radius = (axis[i] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
            bump = 0.02 * torch.sin(20 * axis[i]) * torch.sin(17 * axis[:, None]) * torch.sin(23 * axis)
            near = ((radius - 0.44 + bump).abs() < 0.85 / side) | ((radius - 0.31 - bump).abs() < 0.85 / side)
            found = near.nonzero().int()
            cells.append(torch.cat([found.new_zeros(len(found), 1), found.new_full((len(found), 1), i), found], dim=1))
        fine = Level(torch.cat(cells))
        level = fine
        for _ in range(4):
            level = coarsen(level)
        masks, _ = subdivisions_between(Level(level.coords), fine, 4)
        return level.coords, masks, len(fine.coords)


def sparse_state(bench: Bench, network: SLatFlowModel, tokens: int, known: bool = False) -> tuple[NetworkVelocity, Tensor]:
    level = Level(bench.cells(bench.size(tokens)))
    noise = torch.randn(len(level.coords), 32, device=bench.device)
    return NetworkVelocity(network, level, noise.flip(0) if known else None), noise
