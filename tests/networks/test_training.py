# SPDX-License-Identifier: Apache-2.0
"""The networks can be trained: every parameter gets a gradient, ragged batches equal their samples, children can be forced."""

import pytest
import torch
import torch.nn.functional as F

from genesis_server.networks.registry import build
from genesis_server.networks.sparse_unet import sample_posterior
from genesis_server.protocol.errors import GenesisError
from genesis_server.sparse import SparseTensor
from genesis_server.sparse.resample import subdivisions_between
from genesis_server.sparse.tensor import batch_sparse

FLOW = {
    "resolution": 4,
    "in_channels": 6,
    "out_channels": 6,
    "model_channels": 48,
    "cond_channels": 20,
    "num_blocks": 2,
    "num_heads": 2,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}
DECODER = {
    "model_channels": [32, 16, 16],
    "latent_channels": 4,
    "num_blocks": [1, 1, 1],
    "block_type": ["SparseConvNeXtBlock3d"] * 3,
    "up_block_type": ["SparseResBlockC2S3d"] * 2,
}
ENCODER = {
    "model_channels": [16, 16, 32],
    "latent_channels": 4,
    "num_blocks": [1, 1, 1],
    "block_type": ["SparseConvNeXtBlock3d"] * 3,
    "down_block_type": ["SparseResBlockS2C3d"] * 2,
}


def network(name: str, **args):
    torch.manual_seed(0)
    net = build({"name": name, "args": args})
    with torch.no_grad():  # away from the zero initialisation, which stops gradients on purpose
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net


