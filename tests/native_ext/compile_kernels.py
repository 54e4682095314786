# SPDX-License-Identifier: Apache-2.0
"""What Triton's compiler makes of the kernels for GPUs that are not here: `python -m tests.native_ext.compile_kernels`.

Needs Triton but no GPU. Prints one JSON line per kernel and architecture: bytes of shared memory of a program, and whether the
matrix unit is used. Ends with an error where a kernel does not compile.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from native_ext import row_mlp
from native_ext.head_norm_triton import _norm_rotate_kernel
from native_ext.linear_silu import TILINGS
from native_ext.linear_silu_triton import _linear_silu_kernel
from native_ext.residual_norm_triton import _residual_norm_kernel
from native_ext.row_mlp_triton import _row_mlp_kernel
from native_ext.submanifold_conv_triton import _convolve_kernel
from native_ext.tilings import tiling_for
from tests.native_ext.test_tilings import SHARED

CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))  # those of the table
INTEGERS = dict.fromkeys(("sources", "rows", "taps", "active", "group"), "*i32")
COUNTS = dict.fromkeys(
    ("count", "row_tiles", "branch_rows", "offset_row", "length", "gate_batch", "scale_batch", "shift_batch", "phases_batch"),
    "i32",
)
SINGLES = dict.fromkeys(("norm_weight", "norm_bias", "gamma_first", "gamma_last", "phases"), "*fp32")


def compiled(kernel: Any, capability: tuple[int, int], half: str, constants: dict[str, Any], warps: int, stages: int) -> Any:
    """A kernel with these constants; every other argument has the type that its name stands for, or is a `half` tensor."""
    types = {**INTEGERS, **COUNTS, **SINGLES, "eps": "fp32"}
    signature = {name: "constexpr" if name in constants else types.get(name, f"*{half}") for name in kernel.arg_names}
    aligned = {
        (index,): [["tt.divisibility", 16]] for index, name in enumerate(kernel.arg_names) if signature[name].startswith("*")
    }
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    source = ASTSource(kernel, signature, values, aligned)
    return triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})


def convolution(capability: tuple[int, int], width: int, ordered: bool) -> Any:
    t = tiling_for(capability, torch.float16, width, width)
    constants = {"CI": width, "CO": width, "ORDERED": ordered, "HAS_BIAS": True, "ROWS_FIRST": False, "PRECISION": "ieee"}
    constants |= {"TILE": 128, "ROWS": t.rows, "BLOCK_CI": t.ci, "BLOCK_CO": t.co}
    constants |= {"STEPS": -(-width // t.ci), "CO_TILES": -(-width // t.co)}
    return compiled(_convolve_kernel, capability, "fp16", constants, t.warps, t.stages)


def feed_forward(capability: tuple[int, int], width: int) -> Any:
    t = row_mlp.tiling_for(width, SHARED[capability] * 1024)
    if t is None or capability < (8, 0):
        return None
    constants = {"CHANNELS": width, "HIDDEN": 4 * width, "ROWS": t.rows, "BLOCK": t.hidden, "STAGES": t.stages}
    return compiled(_row_mlp_kernel, capability, "fp16", constants, t.warps, 3)


def activated_product(capability: tuple[int, int]) -> Any:
    t = TILINGS.get(capability)
    if t is None:
        return None
    constants = {"INPUTS": 512, "OUTPUTS": 2048, "ROWS": t.rows, "BLOCK": t.outputs, "STEP": t.inputs}
    return compiled(_linear_silu_kernel, capability, "fp16", constants, t.warps, t.stages)


def norms(capability: tuple[int, int]) -> list[Any]:
    flags = ("HAS_BRANCH", "HAS_GATE", "HAS_OFFSET", "AFFINE", "SILU")
    constants = dict.fromkeys(flags, True) | {"CHANNELS": 1536, "ROWS": 1, "BLOCK": 2048}
    heads = {"PARTS": 3, "HEADS": 12, "HEAD_BLOCK": 16, "WIDTH": 128, "ROOT": 128**0.5, "NORMALISE": True, "ROTATE": True}
    return [
        compiled(_residual_norm_kernel, capability, "bf16", constants, 4, 3),
        compiled(_norm_rotate_kernel, capability, "bf16", heads | {"ROWS": 4}, 4, 3),
    ]


def main() -> None:
    for capability in CAPABILITIES:
        named = {"convolution": convolution(capability, 256, True)}
        named |= {f"feed-forward {width}": feed_forward(capability, width) for width in (128, 256)}
        named["product and SiLU"] = activated_product(capability)
        if capability in (CAPABILITIES[0], CAPABILITIES[-1]):  # they have no tiles
            named |= dict(zip(("residual norm", "head norm"), norms(capability), strict=True))
        for name, made in named.items():
            if made is None:
                continue
            matrix = any(word in made.asm["ptx"] for word in ("mma.sync", "wgmma.mma", "tcgen05.mma"))
            line = {"capability": capability, "kernel": name, "shared": made.metadata.shared, "matrix": matrix}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
