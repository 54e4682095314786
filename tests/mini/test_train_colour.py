# SPDX-License-Identifier: Apache-2.0
"""The untrained texture autoencoder already carries the colours of objects it has not seen."""

import torch

from genesis_server.mini.autoencoder_training import scramble
from genesis_server.mini.colour_path import calibrate, carry_colour, cell_means
from genesis_server.mini.config import Sizes, build_network
from genesis_server.mini.supply import texture_input
from genesis_server.mini.world import World
from genesis_server.networks import sparse_unet
from genesis_server.sparse.tensor import Level, SparseTensor


def _attributes(world, seed, count):
    voxels = world.voxels(world.objects(seed, 0, count))
    return texture_input(voxels.attributes, Level(voxels.coords))


def _psnr(error):
    return float(-10 * torch.log10((error / 2).square().mean()))


def test_the_start_is_the_mean_colour_of_each_cell(monkeypatch):
    monkeypatch.setattr(sparse_unet, "_OUTPUT_ROWS", 1000)  # as large objects come out, in pieces
    torch.manual_seed(0)
    encoder, decoder = (build_network(f"texture_{part}", Sizes(32, 64)) for part in ("encoder", "decoder"))
    carry_colour(encoder, decoder)
    world = World("cpu", 32, 64)
    calibrate(encoder, decoder, _attributes(world, 1, 12))
    unseen = _attributes(world, 2, 8)
    with torch.no_grad():
        latent, _ = encoder(unseen)
        decoded = decoder(latent).feats
    means, parent = cell_means(unseen, latent.coords, 8)
    truth = unseen.feats[:, :3]
    best = _psnr(means[parent, :3] - truth)
    constant = _psnr(truth.mean(0) - truth)
    reached = _psnr(decoded[:, :3] - truth)
    # A random start stays at `constant`. 12 objects of 32^3 calibrate the read-outs roughly; on 128^3 it is 2 dB below `best`.
    assert reached > constant + 0.5 * (best - constant), (constant, reached, best)
    # The latent's first channels are the means themselves, which is what makes the texture flow's task easy.
    agreement = torch.corrcoef(torch.stack([latent.feats[:, 0], means[:, 0]]))[0, 1]
    assert agreement > 0.9


def test_scrambling_keeps_alpha_and_treats_a_sample_as_one():
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.int32)
    row = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 1.0])
    scrambled = scramble(SparseTensor(row.repeat(3, 1), coords), 2).feats
    assert torch.equal(scrambled[0], scrambled[1])
    assert torch.equal(scrambled[:, 5], torch.ones(3))
    assert torch.equal(scrambled[:, :3].abs().sort(1).values, row[:3].expand(3, 3))