def voxels(count: int, channels: int, side: int = 4, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(side**3, generator=generator)[:count].sort().values
    coords = torch.stack([torch.zeros_like(cells), cells // side**2, cells // side % side, cells % side], 1).int()
    return SparseTensor(torch.randn(count, channels, generator=generator), coords)


def assert_every_parameter_learns(net) -> None:
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("autocast", [False, True])
def test_latent_flow_learns_from_ragged_batches(autocast):
    net = network("SLatFlowModel", **FLOW)
    x = batch_sparse([voxels(20, 6, seed=1), voxels(9, 6, seed=2), voxels(33, 6, seed=3)])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = net(x, torch.tensor([10.0, 500.0, 900.0]), torch.randn(3, 7, 20))
    out.feats.square().mean().backward()
    assert_every_parameter_learns(net)


def test_structure_flow_learns():
    net = network("SparseStructureFlowModel", **FLOW)
    net(torch.randn(2, 6, 4, 4, 4), torch.tensor([10.0, 900.0]), torch.randn(2, 7, 20)).square().mean().backward()
    assert_every_parameter_learns(net)


def test_fresh_flow_predicts_zero():
    net = build({"name": "SLatFlowModel", "args": FLOW})
    assert not net(voxels(9, 6), torch.tensor([500.0]), torch.randn(1, 7, 20)).feats.any()


@pytest.mark.parametrize("lengths", [(7, 7, 7), (7, 3, 5)])
def test_ragged_batch_equals_its_samples(lengths):
    net = network("SLatFlowModel", **FLOW)
    samples = [voxels(20, 6, seed=1), voxels(9, 6, seed=2), voxels(33, 6, seed=3)]
    contexts = [torch.randn(n, 20) for n in lengths]
    t = torch.tensor([10.0, 500.0, 900.0])
    together = net(batch_sparse(samples), t, contexts)
    for b, sample in enumerate(samples):
        alone = net(sample, t[b : b + 1], contexts[b][None])
        # float32 attention with another summation order
        torch.testing.assert_close(together.sample(b)[1], alone.feats, atol=1e-5, rtol=1e-4)


def test_projected_context_is_the_context():
    net = network("SLatFlowModel", **FLOW)
    x, t, cond = voxels(20, 6), torch.tensor([300.0]), torch.randn(1, 7, 20)
    assert torch.equal(net(x, t, net.project_context(cond)).feats, net(x, t, cond).feats)


def test_zero_context_needs_no_attention():
    net = network("SLatFlowModel", **FLOW)
    x, t, cond = voxels(20, 6), torch.tensor([300.0]), torch.zeros(1, 7, 20)
    projected = net.project_context(cond)
    assert projected.blocks[0].keys_values is None
    # a mean of equal values, up to the rounding of the softmax weights
    torch.testing.assert_close(net(x, t, projected).feats, net(x, t, cond).feats, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pe_mode", ["rope", "ape"])
@pytest.mark.parametrize("known", [False, True])
def test_both_passes_of_guidance_share_their_beginning(known, pe_mode):
    net = network("SLatFlowModel", **(FLOW | {"in_channels": 10 if known else 6, "pe_mode": pe_mode}))
    x, t, cond = batch_sparse([voxels(20, 6), voxels(13, 6)]), torch.tensor([300.0, 700.0]), torch.randn(2, 7, 20)
    beside = x.replace(torch.randn(len(x), 4)) if known else None
    seeing, blind = net.project_context(cond), net.project_context(torch.zeros_like(cond))
    both = net.both(x, t, seeing, blind, False, beside)
    for velocity, context in zip(both, (seeing, blind), strict=True):
        assert torch.equal(velocity, net(x, t, context, beside).feats)


def test_both_passes_of_guidance_fit_one_batch():
    net = network("SLatFlowModel", **FLOW)
    x, t, cond = voxels(20, 6), torch.tensor([300.0]), torch.randn(1, 7, 20)
    seeing, blind = net.project_context(cond), net.project_context(torch.zeros_like(cond))
    for velocity, context in zip(net.both(x, t, seeing, blind, True), (seeing, blind), strict=True):
        # another batch size, another order of additions
        torch.testing.assert_close(velocity, net(x, t, context).feats, atol=1e-5, rtol=1e-4)


def test_both_passes_over_several_dense_states_fit_one_batch():
    net = network("SparseStructureFlowModel", **FLOW | {"resolution": 3})
    x, t, cond = torch.randn(2, 6, 3, 3, 3), torch.tensor([300.0, 900.0]), torch.randn(2, 7, 20)
    seeing, blind = net.project_context(cond), net.project_context(torch.zeros_like(cond))
    for velocity, context in zip(net.both(x, t, seeing, blind, True), (seeing, blind), strict=True):
        torch.testing.assert_close(velocity, net(x, t, context), atol=1e-5, rtol=1e-4)


def test_condition_of_another_batch_size_is_refused():
    net = network("SLatFlowModel", **FLOW)
    with pytest.raises(GenesisError, match="2 samples and conditions for 1"):
        net(batch_sparse([voxels(5, 6), voxels(6, 6)]), torch.tensor([1.0, 2.0]), torch.randn(1, 7, 20))


def test_shape_autoencoder_learns_with_true_children():
    encoder = network("FlexiDualGridVaeEncoder", **ENCODER)
    decoder = network("FlexiDualGridVaeDecoder", resolution=16, **DECODER)
    x = voxels(200, 3, side=16)
    truth = x.replace(torch.rand(len(x), 3))
    mean, logvar = encoder(truth, torch.rand(len(x), 3) > 0.5)
    children, order = subdivisions_between(mean.level, x.level, levels=2)
    latent = SparseTensor(sample_posterior(mean.feats, logvar.feats), mean.coords)
    decoded = decoder(latent, subdivisions=children)
    assert torch.equal(decoded.coords, x.coords[order])
    pairs = zip(decoded.subs, children, strict=True)
    subdivision_losses = [F.binary_cross_entropy_with_logits(sub.feats, mask.float()) for sub, mask in pairs]
    (decoded.raw.feats.square().mean() + sum(subdivision_losses) + logvar.feats.square().mean()).backward()
    assert_every_parameter_learns(encoder)
    assert_every_parameter_learns(decoder)


def test_texture_autoencoder_rebuilds_the_encoders_voxels_and_learns():
    encoder = network("SparseUnetVaeEncoder", in_channels=6, **ENCODER)
    decoder = network("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False, **DECODER)
    x = voxels(150, 6, side=16)
    mean, logvar = encoder(x)
    out = decoder(mean)
    assert out.level is x.level
    ((out.feats - x.feats).square().mean() + logvar.feats.square().mean()).backward()
    assert_every_parameter_learns(encoder)
    assert_every_parameter_learns(decoder)


def test_guided_decoder_shares_the_levels_of_its_guide():
    shape = network("FlexiDualGridVaeDecoder", resolution=16, **DECODER)
    texture = network("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False, **DECODER)
    z = voxels(20, 4)
    with torch.inference_mode():
        decoded = shape(z)
        out = texture(SparseTensor(torch.randn(20, 4), z.coords.clone()), guide_subs=decoded.subs)
    assert out.level is decoded.raw.level


def test_guide_for_other_voxels_is_refused():
    shape = network("FlexiDualGridVaeDecoder", resolution=16, **DECODER)
    texture = network("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False, **DECODER)
    with torch.inference_mode(), pytest.raises(GenesisError, match="guide has 20 voxels"):
        texture(voxels(20, 4, seed=5), guide_subs=shape(voxels(20, 4, seed=6)).subs)


def test_structure_autoencoder_learns():
    shared = {"latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1}
    encoder = network("SparseStructureEncoder", in_channels=1, channels=[8, 16], **shared)
    decoder = network("SparseStructureDecoder", out_channels=1, channels=[16, 8], **shared)
    mean, logvar = encoder((torch.rand(1, 1, 8, 8, 8) > 0.5).float())
    decoder(sample_posterior(mean, logvar)).square().mean().backward()
    assert_every_parameter_learns(encoder)
    assert_every_parameter_learns(decoder)
