# SPDX-License-Identifier: Apache-2.0
"""A decoder in tiles gives what it gives whole, row for row."""

import pytest
import torch

from genesis_server.networks.registry import build
from genesis_server.networks.tiles import make_tiles
from genesis_server.sparse.tensor import SparseTensor

ARGS = {
    "model_channels": [32, 16, 16],
    "latent_channels": 4,
    "num_blocks": [1, 2, 1],
    "block_type": ["SparseConvNeXtBlock3d"] * 3,
    "up_block_type": ["SparseResBlockC2S3d"] * 2,
}


def random(name: str, **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build({"name": name, "args": {**ARGS, **more}}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network


@pytest.fixture
def latent() -> SparseTensor:
    generator = torch.Generator().manual_seed(1)
    cells = (torch.rand(2, 14, 6, 5, generator=generator) < 0.3).nonzero().int()
    return SparseTensor(torch.randn(len(cells), 4, generator=generator), cells)


@pytest.mark.parametrize("tiles", [2, 3, 50])
def test_both_decoders_give_the_same_rows(latent: SparseTensor, tiles: int) -> None:
    shape, texture = (
        random("FlexiDualGridVaeDecoder", resolution=64),
        random("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False),
    )
    with torch.inference_mode():
        whole, parts = shape(latent), shape(latent, tiles=tiles)
        assert torch.equal(parts.coords, whole.coords)
        # matrix products of fewer rows may add in another order
        torch.testing.assert_close(parts.raw.feats, whole.raw.feats, atol=1e-5, rtol=1e-4)
        for a, b in zip(parts.subs, whole.subs, strict=True):
            assert torch.equal(a.coords, b.coords)
            torch.testing.assert_close(a.feats, b.feats, atol=1e-5, rtol=1e-4)
        painted, pieces = (texture(latent, guide_subs=voxels.subs, tiles=n) for voxels, n in ((whole, 1), (parts, tiles)))
        assert torch.equal(pieces.coords, whole.coords)
        torch.testing.assert_close(pieces.feats, painted.feats, atol=1e-5, rtol=1e-4)


def test_surroundings_matter(latent: SparseTensor) -> None:
    """With less of them than the convolutions reach the result differs: the comparison above can fail."""
    network = random("FlexiDualGridVaeDecoder", resolution=64)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        whole = network(latent)
        patch.setattr(
            "genesis_server.networks.sparse_unet.make_tiles", lambda coords, count, reach: make_tiles(coords, count, 1)
        )
        cut = network(latent, tiles=3)
    assert cut.raw.feats.shape != whole.raw.feats.shape or not torch.allclose(cut.raw.feats, whole.raw.feats, atol=1e-3)


def test_every_row_is_the_core_of_one_tile(latent: SparseTensor) -> None:
    tiles = make_tiles(latent.coords, 4, 2)
    assert len(tiles) == 4
    cores = torch.cat([tile.rows[tile.core] for tile in tiles])
    assert torch.equal(cores.sort().values, torch.arange(len(latent)))
    assert all(len(tile.rows) < len(latent) for tile in tiles)
