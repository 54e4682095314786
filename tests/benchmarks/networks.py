# SPDX-License-Identifier: Apache-2.0
"""Speed of the published networks with random weights: `python -m tests.benchmarks.networks [--json FILE] [ROW...]`.

First every fast path is compared with the plain one, in float32 and in half precision (relative L2 error). Then one line
per part: seconds, percent of the floor (its arithmetic at the rate of a large bf16 product on the same device), peak memory.
Rows are independent: one that fails prints why and the next one runs; none starts after `--seconds`. `--tiny` runs all of it
on small networks and on any device, to try the script itself.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genesis_server.networks.dual_grid_vae import FlexiDualGridVaeDecoder
from genesis_server.networks.latent_flow import SLatFlowModel
from genesis_server.networks.registry import build
from genesis_server.networks.sparse_unet import SparseUnetVaeDecoder
from genesis_server.networks.structure_flow import SparseStructureFlowModel
from genesis_server.pipeline.samplers import SamplerParameters, sample_flow
from genesis_server.pipeline.velocity import NetworkVelocity
from genesis_server.sparse.resample import coarsen, subdivisions_between
from genesis_server.sparse.tensor import Level, SparseTensor
from native_ext import head_norm, residual_norm
from native_ext.fast import plain
from native_ext.neighbours import neighbour_table
from native_ext.submanifold_conv import _Reference
from native_ext.tap_order import order_by_taps

SEED = 0
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
    "newsize": 0.5,
    "dino": 0.025,
}


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

    def peak(self, action: Callable[[], Any]) -> float:
        """GiB at most allocated while it runs, what was there before included."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        action()
        self.wait()
        return torch.cuda.max_memory_allocated() / 2**30

    def report(self, row: str, seconds: float, flop: float = 0.0, **extra: Any) -> None:
        """Print and keep one line."""
        entry = {"seconds": seconds, **extra}
        target = TARGETS.get(row)
        if flop:
            entry["floor"] = flop / self.rate
            entry["percent_of_floor"] = 100 * flop / self.rate / seconds
        if target:
            entry["target"] = target
        self.results[row] = entry
        words = [f"{row:14} {1e3 * seconds:9.1f} ms"]
        if target:
            words.append(f"target {1e3 * target:7.0f} ms {'ok' if seconds <= target else 'OVER'}")
        if flop:
            words.append(f"floor {1e3 * entry['floor']:7.1f} ms ({entry['percent_of_floor']:.0f} %)")
        words += [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in extra.items()]
        print("  ".join(words), flush=True)

    @cached_property
    def rate(self) -> float:
        """FLOP/s of a large bf16 product."""
        side = 512 if self.tiny else 8192
        a, b = (torch.randn(side, side, device=self.device, dtype=self.half) for _ in range(2))
        return 2 * side**3 / self.seconds(lambda: a @ b, 10, 3)

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

    def flow_flop(self, tokens: int, context: int, guided: bool = True) -> float:
        """Of one forward pass (docs/spec/networks.md 9), without what the unconditional pass need not compute."""
        c, blocks = self.flow["model_channels"], self.flow["num_blocks"]
        hidden = int(c * self.flow["mlp_ratio"])
        linear = 2 * (6 * c * c + 2 * c * hidden) if guided else 2 * (4 * c * c + 2 * c * hidden)
        return blocks * tokens * (linear + 4 * c * tokens + (4 * c * context if guided else 0))

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


