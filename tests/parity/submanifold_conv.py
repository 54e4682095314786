# SPDX-License-Identifier: Apache-2.0
"""Runner for the outputs of the reference GPU convolution (`flexgemm.npz`).

The fp32 golden differs from float32 sums in another order by 7e-7; the fp16 tensor-core result by its roundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from native_ext.neighbours import neighbour_table
from native_ext.submanifold_conv import submanifold_conv
from tests.parity import Limit, Outcome, compare


@torch.no_grad()
def run(folder: Path) -> Iterator[Outcome]:
    """Outcomes of the case in a folder."""
    path = folder / "flexgemm.npz"
    if not path.is_file():
        return
    with np.load(path) as arrays:
        io = {name: torch.from_numpy(arrays[name].view(np.int32) if name.endswith("_map") else arrays[name]) for name in arrays}
    table = neighbour_table(io["conv_coords"])
    yield compare("flexgemm neighbour table", Limit(), [("table", table, io["conv_neighbor_map"])])
    feats, weight, bias = io["conv_feats"], io["conv_weight"], io["conv_bias"]
    out = submanifold_conv(feats, weight, bias, table)
    yield compare("flexgemm fp32", Limit(relative=2e-6), [("out", out, io["conv_out_explicit_fp32"])])
    out = submanifold_conv(feats.half(), weight, bias, table)
    yield compare("flexgemm fp16", Limit(relative=3e-3), [("out", out, io["conv_out_triton_fp16"])])
