# SPDX-License-Identifier: Apache-2.0
"""Files of all variants decode and are written byte for byte; O-Voxels survive; damage is named, never a crash."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.ovoxel.vxz import read_vxz, write_vxz
from genesis_server.ovoxel.vxz_container import decode_container, decode_header, encode_container
from genesis_server.protocol.errors import ErrorCode, GenesisError
from tests.analytic import torus, voxelize

DATA = Path(__file__).parents[1] / "data" / "geometry" / "vxz"
VARIANTS = sorted(DATA.glob("*_c*.vxz"))
pytest.importorskip("zstandard")


def layout_of(header):
    return {
        "chunk_size": header["chunk_size"],
        "filtering": header["filter"],
        "compression": header["compression"],
        "level": header["compression_level"],
        "interleave": header["attr_interleave"],
    }


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_every_variant_is_read_and_written_as_published(path):
    data = path.read_bytes()
    coords, parts, header = decode_container(data)
    expected = np.load(DATA / "expected.npz")
    ours, theirs = np.lexsort(coords.T), np.lexsort(expected["coord"].T)
    assert (coords[ours] == expected["coord"][theirs]).all()
    assert all((parts[name][ours] == expected[name][theirs]).all() for name in expected if name != "coord")
    shuffled = np.random.default_rng(0).permutation(len(coords))
    again = encode_container(coords[shuffled], {k: v[shuffled] for k, v in parts.items()}, **layout_of(header))
    assert again[decode_header(again)["start"] :] == data[header["start"] :]


def test_all_variants_are_there():
    assert len(VARIANTS) == 32


def test_several_chunks_come_in_file_order():
    coords, parts, _ = decode_container((DATA / "default_multichunk.vxz").read_bytes())
    expected = np.load(DATA / "default_multichunk_expected.npz")
    assert (coords == expected["coord"]).all() and (parts["v"] == expected["v"]).all()


def an_ovoxel(split=True):
    voxels = voxelize(torus(), 48)
    weight = torch.rand(len(voxels.coords), 1, generator=torch.Generator().manual_seed(0)) * 3 + 0.05
    return OVoxel(voxels.coords, voxels.dual_vertices, voxels.intersected, 48, weight if split else None, voxels.attributes)


def sort_key(coords):
    return ((coords[:, 0].long() << 20) + (coords[:, 1].long() << 10) + coords[:, 2]).argsort()


@pytest.mark.parametrize("compression", ["none", "deflate", "lzma", "zstd"])
def test_an_ovoxel_survives(tmp_path, compression):
    voxels = an_ovoxel()
    write_vxz(tmp_path / "a.vxz", voxels, compression=compression)
    back = read_vxz(tmp_path / "a.vxz")
    a, b = sort_key(voxels.coords), sort_key(back.coords)
    assert back.resolution == 48
    assert torch.equal(back.coords[b], voxels.coords[a]) and torch.equal(back.intersected[b], voxels.intersected[a])
    step = 1 / 255 + 1e-6  # truncation
    assert (back.dual_vertices[b] - voxels.dual_vertices[a]).abs().max() <= step
    assert (back.attributes[b] - voxels.attributes[a]).abs().max() <= step
    write_vxz(tmp_path / "b.vxz", back, compression=compression)  # a second trip changes nothing
    again = read_vxz(tmp_path / "b.vxz")
    assert torch.equal(again.split_weight, back.split_weight) and torch.equal(again.coords, back.coords)


def test_split_weights_keep_the_diagonals(tmp_path):
    voxels = an_ovoxel()
    write_vxz(tmp_path / "a.vxz", voxels)
    back = read_vxz(tmp_path / "a.vxz")
    order_in, order_back = sort_key(voxels.coords), sort_key(back.coords)
    weights = OVoxel(
        voxels.coords[order_in], voxels.dual_vertices[order_in], voxels.intersected[order_in], 48, voxels.split_weight[order_in]
    )
    stored = OVoxel(
        back.coords[order_back], weights.dual_vertices, back.intersected[order_back], 48, back.split_weight[order_back]
    )
    same = (extract_mesh(weights).faces == extract_mesh(stored).faces).all(1).float().mean()
    assert same > 0.97  # random weights of one decade: near ties within 4.4 % per weight may turn
    step = (torch.log2(back.split_weight[order_back]) - torch.log2(weights.split_weight)).abs().max()
    assert step <= 1 / 32 + 1e-5


def test_without_attributes_and_without_voxels(tmp_path):
    voxels = an_ovoxel(split=False)
    write_vxz(tmp_path / "a.vxz", OVoxel(voxels.coords, voxels.dual_vertices, voxels.intersected, 48))
    back = read_vxz(tmp_path / "a.vxz")
    assert back.attributes is None and back.split_weight is None
    write_vxz(tmp_path / "b.vxz", OVoxel(torch.zeros(0, 3).int(), torch.zeros(0, 3), torch.zeros(0, 3).bool(), 48))
    assert len(read_vxz(tmp_path / "b.vxz").coords) == 0


def test_every_truncation_and_any_flipped_byte_is_an_error_or_a_file():
    data = (DATA / "parent_lzma_as_is_c16.vxz").read_bytes()
    start = decode_header(data)["start"]
    for size in [0, 3, 7, 8, 50, start - 1, start, start + 100, len(data) - 1]:
        with pytest.raises(ValueError):
            decode_container(data[:size])
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(data), 600):
        broken = bytearray(data)
        broken[place] ^= 1 << rng.integers(8)
        try:
            decode_container(bytes(broken))
        except ValueError:
            continue


def foreign(**changes):
    header = {"num_voxel": 0, "chunk_size": 256, "filter": "none", "compression": "none", "compression_level": 0,
              "attr_interleave": "as_is", "attr": [["color", 3]], "chunks": []}  # fmt: skip
    text = json.dumps(header | changes).encode()
    return b"VXZ\0" + struct.pack(">I", 8 + len(text)) + text


def with_a_chunk_twice():
    data = (DATA / "parent_lzma_as_is_c16.vxz").read_bytes()
    header, body = decode_header(data), data[decode_header(data)["start"] :]
    changes = {"chunks": [*header["chunks"], header["chunks"][0]], "num_voxel": 2 * header["num_voxel"]}
    text = json.dumps({name: value for name, value in header.items() if name != "start"} | changes).encode()
    return b"VXZ\0" + struct.pack(">I", 8 + len(text)) + text + body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (with_a_chunk_twice(), "two of its chunks"),
        (b"PNG and so on", "does not begin"),
        (b"VXZ\x01" + bytes(20), "version 1"),
        (foreign()[:40], "cut off"),
        (foreign(chunk_size=100), "layout"),
        (foreign(filter="magic"), "layout"),
        (foreign(num_voxel=5), "missing"),
        (foreign(attr=[["x", -1]]), "damaged"),
        (foreign(), "no dual vertices"),
        (foreign(num_voxel=1, chunks=[{"idx": [0, 0, 0], "ptr": [0, 9], "svo": [0, 10**12]}]), "cut off"),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path, data, words):
    path = tmp_path / "x.vxz"
    path.write_bytes(data)
    with pytest.raises(GenesisError, match=words) as caught:
        read_vxz(path)
    assert caught.value.code == ErrorCode.BAD_ASSET and str(path) in caught.value.message


def test_a_missing_file_and_unstorable_voxels_are_named(tmp_path):
    with pytest.raises(GenesisError, match="No such file"):
        read_vxz(tmp_path / "none.vxz")
    twice = OVoxel(torch.ones(2, 3).int(), torch.zeros(2, 3), torch.zeros(2, 3).bool(), 8)
    with pytest.raises(GenesisError, match="occurs twice"):
        write_vxz(tmp_path / "a.vxz", twice)
    with pytest.raises(GenesisError, match="finite"):
        write_vxz(tmp_path / "a.vxz", OVoxel(twice.coords, twice.dual_vertices / 0, twice.intersected, 8))
    assert not (tmp_path / "a.vxz").exists()