def check(bench: Bench) -> bool:
    """Compare fast and plain paths; True when all agree."""
    good = True
    device = bench.device

    def compare(name: str, fast: Tensor, slow: Tensor, limit: float) -> None:
        nonlocal good
        error = relative(fast, slow)
        passed = error <= limit and bool(torch.isfinite(fast.float()).all())
        good &= passed
        bench.results[f"check {name}"] = {"relative": error, "limit": limit, "passed": passed}
        print(f"check {name:44} relative {error:.1e}  limit {limit:.0e}  {'ok' if passed else 'FAIL'}", flush=True)

    def guarded(action: Callable[[], None]) -> None:
        nonlocal good
        try:
            action()
        except Exception:  # noqa: BLE001  one broken kernel must not hide the others
            good = False
            traceback.print_exc(limit=-3)

    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        guarded(lambda dtype=dtype, limit=limit: _check_norms(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_flows(bench, dtype, limit, compare))
    for dtype, limit in ((torch.float32, 1e-5), (torch.float16, 3e-3)):
        guarded(lambda dtype=dtype, limit=limit: _check_convolution(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_decoders(bench, dtype, limit, compare))
    return good


def _check_norms(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    seed_everything()
    device, rows = bench.device, 7 if bench.tiny else 333
    h, branch = (torch.randn(2, rows, 1536, device=device, dtype=dtype) for _ in range(2))
    scale, shift, gate = (torch.randn(2, 1536, device=device, dtype=dtype) for _ in range(3))
    weight, bias = (torch.randn(1536, device=device) for _ in range(2))
    offset = torch.randn(1536, device=device, dtype=dtype)
    name = str(dtype)[6:]
    for label, arguments in {
        "modulated": (scale, shift, branch, gate, offset),
        "first": (scale, shift),
        "affine": (weight, bias, branch, gate),
    }.items():
        fast, slow = residual_norm.residual_norm(h, *arguments), residual_norm.reference(h, *arguments)
        compare(f"residual norm {label} {name}", torch.cat(fast), torch.cat(slow), limit)
    for width in (64, 1024):
        rows = torch.randn(99 if bench.tiny else 999, width, device=device, dtype=dtype)
        affine = (weight[:width], bias[:width])
        with plain():
            slow = residual_norm.norm_silu(rows, *affine)
        compare(f"norm silu {width} {name}", residual_norm.norm_silu(rows, *affine), slow, limit)
    qkv = torch.randn(2, 77, 3, 12, 128, device=device, dtype=dtype)
    gammas = (torch.randn(12, 128, device=device), torch.randn(12, 128, device=device))
    phases = torch.randn(1, 77, 64, 2, device=device)
    slow = torch.stack(head_norm.reference(qkv, gammas, phases))
    compare(f"head norm and rotation {name}", torch.stack(head_norm.norm_rotate_(qkv.clone(), gammas, phases)), slow, limit)


def _check_flows(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    args = bench.flow | {"num_blocks": 2, "in_channels": 32, "out_channels": 32}
    network = random_network({"name": "SLatFlowModel", "args": args}, bench.device, dtype)
    level, t = Level(bench.cells(bench.size(3000))), torch.tensor([700.0], device=bench.device)
    x = torch.randn(len(level.coords), 32, device=bench.device)
    tokens, nothing = bench.tokens(1029)
    velocity = NetworkVelocity(network, level)
    with plain():
        slow = velocity(x, t, tokens), velocity(x, t, nothing)
    seeing, blind = network.project_context(tokens), network.project_context(nothing)
    name = str(dtype)[6:]
    compare(f"flow {name}", velocity(x, t, seeing), slow[0], limit)
    compare(f"flow, no picture {name}", velocity(x, t, blind), slow[1], limit)
    compare(f"flow, both at once {name}", torch.cat(velocity.both(x, t, seeing, blind)), torch.cat(slow), limit)


def _check_convolution(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    from native_ext.submanifold_conv_triton import convolve

    seed_everything()
    device, side = bench.device, 8 if bench.tiny else 24
    cells = torch.nn.functional.pad((torch.rand(side, side, side, device=device) < 0.3).nonzero(), (1, 0)).int()
    table, name = neighbour_table(cells), str(dtype)[6:]
    parent, child = (torch.rand(len(cells), 8, device=device) < 0.4).nonzero(as_tuple=True)
    for ci, co in ((16, 64), (40, 24)) if bench.tiny else ((64, 64), (256, 256), (512, 1024), (40, 24)):
        feats = torch.randn(len(cells), ci, device=device, dtype=dtype)
        weight = torch.randn(co, 27, ci, device=device, dtype=dtype) / (27 * ci) ** 0.5
        bias = torch.randn(co, device=device, dtype=dtype)
        slow = _Reference.convolve(feats, weight, bias, table)
        compare(f"convolution {ci} to {co} {name}", convolve(feats, weight, bias, table), slow, limit)
        compare(f"  in tap order {name}", convolve(feats, weight, bias, order_by_taps(table)), slow, limit)
        if co % 8 == 0:
            slow = slow.view(-1, co // 8)[parent * 8 + child]
            fast = convolve(feats, weight, bias, order_by_taps(table, parent, child, 8))
            compare(f"  only some children {name}", fast, slow, limit)


def _check_decoders(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    args = bench.decoder | {"num_blocks": [1, 1, 1, 1, 0], "out_channels": 6}
    network = random_network({"name": "SparseUnetVaeDecoder", "args": args}, bench.device, dtype)
    count, side = (5, 4) if bench.tiny else (300, 12)
    latent, cells = torch.randn(count, args["latent_channels"], device=bench.device), bench.cells(count, side)
    masks = None
    outputs = []
    for context in (plain(), nullcontext()):
        with context:
            if masks is None:
                out, subs = network(SparseTensor(latent, cells), return_subs=True)
                masks = [sub.feats > 0 for sub in subs]
            else:
                out = network(SparseTensor(latent, cells), subdivisions=masks)
            outputs.append(out.feats)
    compare(f"decoder {str(dtype)[6:]}", outputs[1], outputs[0], limit)


def row_ceilings(bench: Bench) -> None:
    values = torch.empty(1 << (20 if bench.tiny else 30), device=bench.device, dtype=torch.float16)
    seconds = bench.seconds(values.clone, 10)
    print(f"bf16 product {bench.rate / 1e12:.0f} TFLOP/s, copy {4 * len(values) / seconds / 1e12:.2f} TB/s", flush=True)
    bench.results["ceilings"] = {"tflops": bench.rate / 1e12, "copy_tb_per_s": 4 * len(values) / seconds / 1e12}


def _sampling(bench: Bench, row: str, velocity: NetworkVelocity, noise: Tensor, tokens: int, stage: str, repeats: int) -> None:
    network = velocity._network
    positive, negative = (network.project_context(x) for x in bench.tokens(tokens))
    both = velocity.both if velocity.pairs(noise, negative) else None
    samples = None if velocity._level is None else velocity._level.slices

    def run() -> None:
        sample_flow(velocity, noise, [positive], negative, SAMPLERS[stage], samples, both=both)

    rows = noise[0, 0].numel() if samples is None else len(noise)
    once = bench.flow_flop(rows, bench.size(tokens)), bench.flow_flop(rows, bench.size(tokens), False)
    counts = {"structure": (12, 10), "shape": (12, 9), "texture": (12, 0)}[stage]
    seconds = bench.seconds(run, repeats, 1 if repeats > 1 else 0)
    bench.report(row, seconds, counts[0] * once[0] + counts[1] * once[1], paired=both is not None)


def row_structure(bench: Bench) -> None:
    noise = torch.randn(1, 8, 16, 16, 16, device=bench.device)
    _sampling(bench, "structure", NetworkVelocity(bench.structure_flow), noise, 1029, "structure", 3)
    # how long the host needs to queue one pass: where this comes near the pass itself, launches dominate
    velocity, t = NetworkVelocity(bench.structure_flow), torch.tensor([500.0], device=bench.device)
    positive = bench.structure_flow.project_context(bench.tokens(1029)[0])
    bench.wait()
    start = time.perf_counter()
    velocity(noise, t, positive)
    queued = time.perf_counter() - start
    bench.wait()
    print(f"               one pass {1e3 * (time.perf_counter() - start):.1f} ms, queued in {1e3 * queued:.1f} ms", flush=True)


def _sparse_state(bench: Bench, network: SLatFlowModel, tokens: int, known: bool = False) -> tuple[NetworkVelocity, Tensor]:
    level = Level(bench.cells(bench.size(tokens)))
    noise = torch.randn(len(level.coords), 32, device=bench.device)
    return NetworkVelocity(network, level, noise.flip(0) if known else None), noise


def row_shape512(bench: Bench) -> None:
    _sampling(bench, "shape512", *_sparse_state(bench, bench.shape_flow, 6046), 1029, "shape", 3)


def _forward(bench: Bench, row: str, tokens: int) -> None:
    velocity, noise = _sparse_state(bench, bench.shape_flow, tokens)
    t = torch.tensor([500.0], device=bench.device)
    image, nothing = bench.tokens(4101)
    positive, negative = bench.shape_flow.project_context(image), bench.shape_flow.project_context(nothing)
    seconds = bench.seconds(lambda: velocity(noise, t, positive), 3)
    without = bench.seconds(lambda: velocity(noise, t, negative), 3)
    peak = bench.peak(lambda: velocity(noise, t, positive))
    flop = bench.flow_flop(len(noise), bench.size(4101))
    bench.report(row, seconds, flop, unconditional_ms=1e3 * without, peak_gib=peak)


def row_forward28k(bench: Bench) -> None:
    _forward(bench, "forward28k", 28672)


def row_forward49k(bench: Bench) -> None:
    _forward(bench, "forward49k", 49152)


def row_shape1024(bench: Bench) -> None:
    _sampling(bench, "shape1024", *_sparse_state(bench, bench.shape_flow, 28672), 4101, "shape", 1)


def row_texture1024(bench: Bench) -> None:
    state = _sparse_state(bench, bench.texture_flow, 28672, True)
    _sampling(bench, "texture1024", *state, 4101, "texture", 1)


def row_newsize(bench: Bench) -> None:
    """What the first call at a size costs beyond the second."""
    t = torch.tensor([500.0], device=bench.device)
    positive = bench.shape_flow.project_context(bench.tokens(4101)[0])
    velocity, noise = _sparse_state(bench, bench.shape_flow, 27001)
    times = [bench.seconds(lambda: velocity(noise, t, positive), 1, 0) for _ in range(2)]
    bench.report("newsize", times[0] - times[1], first_ms=1e3 * times[0], second_ms=1e3 * times[1])


def row_decode(bench: Bench) -> None:
    coords, masks, count = bench.surface()
    seed_everything()
    channels = bench.decoder["latent_channels"]
    latent, texture = (torch.randn(len(coords), channels, device=bench.device) for _ in range(2))
    decoder, painter = bench.shape_decoder, bench.texture_decoder
    kept: list[Any] = []

    def shape() -> None:
        kept.clear()
        kept.append(decoder(SparseTensor(latent, coords), subdivisions=masks))

    def paint() -> None:
        painter(SparseTensor(texture, coords), guide_subs=guides())

    def guides() -> list[SparseTensor]:
        pairs = zip(kept[0].subs, masks, strict=True)
        return [sub.replace(mask.to(sub.dtype) * 2 - 1) for sub, mask in pairs]

    first = bench.seconds(shape, 1, 0)
    seconds = bench.seconds(shape, 3, 0)
    bench.report("decode", seconds, latent=len(coords), voxels=count, first_ms=1e3 * first, peak_gib=bench.peak(shape))
    paint()
    bench.report("decode_tex", bench.seconds(paint, 3, 0), peak_gib=bench.peak(paint))
    times = _stage_times(bench, decoder, SparseTensor(latent, coords), masks)
    print("               by block, ms:", "  ".join(f"{name} {1e3 * t:.1f}" for name, t in times.items()), flush=True)


def _stage_times(bench: Bench, decoder: Any, x: SparseTensor, masks: list[Tensor]) -> dict[str, float]:
    """Seconds of one plain block, of the up block, and of what a level's coordinates need, per level."""
    times: dict[str, float] = {}
    h = x.replace(decoder.from_latent(x.feats).to(decoder.dtype))

    def lap(name: str, action: Callable[[], Any]) -> Any:
        bench.wait()
        start = time.perf_counter()
        result = action()
        bench.wait()
        times[name] = time.perf_counter() - start
        return result

    for i, blocks in enumerate(decoder.blocks):
        lap(f"{i}:neighbours", lambda h=h: h.level.neighbours)
        lap(f"{i}:order", lambda h=h: h.level.tap_order)
        for block in blocks[: -1 if i < 4 else None]:
            h = lap(f"{i}:block", lambda block=block, h=h: block(h))
        if i < 4:
            h = lap(f"{i}:up", lambda blocks=blocks, h=h, i=i: blocks[-1](h, masks[i]))
    return times


def row_dino(bench: Bench) -> None:
    from genesis_server.networks.image_encoder import DinoV3FeatureExtractor

    seed_everything()
    config = DINO | ({"num_hidden_layers": 2} if bench.tiny else {})
    with bench.device:
        encoder = DinoV3FeatureExtractor(config, 1024).eval().requires_grad_(False)
    size = 128 if bench.tiny else 1024
    picture = torch.rand(1, 3, size, size, device=bench.device)
    with plain():
        exact = encoder(picture)
        slow = bench.seconds(lambda: encoder(picture), 3)
    error = relative(encoder(picture), exact)
    bench.report("dino", bench.seconds(lambda: encoder(picture), 5), fp32_ms=1e3 * slow, relative=error)


def row_attention(bench: Bench) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for name, queries, keys in (("self", 28672, 28672), ("cross", 28672, 4101), ("structure x2", 4096, 4096)):
        samples = 2 if name == "structure x2" else 1
        q, k, v = (
            torch.randn(samples, bench.size(n), 12, 128, device=bench.device, dtype=bench.half).transpose(1, 2)
            for n in (queries, keys, keys)
        )
        words = []
        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
            with sdpa_kernel(backend):
                try:
                    seconds = bench.seconds(lambda q=q, k=k, v=v: nn.functional.scaled_dot_product_attention(q, k, v), 5)
                except RuntimeError as error:
                    words.append(f"{backend.name} {str(error).splitlines()[0][:60]}")
                    continue
            rate = 4 * samples * q.shape[2] * k.shape[2] * 1536 / seconds / 1e12
            words.append(f"{backend.name} {1e3 * seconds:.2f} ms, {rate:.0f} TFLOP/s")
            bench.results[f"attention {name} {backend.name}"] = {"seconds": seconds, "tflops": rate}
        print(f"attention {name:14}", "  ".join(words), flush=True)


def row_products(bench: Bench) -> None:
    """The matrix products of a block at two sizes, with the activation riding along and without."""
    c, hidden = 1536, 8192
    for rows in (8192, 28672):
        words = []
        x, wide = (torch.randn(bench.size(rows), n, device=bench.device, dtype=bench.half) for n in (c, hidden))
        shapes = {"qkv": (c, 3 * c), "out": (c, c), "up": (c, hidden), "up+gelu": (c, hidden), "down": (hidden, c)}
        for name, (ci, co) in shapes.items():
            weight = torch.randn(co, ci, device=bench.device, dtype=bench.half)
            bias = torch.randn(co, device=bench.device, dtype=bench.half)
            source = wide if ci == hidden else x

            def product(name=name, source=source, weight=weight, bias=bias) -> Tensor:
                if name == "up+gelu":
                    return torch._addmm_activation(bias, source, weight.t(), use_gelu=True)
                return nn.functional.linear(source, weight, bias)

            seconds = bench.seconds(product, 10)
            words.append(f"{name} {1e3 * seconds:.3f} ms {2 * len(source) * ci * co / seconds / 1e12:.0f}")
        gelu = bench.seconds(lambda wide=wide: nn.functional.gelu(wide, approximate="tanh"), 10)
        print(f"products {rows} (ms, TFLOP/s)  ", "  ".join(words), f"  gelu alone {1e3 * gelu:.3f} ms", flush=True)


def row_tilings(bench: Bench) -> None:
    """Times of other tilings of the convolution, to write the table of `native_ext.submanifold_conv_triton` from."""
    from native_ext.submanifold_conv_triton import Tiling, convolve

    coords, masks, _ = bench.surface()
    level = Level(coords)
    widths = bench.decoder["model_channels"]
    from genesis_server.sparse.resample import subdivide

    for i, width in enumerate(widths[:4]):
        order = order_by_taps(level.neighbours)
        rows = len(level.coords)
        active = float(order.active.float().mean())
        feats = torch.randn(rows, width, device=bench.device, dtype=torch.float16)
        weight = torch.randn(width, 27, width, device=bench.device, dtype=torch.float16)
        words = [f"level {i}: {rows} rows x {width}, {active:.1f} taps a tile"]
        for tiling in (
            Tiling(128, 128, 64, 8, 3),
            Tiling(128, 128, 64, 8, 4),
            Tiling(128, 128, 32, 4, 4),
            Tiling(128, 256, 64, 8, 3),
            Tiling(64, 256, 64, 8, 3),
        ):
            if tiling.co > width:
                continue
            try:
                seconds = bench.seconds(lambda t=tiling, o=order, f=feats, w=weight: convolve(f, w, None, o, t), 3)
            except Exception as error:  # noqa: BLE001  a tiling may not fit this device
                words.append(f"{tuple(tiling)} {type(error).__name__}")
                continue
            rate = 2 * float(order.active.sum()) * 128 * width * width / seconds / 1e12
            words.append(f"{tuple(tiling)} {1e3 * seconds:.2f} ms {rate:.0f} TFLOP/s")
            bench.results[f"tiling {i} {tuple(tiling)}"] = {"seconds": seconds, "tflops": rate}
        print("\n   ".join(words), flush=True)
        level = subdivide(level, masks[i]).fine


ROWS = {name.removeprefix("row_"): action for name, action in list(globals().items()) if name.startswith("row_")}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, chosen.tiny)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    head = {"machine": name, "torch": torch.__version__, "commit": commit or "unknown", "seed": SEED}
    print(head, flush=True)
    agree = True
    with torch.inference_mode():
        if not chosen.no_check:
            agree = check(bench)
            print(
                f"checks done after {time.perf_counter() - began:.0f} s: {'all agree' if agree else 'SOME DIFFER'}", flush=True
            )
        for row in [] if chosen.check_only else chosen.rows or ROWS:
            if time.perf_counter() - began > chosen.seconds:
                print(f"{row:14} left out: {chosen.seconds:.0f} s are over", flush=True)
                continue
            try:
                ROWS[row](bench)
            except Exception as error:  # noqa: BLE001  the other rows are worth having
                print(f"{row:14} failed: {type(error).__name__}: {str(error)[:300]}", flush=True)
                traceback.print_exc(limit=-4, file=sys.stdout)
                bench.results[row] = {"error": f"{type(error).__name__}: {error}"}
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if chosen.json:
                chosen.json.write_text(json.dumps(head | {"rows": bench.results}, indent=1))
    print(f"done after {time.perf_counter() - began:.0f} s", flush=True)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
