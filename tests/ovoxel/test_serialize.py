# SPDX-License-Identifier: Apache-2.0
"""Space-filling orders and octree streams against the goldens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.ovoxel.octree import (
    decode_octree,
    encode_octree,
    filter_neighbor,
    filter_parent,
    unfilter_neighbor,
    unfilter_parent,
)
from genesis_server.ovoxel.serialize import hilbert_decode, hilbert_encode, morton_decode, morton_encode

DATA = Path(__file__).parents[1] / "data" / "geometry"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_thirty_bit_codes(order):
    g = np.load(DATA / "serialize.npz")
    coords, name = torch.from_numpy(g["coords"])[:, list(order)], "".join(map(str, order))
    for encode, decode, key in ((morton_encode, morton_decode, "z_order"), (hilbert_encode, hilbert_decode, "hilbert")):
        code = encode(coords)
        assert (code.numpy() == g[f"{key}_{name}"]).all()
        assert torch.equal(decode(code), coords)


@pytest.mark.parametrize("bits", [3, 6, 9, 10, 11, 12, 20])
def test_batched_codes_put_the_batch_above(bits):
    g = np.load(DATA / "serialize.npz")
    batched = torch.from_numpy(g[f"batched_b{bits}_coords"])
    for encode, key in ((morton_encode, "z_order"), (hilbert_encode, "hilbert")):
        if (golden := g.get(f"batched_b{bits}_{key}")) is not None:
            code = encode(batched[:, 1:], bits) | batched[:, 0].long() << 3 * bits
            assert (code.numpy().astype(golden.dtype) == golden).all()


def test_neighbours_on_the_hilbert_curve_touch():
    steps = hilbert_decode(torch.arange(4096), bits=4).diff(dim=0).abs().sum(1)
    assert (steps == 1).all()


def test_large_coordinates_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        morton_encode(torch.tensor([[1024, 0, 0]]))


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_octree_streams_and_filters(depth):
    g = np.load(DATA / "svo.npz")
    codes, values = g[f"d{depth}_code"].astype(np.int64), g[f"d{depth}_attr"]
    stream = g[f"d{depth}_svo"].tobytes()
    assert encode_octree(codes, depth) == stream and (decode_octree(stream, depth) == codes).all()
    for apply, undo, key in ((filter_parent, unfilter_parent, "parent"), (filter_neighbor, unfilter_neighbor, "neighbor")):
        assert (apply(codes, values, depth) == g[f"d{depth}_{key}"]).all()
        assert (undo(codes, apply(codes, values, depth), depth) == values).all()


@pytest.mark.parametrize("stream", [b"", b"\x01", b"\x01\x00", b"\x01\x01\x01", b"\x00\x01"])
def test_what_is_no_octree_is_refused(stream):
    with pytest.raises(ValueError):
        decode_octree(stream, 2)
