# SPDX-License-Identifier: Apache-2.0
"""Every generation of GPUs has tiles that fit its multiprocessors and what the matrix units take."""

import pytest
import torch

from native_ext import row_mlp
from native_ext.tap_order import TILE
from native_ext.tilings import shared_bytes, tiling_for

# bytes of shared memory that one program may have (CUDA programming guide, "technical specifications per compute capability")
SHARED = {
    (7, 5): 64,
    (8, 0): 163,
    (8, 6): 99,
    (8, 7): 163,
    (8, 9): 99,
    (9, 0): 227,
    (10, 0): 227,
    (10, 3): 227,
    (11, 0): 227,
    (12, 0): 99,
    (12, 1): 99,
}
WIDTHS = (8, 16, 24, 64, 128, 256, 512, 1024)


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tiles_fit_the_device(capability: tuple[int, int], dtype: torch.dtype) -> None:
    for ci in WIDTHS:
        for co in WIDTHS:
            tiling = tiling_for(capability, dtype, ci, co)
            assert shared_bytes(tiling, dtype.itemsize) <= SHARED[capability] * 1024
            assert TILE % tiling.rows == 0, "tiles of the tap order are cut into whole ones"
            assert tiling.co >= 16 and tiling.ci >= 16, "the matrix unit's least"
            assert tiling.rows * tiling.co / (32 * tiling.warps) <= 128, "sums of a thread that stay in registers"


def test_half_precision_takes_larger_tiles_where_there_is_room() -> None:
    hopper, turing = (tiling_for(which, torch.float16, 512, 512) for which in ((9, 0), (7, 5)))
    assert shared_bytes(hopper, 2) > 64 * 1024 >= shared_bytes(turing, 2)


def test_a_device_newer_than_the_table_gets_the_newest_entry() -> None:
    assert tiling_for((13, 0), torch.float16, 256, 256) == tiling_for((12, 0), torch.float16, 256, 256)


@pytest.mark.parametrize("capability", SHARED)
def test_the_feed_forward_kernel_fits_or_is_left_out(capability: tuple[int, int]) -> None:
    shared = SHARED[capability] * 1024
    chosen = {channels: row_mlp.tiling_for(channels, shared) for channels in (16, 32, 64, 128, 256, 512)}
    assert all(tiling is None or row_mlp.shared_bytes(tiling, channels) <= shared for channels, tiling in chosen.items())
    assert chosen[512] is None, "rows that wide do not fit a program"
    assert (chosen[128] is None) == (capability == (7, 5)) and (chosen[256] is None) == (SHARED[capability] < 227)
