# SPDX-License-Identifier: Apache-2.0
"""Every fast path of the networks against the plain one; part of `tests.benchmarks.networks`."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from genesis_server.networks.float8 import use_float8
from genesis_server.pipeline.velocity import NetworkVelocity
from genesis_server.sparse.tensor import Level, SparseTensor
from native_ext import float8_product, head_norm, linear_silu, residual_norm
from native_ext.child_skip import add_child_skip_
from native_ext.fast import plain
from native_ext.neighbours import neighbour_table, refine_neighbours
from native_ext.row_mlp import add_row_mlp_
from native_ext.row_mlp import tiling_for as tiling_of_rows
from native_ext.submanifold_conv import _Reference
from native_ext.tap_order import order_by_taps
from native_ext.tilings import tiling_for
from tests.benchmarks.network_bench import Bench, random_network, relative, seed_everything

ARCHITECTURES = ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0))


def check(bench: Bench, quick: bool = False) -> bool:
    """Compare fast and plain paths; True when all agree."""
    good = True

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

    guarded(lambda: _check_orders(bench, compare))
    guarded(lambda: _check_float8(bench, compare))
    if quick:
        guarded(lambda: _check_flows(bench, torch.bfloat16, 1e-2, compare))
        guarded(lambda: _check_decoders(bench, torch.float16, 3e-3, compare))
        return good
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        guarded(lambda dtype=dtype, limit=limit: _check_norms(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_flows(bench, dtype, limit, compare))
    for dtype, limit in ((torch.float32, 1e-5), (torch.float16, 3e-3)):
        guarded(lambda dtype=dtype, limit=limit: _check_row_mlp(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_skip(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_convolution(bench, dtype, limit, compare))
        guarded(lambda dtype=dtype, limit=limit: _check_decoders(bench, dtype, limit, compare))
    guarded(lambda: _check_linear_silu(bench, compare))
    guarded(lambda: _check_tilings(bench, compare))
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
        "of one modulation": (scale[:1], shift[:1], branch, gate[:1], offset),
    }.items():
        fast, slow = residual_norm.residual_norm(h, *arguments), residual_norm.reference(h, *arguments)
        compare(f"residual norm {label} {name}", torch.cat(fast), torch.cat(slow), limit)
    into = torch.zeros(2, 2, *h.shape[1:], device=device, dtype=dtype)  # each result into one sample of a larger tensor
    residual_norm.residual_norm(h[1:], scale[1:], shift[1:], branch[1:], gate[1:], out=(into[0, 1:], into[1, 1:]))
    slow = residual_norm.reference(h[1:], scale[1:], shift[1:], branch[1:], gate[1:])
    compare(f"residual norm into {name}", into, torch.cat([torch.zeros_like(into[:, :1]), torch.stack(slow)], 1), limit)
    arguments = (h.float(), weight, bias, branch, weight[None])  # a stream more exact than its branches: the image encoder's
    found, expected = (ask(*arguments, dtype=dtype) for ask in (residual_norm.residual_norm, residual_norm.reference))
    for part, fast, slow in zip(("stream", "norm"), found, expected, strict=True):
        compare(f"residual norm of float32, {part} {name}", fast, slow, limit if part == "norm" else 1e-6)
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
    rotated = torch.stack(head_norm.reference(qkv, (None, None), phases))
    compare(f"rotation {name}", torch.stack(head_norm.norm_rotate_(qkv.clone(), (None, None), phases)), rotated, limit)
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
    state = SparseTensor(x, level)
    for together in (True, False):
        both = torch.cat(network.both(state, t, seeing, blind, together))
        compare(f"flow, both {'at once' if together else 'in turn'} {name}", both, torch.cat(slow), limit)


def _check_orders(bench: Bench, compare: Callable[..., None]) -> None:
    """Integer kernels: equal, not near."""
    seed_everything()
    side = 8 if bench.tiny else 40
    cells = torch.nn.functional.pad((torch.rand(side, side, side, device=bench.device) < 0.3).nonzero(), (1, 0)).int()
    table = neighbour_table(cells)
    parent, child = (torch.rand(len(cells), 8, device=bench.device) < 0.4).nonzero(as_tuple=True)
    for name, arguments in {"tap order": (), "tap order of children": (parent, child, 8)}.items():
        with plain():
            slow = order_by_taps(table, *arguments)
        fast = order_by_taps(table, *arguments)
        for part in ("rows", "sources", "taps", "active", "group"):
            compare(f"{name}, {part}", getattr(fast, part).float(), getattr(slow, part).float(), 0.0)
    with plain():
        slow = refine_neighbours(table, parent, child)
    compare("refined neighbours", refine_neighbours(table, parent, child).float(), slow.float(), 0.0)


def _check_float8(bench: Bench, compare: Callable[..., None]) -> None:
    """Rounded rows to the bit, and a product of rounded operands in one way and the other."""
    seed_everything()
    near = 5e-3 if bench.device.type == "cuda" else 6e-2  # the interpreter cuts bits off where the device rounds
    weight, bias = torch.randn(64, 192, device=bench.device), torch.randn(64, device=bench.device).bfloat16()
    for gelu in (False, True):
        x = torch.randn(333, 192, device=bench.device).bfloat16()
        with plain():
            slow, scale = float8_product.quantize_rows(x, gelu)
            operand = float8_product.quantize_rows(weight)
        fast = float8_product.quantize_rows(x, gelu)
        name = "rows in 8 bits" + (" of GELU" if gelu else "")
        compare(name, fast[0].float() * fast[1], slow.float() * scale, near)
        exact = torch.addmm(bias.float(), slow.float() * scale, (operand[0].float() * operand[1]).t())
        compare(f"product of {name}", float8_product.product(*fast, *operand, bias), exact, max(near, 1e-2))
    args = bench.flow | {"num_blocks": 2, "in_channels": 32, "out_channels": 32}
    network = random_network({"name": "SLatFlowModel", "args": args}, bench.device, torch.bfloat16)
    level, t = Level(bench.cells(bench.size(3000))), torch.tensor([700.0], device=bench.device)
    x, tokens = torch.randn(len(level.coords), 32, device=bench.device), bench.tokens(1029)[0]
    velocity = NetworkVelocity(network, level)
    exact = velocity(x, t, tokens)
    use_float8(network)
    with plain():
        slow = velocity(x, t, tokens)
    fast = velocity(x, t, tokens)
    compare("flow in 8 bits, kernels", fast, slow, max(near, 3e-2))
    compare("flow in 8 bits against bfloat16", fast, exact, 2e-1)


def _check_row_mlp(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    seed_everything()
    for channels in (32, 64) if bench.tiny else (64, 128, 256):
        affine = nn.LayerNorm(channels, eps=1e-6, device=bench.device)
        up, down = (
            nn.Linear(ci, co, device=bench.device, dtype=dtype)
            for ci, co in ((channels, 4 * channels), (4 * channels, channels))
        )
        h, x = torch.randn(2, 333, channels, device=bench.device, dtype=dtype)
        with plain():
            slow = add_row_mlp_(h.clone(), x, affine, up, down)
        compare(f"row mlp {channels} {str(dtype)[6:]}", add_row_mlp_(h.clone(), x, affine, up, down) - x, slow - x, limit)


def _check_linear_silu(bench: Bench, compare: Callable[..., None]) -> None:
    from native_ext import linear_silu_triton

    seed_everything()
    channels = 64 if bench.tiny else 512
    x = torch.randn(333, channels, device=bench.device, dtype=torch.float16)
    linear = nn.Linear(channels, 4 * channels, device=bench.device, dtype=torch.float16)
    with plain():
        slow = linear_silu.linear_silu(x, linear)
    compare("linear and SiLU", linear_silu.linear_silu(x, linear), slow, 3e-3)
    for tiling in (linear_silu.Tiling(128, 128, 64, 4, 3), linear_silu.Tiling(128, 256, 64, 8, 3)):
        fast = linear_silu_triton.linear_silu(x, linear, tiling)
        compare(f"linear and SiLU in tiles of {tuple(tiling)}", fast, slow, 3e-3)


def _check_skip(bench: Bench, dtype: torch.dtype, limit: float, compare: Callable[..., None]) -> None:
    seed_everything()
    x = torch.randn(500, 128, device=bench.device, dtype=dtype)
    slots = torch.randperm(4000, device=bench.device)[:1777]
    h = torch.randn(1777, 64, device=bench.device, dtype=dtype)
    with plain():
        slow = add_child_skip_(h.clone(), x, slots)
    compare(f"skip to children {str(dtype)[6:]}", add_child_skip_(h.clone(), x, slots), slow, limit)


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


def _check_tilings(bench: Bench, compare: Callable[..., None]) -> None:
    """The tiles that other architectures get, on this one."""
    from native_ext import row_mlp_triton
    from native_ext.submanifold_conv_triton import convolve

    seed_everything()
    side, width = (4, 32) if bench.tiny else (24, 256)
    cells = torch.nn.functional.pad((torch.rand(side, side, side, device=bench.device) < 0.3).nonzero(), (1, 0)).int()
    order = order_by_taps(neighbour_table(cells))
    feats = torch.randn(len(cells), width, device=bench.device, dtype=torch.float16)
    weight = torch.randn(width, 27, width, device=bench.device, dtype=torch.float16) / (27 * width) ** 0.5
    slow = _Reference.convolve(feats, weight, None, neighbour_table(cells))
    for tiling in sorted({tiling_for(known, torch.float16, width, width) for known in ARCHITECTURES}):
        compare(f"convolution in tiles of {tuple(tiling)}", convolve(feats, weight, None, order, tiling), slow, 3e-3)
    for channels in (32,) if bench.tiny else (64, 128, 256):
        affine = nn.LayerNorm(channels, eps=1e-6, device=bench.device)
        up, down = (
            nn.Linear(ci, co, device=bench.device, dtype=torch.float16)
            for ci, co in ((channels, 4 * channels), (4 * channels, channels))
        )
        h, x = torch.randn(2, 333, channels, device=bench.device, dtype=torch.float16)
        with plain():
            slow = add_row_mlp_(h.clone(), x, affine, up, down) - x
        for tiling in sorted({tiling_of_rows(channels, kib << 10) for kib in (99, 163, 227)} - {None}):
            fast = row_mlp_triton.add_row_mlp_(h.clone(), x, affine, up, down, tiling) - x
            compare(f"row mlp {channels} in tiles of {tuple(tiling)}", fast, slow, 3e-3)


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
