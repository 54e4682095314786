# SPDX-License-Identifier: Apache-2.0
"""Speed of the submanifold convolution on a spherical shell: `python -m tests.benchmarks.submanifold_conv [SIDE]`.

Prints the time of the neighbour table, and of forward and forward + backward per width and dtype, after a check
of every kernel result against the torch reference.
"""

from __future__ import annotations

import sys
import time

import torch

from native_ext.neighbours import neighbour_table
from native_ext.submanifold_conv import _backend, _Reference, submanifold_conv


def shell(side: int, device: str) -> torch.Tensor:
    """Voxels of a sphere's surface, `[N, 4]`."""
    axis = torch.arange(side, device=device) - (side - 1) / 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    cells = ((radius - 0.42 * side).abs() < 0.75).nonzero().int()
    return torch.nn.functional.pad(cells, (1, 0))


def seconds(action, device: str, repeats: int = 5) -> float:
    """Mean time of an action after one warm-up."""
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


def main(side: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    coords = shell(side, device)
    table = neighbour_table(coords)
    taps = float((table >= 0).sum(1).float().mean())
    print(f"{device}: {len(coords)} voxels, {taps:.1f} taps each")
    print(f"neighbour table {1e3 * seconds(lambda: neighbour_table(coords), device):.2f} ms")
    for ci, co in ((16, 16), (32, 32), (32, 128), (64, 64), (64, 256), (128, 128), (128, 512)):
        for dtype in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
            feats = torch.randn(len(coords), ci, device=device, dtype=dtype, requires_grad=True)
            weight = torch.randn(co, 3, 3, 3, ci, device=device, dtype=dtype, requires_grad=True)
            grad = torch.randn(len(coords), co, device=device, dtype=dtype)
            flat = weight.detach().view(co, 27, ci)
            kernels = _backend(feats)
            with torch.no_grad():
                error = relative(kernels.convolve(feats, flat, None, table), _Reference.convolve(feats, flat, None, table))
                error_weight = relative(
                    kernels.weight_gradient(feats, grad, table), _Reference.weight_gradient(feats, grad, table)
                )
                forward = seconds(lambda f=feats, w=weight: submanifold_conv(f, w, None, table), device)

            def both(f=feats, w=weight, g=grad):
                torch.autograd.grad(submanifold_conv(f, w, None, table), (f, w), g)

            print(
                f"{ci:>4} -> {co:<4} {str(dtype)[6:]:<9} forward {1e3 * forward:8.2f} ms   forward+backward"
                f" {1e3 * seconds(both, device):8.2f} ms   error {error:.1e} weight gradient {error_weight:.1e}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
