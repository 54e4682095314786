# SPDX-License-Identifier: Apache-2.0
"""Rows of `tests.benchmarks.networks` that say why: attention and products by themselves, tilings, a profile."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from genesis_server.networks.float8 import use_float8
from genesis_server.pipeline.samplers import sample_flow
from genesis_server.pipeline.velocity import NetworkVelocity
from genesis_server.sparse.resample import subdivide
from genesis_server.sparse.tensor import Level, SparseTensor
from native_ext.tap_order import order_by_taps
from tests.benchmarks.network_bench import SAMPLERS, Bench, relative, sparse_state


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


def row_profile(bench: Bench) -> None:
    """Where the device's time goes, by kernel."""
    from torch.profiler import ProfilerActivity, profile

    t = torch.tensor([500.0], device=bench.device)
    small, noise = NetworkVelocity(bench.structure_flow), torch.randn(1, 8, 16, 16, 16, device=bench.device)
    contexts = [bench.structure_flow.project_context(tokens) for tokens in bench.tokens(1029)]
    large, rows = sparse_state(bench, bench.shape_flow, 28672)
    image = bench.shape_flow.project_context(bench.tokens(4101)[0])
    coords, masks, _ = bench.surface()
    latent = torch.randn(len(coords), bench.decoder["latent_channels"], device=bench.device)
    found: list[SparseTensor] = []

    def paint() -> SparseTensor:
        if not found:
            found.extend(bench.shape_decoder(SparseTensor(latent, coords), subdivisions=masks).subs)
            found[:] = [sub.replace(mask.to(sub.dtype) * 2 - 1) for sub, mask in zip(found, masks, strict=True)]
        return bench.texture_decoder(SparseTensor(latent, coords), guide_subs=found)

    middle, cells = sparse_state(bench, bench.shape_flow, 6046)
    projected = [bench.shape_flow.project_context(tokens) for tokens in bench.tokens(1029)]
    actions = {
        "structure, both passes": lambda: small.both(noise, t, *contexts),
        "6k tokens, both passes": lambda: middle.both(cells, t, *projected),
        "28k tokens": lambda: large(rows, t, image),
        "decode": lambda: bench.shape_decoder(SparseTensor(latent, coords), subdivisions=masks),
        "decode the texture": paint,
    }
    repeats = 4
    for name, action in actions.items():
        action()
        bench.wait()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as looked:
            for _ in range(repeats):  # at the clock of a device that is warm, one run queued behind the other
                action()
            bench.wait()
        times: dict[str, list[float]] = {}
        spans = []
        for event in looked.events():
            if event.device_type == torch.autograd.DeviceType.CUDA:
                times.setdefault(event.name, []).append(event.device_time)
                spans.append((event.time_range.start, event.time_range.end))
        if not spans:  # no GPU
            continue
        total = sum(map(sum, times.values())) / repeats
        span = (max(end for _, end in spans) - min(start for start, _ in spans)) / repeats
        print(f"profile {name}: {total / 1e3:.1f} ms on the device, {span / 1e3:.1f} with the gaps", flush=True)
        for kernel, each in sorted(times.items(), key=lambda item: -sum(item[1]))[:16]:
            print(f"   {sum(each) / 1e3 / repeats:8.2f} ms {len(each) // repeats:5d} x  {kernel[:90]}", flush=True)


def row_fast(bench: Bench) -> None:
    """The `fast` mode against the published precision: 8-bit products in one pass, then a whole shape with joined steps."""
    t, network = torch.tensor([500.0], device=bench.device), bench.shape_flow
    image, nothing = (network.project_context(tokens) for tokens in bench.tokens(4101))
    little = [network.project_context(tokens) for tokens in bench.tokens(1029)]
    small, cells = sparse_state(bench, network, 6046)
    large, rows = sparse_state(bench, network, 28672)
    eighth = use_float8(copy.deepcopy(network))
    pair = NetworkVelocity(eighth, small._level)
    alone = NetworkVelocity(eighth, large._level)
    for name, slow, quick in (
        ("fast6k", lambda: torch.cat(small.both(cells, t, *little)), lambda: torch.cat(pair.both(cells, t, *little))),
        ("fast28k", lambda: large(rows, t, image), lambda: alone(rows, t, image)),
    ):
        before, error = bench.seconds(slow, 3), relative(quick(), slow())
        bench.report(name, bench.seconds(quick, 3), bf16_ms=1e3 * before, relative=error)
    joined = SAMPLERS["shape"].replace({"merge_late": True})

    for name, velocity in (("joined1024", large), ("fast1024", alone)):

        def run(velocity: NetworkVelocity = velocity) -> None:
            sample_flow(velocity, rows, [image], nothing, joined, large._level.slices)

        bench.report(name, bench.seconds(run, 1, 0), passes=14)


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
