# SPDX-License-Identifier: Apache-2.0
"""Speed of the published networks with random weights: `python -m tests.benchmarks.networks [--json FILE] [ROW...]`.

First every fast path is compared with the plain one, in float32 and in half precision (relative L2 error). Then one line
per part: seconds, its arithmetic at the rates that the same card keeps up in the same run, peak memory; at the end all of it
as a table. Rows are independent: one that fails prints why and the next one runs; none starts after `--seconds`. `--tiny`
runs all of it on small networks and on any device, to try the script itself.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genesis_server.networks.residence import HostCopy
from genesis_server.pipeline.memory import LADDER, MemoryPlan, Network, Work
from genesis_server.pipeline.samplers import sample_flow
from genesis_server.pipeline.velocity import NetworkVelocity
from genesis_server.sparse.tensor import SparseTensor
from native_ext.fast import plain
from tests.benchmarks import network_probes
from tests.benchmarks.network_bench import (
    DINO,
    SAMPLERS,
    SEED,
    Bench,
    relative,
    seed_everything,
    sparse_state,
    weight_bytes,
)
from tests.benchmarks.network_checks import check


def row_ceilings(bench: Bench) -> None:
    """What the card itself can do: for a moment, and for as long as its power limit lets it."""
    side, count = (512, 1 << 20) if bench.tiny else (8192, 1 << 30)
    a, b = (torch.randn(side, side, device=bench.device, dtype=bench.half) for _ in range(2))
    values = torch.empty(count, device=bench.device, dtype=torch.float16)
    found = {
        "product_for_a_moment": 2 * side**3 / bench.seconds(lambda: a @ b, 10, 3) / 1e12,
        "product": bench.rate / 1e12,
        "attention": bench.attention_rate / 1e12,
        "copy_tb_per_s": 4 * count / bench.seconds(values.clone, 10) / 1e12,
    }
    print("  ".join(f"{name} {value:.4g}" for name, value in found.items()), "(TFLOP/s, bf16)", flush=True)
    bench.results["ceilings"] = found


def _sampling(bench: Bench, row: str, velocity: NetworkVelocity, noise: Tensor, tokens: int, stage: str, repeats: int) -> None:
    network = velocity._network
    positive, negative = (network.project_context(x) for x in bench.tokens(tokens))
    samples = None if velocity._level is None else velocity._level.slices

    def run() -> None:
        sample_flow(velocity, noise, [positive], negative, SAMPLERS[stage], samples, both=velocity.both)

    rows = noise[0, 0].numel() if samples is None else len(noise)
    seeing, blind = (bench.flow_flop(rows, bench.size(tokens), guided) for guided in (True, False))
    passes, guided = {"structure": (12, 10), "shape": (12, 9), "texture": (12, 0)}[stage]
    seconds = bench.seconds(run, repeats, 1 if repeats > 1 else 0)
    flop = seeing.times(passes).plus(blind.times(guided)).plus(bench.shared_flop(rows).times(-guided))
    bench.report(row, seconds, flop, paired=velocity.pairs(noise))


def row_structure(bench: Bench) -> None:
    noise, t = torch.randn(1, 8, 16, 16, 16, device=bench.device), torch.tensor([500.0], device=bench.device)
    velocity = NetworkVelocity(bench.structure_flow)
    _sampling(bench, "structure", velocity, noise, 1029, "structure", 3)
    # how long the host needs to queue both passes of guidance: where this comes near their time, launches dominate
    contexts = [bench.structure_flow.project_context(tokens) for tokens in bench.tokens(1029)]
    queued, whole = bench.queued(lambda: velocity.both(noise, t, *contexts))
    print(f"               both passes {1e3 * whole:.1f} ms, queued in {1e3 * queued:.1f} ms", flush=True)


def row_shape512(bench: Bench) -> None:
    _sampling(bench, "shape512", *sparse_state(bench, bench.shape_flow, 6046), 1029, "shape", 3)


def _forward(bench: Bench, row: str, tokens: int) -> None:
    velocity, noise = sparse_state(bench, bench.shape_flow, tokens)
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
    _sampling(bench, "shape1024", *sparse_state(bench, bench.shape_flow, 28672), 4101, "shape", 1)


def row_texture1024(bench: Bench) -> None:
    state = sparse_state(bench, bench.texture_flow, 28672, True)
    _sampling(bench, "texture1024", *state, 4101, "texture", 1)


def row_newsize(bench: Bench) -> None:
    """What the first call at a size costs beyond the second."""
    t = torch.tensor([500.0], device=bench.device)
    positive = bench.shape_flow.project_context(bench.tokens(4101)[0])
    velocity, noise = sparse_state(bench, bench.shape_flow, 27001)
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
    kept.clear()
    peak = bench.peak(shape) + weight_bytes(decoder) / 2**30
    bench.report("decode", seconds, latent=len(coords), voxels=count, first_ms=1e3 * first, peak_gib=peak)
    paint()
    peak = bench.peak(paint) + weight_bytes(painter) / 2**30
    bench.report("decode_tex", bench.seconds(paint, 3, 0), peak_gib=peak)
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
    others = torch.rand(2, 3, size // 2, size // 2, device=bench.device)  # another size and number, after the first
    with plain():
        exact = encoder(others)
    errors = {"relative": error, "relative_of_two_half_the_size": relative(encoder(others), exact)}
    seconds = bench.seconds(lambda: encoder(picture), 5)
    h, phases = encoder.backbone.embeddings(picture), encoder.backbone.rope_embeddings(picture)
    queued, _ = bench.queued(lambda: encoder.advance_in_half(h, phases))
    bench.report("dino", seconds, fp32_ms=1e3 * slow, queued_ms=1e3 * queued, **errors)


def row_memory(bench: Bench) -> None:
    """The largest uses of a 1024_cascade under hard budgets: time, peak, prediction.

    Leaves the networks' weights on the host, so it comes last; what earlier rows left on the device is added to the limit.
    """
    config = {
        "flow": (bench.shape_flow, bench.flow, Work(bench.size(28672), bench.size(4101))),
        "decoder": (bench.shape_decoder, bench.decoder, Work(bench.size(24700))),
    }
    networks = {role: Network(args, weight_bytes(network)) for role, (network, args, _) in config.items()}
    for network, _, _ in config.values():
        network.cpu()
    t, (velocity, noise) = torch.tensor([500.0], device=bench.device), sparse_state(bench, bench.shape_flow, 28672)
    tokens, latent = (
        bench.tokens(4101)[0],
        torch.randn(bench.size(24700), bench.decoder["latent_channels"], device=bench.device),
    )
    cells = bench.cells(bench.size(24700))
    for budget in (None, 8e9, 6e9, 4e9):
        plan = MemoryPlan(networks, None if budget is None else int(budget))
        plan.floor = 1  # one network at a time, as a whole model needs it below 16 GB
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
            total, others = torch.cuda.get_device_properties(bench.device).total_memory, torch.cuda.memory_allocated()
            torch.cuda.set_per_process_memory_fraction(min(1.0, (budget + others if budget else total) / total))
        for role, (network, _, work) in config.items():
            rung = plan.rung(role, work)

            def run(role=role, network=network, rung=rung) -> None:
                if role == "flow":
                    velocity(noise, t, network.project_context(tokens) if rung.keep_context else tokens)
                else:
                    network(SparseTensor(latent, cells), **({"tiles": rung.tiles} if rung.tiles > 1 else {}))

            def use(network=network, rung=rung, run=run, role=role) -> float:
                if rung.stream and role == "flow":
                    with HostCopy(network, bench.device).streamed():
                        return bench.seconds(run, 1, 1)
                network.to(bench.device)
                seconds = bench.seconds(run, 1, 1)
                network.cpu()
                return seconds

            seconds: list[float] = []
            predicted, where = plan.predict(role, rung, work) / 2**30, LADDER.index(rung)
            name = f"memory {role:8} budget {'none' if budget is None else f'{budget / 1e9:.0f} GB':5} rung {where}"
            try:
                peak = bench.peak(lambda use=use, seconds=seconds: seconds.append(use()))
            except torch.OutOfMemoryError:
                print(f"{name}  out of memory  predicted {predicted:.2f} GiB", flush=True)
                continue
            print(f"{name}  {1e3 * seconds[0]:8.1f} ms  peak {peak:.2f} GiB  predicted {predicted:.2f} GiB", flush=True)
            bench.results[f"memory {role} {budget}"] = {
                "seconds": seconds[0],
                "peak": peak,
                "predicted": predicted,
                "rung": where,
            }

    if bench.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)


def print_table(bench: Bench) -> None:
    """What was measured, in the form of docs/performance.md."""
    rows = {name: entry for name, entry in bench.results.items() if "target" in entry}
    if not rows:
        return
    print("| part | bar | measured | floor at this card's rate | of it | the bar asks | its kernels alone | of them |")
    print("|---|---|---|---|---|---|---|---|")
    for name, entry in rows.items():
        cells = [name, f"{1e3 * entry['target']:.0f} ms", f"{1e3 * entry['seconds']:.1f} ms", *[""] * 5]
        if "floor" in entry:
            cells[3:] = (
                f"{1e3 * entry['floor']:.0f} ms",
                f"{100 * entry['of_floor']:.0f} %",
                f"{100 * entry['bar_of_floor']:.0f} %",
                f"{1e3 * entry['kernels']:.0f} ms",
                f"{100 * entry['of_kernels']:.0f} %",
            )
        print("|", " | ".join(cells), "|", flush=True)


ROWS = {name.removeprefix("row_"): action for name, action in list(globals().items()) if name.startswith("row_")}
ROWS |= {name.removeprefix("row_"): action for name, action in vars(network_probes).items() if name.startswith("row_")}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--quick", action="store_true", help="check only a part")
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
            agree = check(bench, chosen.quick)
            print(
                f"checks done after {time.perf_counter() - began:.0f} s: {'all agree' if agree else 'SOME DIFFER'}", flush=True
            )
        if not chosen.check_only and chosen.rows:
            row_ceilings(bench)
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
    print_table(bench)
    print(f"done after {time.perf_counter() - began:.0f} s", flush=True)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
