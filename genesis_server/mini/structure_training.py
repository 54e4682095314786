# SPDX-License-Identifier: Apache-2.0
"""Trains the structure autoencoder, then the image encoder and the structure flow together (docs/spec/mini.md 3, 4).

The published structure latent has no normalisation constants, so the finished autoencoder is rescaled instead: the
encoder's mean is divided by its root mean square per channel and the decoder's first kernel multiplied by it, which
changes no reconstruction (the kernel's zero padding stays zero).
"""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.mini.config import ENCODER_WIDTH, build_image_encoder, build_network
from genesis_server.mini.flow_loss import drop_condition, flow_loss
from genesis_server.mini.pool import Pool
from genesis_server.mini.supply import AUXILIARY, AUXILIARY_CHANNELS, CELLS, HELD_OUT_SEED, Supply, picture_tensor
from genesis_server.mini.training import Run, Training
from genesis_server.networks.sparse_unet import sample_posterior
from genesis_server.pipeline.samplers import SamplerParameters, sample_flow

SAMPLER = SamplerParameters(steps=12, rescale_t=3.0, guidance_strength=3.0)
CHUNK = 128  # objects voxelised at once: about 5 million voxels
MEASURE_SECONDS = 60.0
REFRESH_STEPS = 8  # a chunk of fresh objects costs about four steps


def train_structure_autoencoder(run: Run, seconds: float) -> None:
    """Phase "structure_autoencoder": occupancy to latent and back, then the rescaling."""
    supply = Supply(run, run.seed * 10 + 1)
    pool = Pool(run.scaled(4096), run.device)
    while pool.size < pool.capacity:
        count = min(run.scaled(CHUNK), pool.capacity - pool.size)
        pool.add({"occupancy": supply.occupancy(supply.objects(count))})
    encoder = build_network("structure_encoder", run.sizes).to(run.device)
    decoder = build_network("structure_decoder", run.sizes).to(run.device)
    networks = {"structure_encoder": encoder, "structure_decoder": decoder}
    training = Training(run, "structure_autoencoder", networks, dict.fromkeys(networks, 1.5e-3), seconds, average=0.998)
    while training.running():
        truth = _turned(pool.sample(run.scaled(64))["occupancy"]).float().unsqueeze(1)
        with run.autocast():
            mean, logvar = encoder(truth)
            logits = decoder(sample_posterior(mean.float(), logvar.float()))
        loss, parts = _autoencoder_loss(logits.float(), truth, mean.float(), logvar.float())
        training.step(loss, parts)
    for role, network in networks.items():
        network.load_state_dict(training.averaged(role))
    held_out = Supply(run, HELD_OUT_SEED)
    truth = held_out.occupancy(held_out.objects(run.scaled(CHUNK)))
    with torch.no_grad():
        mean = torch.cat([encoder(part.float().unsqueeze(1))[0] for part in truth.split(64)])
        guess = torch.cat([decoder(part) for part in mean.split(64)])[:, 0] > 0
    training.finish(iou=occupancy_iou(guess, truth), latent_rms=mean.square().mean().sqrt())
    _rescale(run, mean.square().mean((0, 2, 3, 4)).sqrt())


def _turned(occupancy: Tensor) -> Tensor:
    """Mirrored along x, y and with x and y exchanged, each for the whole batch at random."""
    flips = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
    occupancy = occupancy.flip(flips) if flips else occupancy
    return occupancy.transpose(1, 2) if torch.rand(()) < 0.5 else occupancy


def _autoencoder_loss(logits: Tensor, truth: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    bce = F.binary_cross_entropy_with_logits(logits, truth)
    guess = logits.sigmoid()
    dice = 1 - (2 * (guess * truth).sum() + 1) / (guess.sum() + truth.sum() + 1)
    kl = divergence(mean, logvar)
    return 10 * bce + dice + 1e-3 * kl, {"bce": bce, "dice": dice, "kl": kl}


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Mean per element of the KL divergence from the unit normal."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def _rescale(run: Run, rms: Tensor) -> None:
    encoder, decoder = run.load("structure_encoder"), run.load("structure_decoder")
    rms = rms.to(run.device).clamp(min=1e-3)
    latent = len(rms)
    encoder["out_layer.2.weight"][:latent] /= rms.view(-1, 1, 1, 1, 1)
    encoder["out_layer.2.bias"][:latent] /= rms
    decoder["input_layer.weight"] *= rms.view(1, -1, 1, 1, 1)
    run.save("structure_encoder", encoder)
    run.save("structure_decoder", decoder)


def occupancy_iou(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean over objects of the intersection over union of `[B, ...]` bool grids."""
    guess, truth = guess.flatten(1), truth.flatten(1).bool()
    return ((guess & truth).sum(1) / (guess | truth).sum(1).clamp(min=1)).float().mean()


def train_structure_flow(run: Run, seconds: float) -> None:
    """Phase "structure_flow": image encoder, its auxiliary read-out and the structure flow."""
    frozen = {role: load_frozen(run, role) for role in ("structure_encoder", "structure_decoder")}
    encoder = build_image_encoder(run.sizes).to(run.device).eval()  # training mode would jitter its positions
    networks = {
        "image_encoder": encoder,
        "auxiliary": nn.Linear(ENCODER_WIDTH, AUXILIARY_CHANNELS * CELLS**2).to(run.device),
        "structure_flow": build_network("structure_flow", run.sizes).to(run.device),
    }
    spare = {role: copy.deepcopy(networks[role]) for role in ("image_encoder", "structure_flow")}
    if run.compiled:
        compile_blocks(networks["structure_flow"].blocks)
        compile_blocks(encoder_layers(encoder))
    training = Training(run, "structure_flow", networks, dict.fromkeys(networks, 2.2e-3), seconds, average=0.998)
    supply = Supply(run, run.seed * 10 + 2, training.step_count * 64)
    pool = Pool(run.scaled(65536), run.device)
    held_out = held_out_objects(run)
    while pool.size < run.scaled(4096):
        _refresh(pool, supply, frozen["structure_encoder"], run.scaled(CHUNK))
    measured = training.elapsed
    while training.running():
        if training.step_count % REFRESH_STEPS == 0:
            _refresh(pool, supply, frozen["structure_encoder"], run.scaled(CHUNK))
        batch = pool.sample(run.scaled(256))
        with run.autocast():
            tokens = encoder(picture_tensor(batch["picture"]))
            guess = networks["auxiliary"](tokens[:, -(run.sizes.patches**2) :])
            auxiliary, parts = auxiliary_loss(guess.float(), batch["auxiliary"].float())
            velocity = partial(networks["structure_flow"], cond=drop_condition(tokens))
            loss = flow_loss(velocity, batch["latent"].float())
        training.step(loss + auxiliary, {"velocity": loss, **parts})
        if training.elapsed - measured > MEASURE_SECONDS:
            training.report(**measure_structures(run, training, spare, frozen["structure_decoder"], held_out))
            measured = training.elapsed
    training.finish(**measure_structures(run, training, spare, frozen["structure_decoder"], held_out))


def load_frozen(run: Run, role: str) -> nn.Module:
    """A finished network, without gradients."""
    network = build_network(role, run.sizes).to(run.device)
    network.load_state_dict(run.load(role))
    return network.eval().requires_grad_(False)


def load_frozen_encoder(run: Run) -> nn.Module:
    """The finished image encoder, without gradients."""
    encoder = build_image_encoder(run.sizes).to(run.device)
    encoder.load_state_dict(run.load("image_encoder"))
    return encoder.eval().requires_grad_(False)


def compile_blocks(blocks: nn.ModuleList) -> None:
    """Compile transformer blocks one by one: all have one shape, so the code is made once; what fails stays eager."""
    torch._dynamo.config.suppress_errors = True
    for block in blocks:
        block.compile(dynamic=False)


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """The transformer layers of a DINOv3 backbone, wherever its version keeps them."""
    backbone = encoder.backbone
    return backbone.layer if hasattr(backbone, "layer") else backbone.model.layer


@torch.no_grad()
def _refresh(pool: Pool, supply: Supply, encoder: nn.Module, count: int) -> None:
    objects = supply.objects(count)
    picture, auxiliary = supply.pictures(objects)
    with supply.run.autocast():
        latent, _ = encoder(supply.occupancy(objects).float().unsqueeze(1))
    pool.add({"picture": picture, "auxiliary": auxiliary, "latent": latent.half()})


def auxiliary_loss(guess: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Coverage by cross entropy, the rest by absolute error where the object covers the cell.

    Args:
        guess: `[B, P*P, 10*16]`, per patch the channels of its 4x4 cells.
        target: `[B, 10, 4P, 4P]`.
    """
    patches = target.shape[-1] // CELLS
    target = target.unflatten(-1, (patches, CELLS)).unflatten(-3, (patches, CELLS))  # B C Py cy Px cx
    target = target.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(-2)
    guess = guess.unflatten(-1, (AUXILIARY_CHANNELS, CELLS**2))
    cover = target[:, :, :1]
    parts = {"alpha": F.binary_cross_entropy_with_logits(guess[:, :, :1], cover)}
    for name, channels in AUXILIARY.items():
        if name != "alpha":
            error = (guess[:, :, channels] - target[:, :, channels]).abs().mean(2, keepdim=True)
            parts[name] = (error * cover).sum() / cover.sum().clamp(min=1)
    return sum(parts.values()), parts


def held_out_objects(run: Run) -> dict[str, Tensor]:
    supply = Supply(run, HELD_OUT_SEED)
    objects = supply.objects(run.scaled(CHUNK))
    return {"picture": supply.pictures(objects)[0], "occupancy": supply.occupancy(objects)}


@torch.no_grad()
def measure_structures(
    run: Run, training: Training, spare: dict[str, nn.Module], decoder: nn.Module, held_out: dict[str, Tensor]
) -> dict[str, Tensor]:
    """IoU of sampled structures of held-out objects, with the moving averages."""
    for role, network in spare.items():
        network.load_state_dict(training.averaged(role))
    side = run.sizes.structure_latent_grid
    with run.autocast():
        tokens = spare["image_encoder"](picture_tensor(held_out["picture"])).float()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(len(tokens), 8, side, side, side, generator=generator).to(run.device)
        latent = sample_flow(spare["structure_flow"], noise, [tokens], torch.zeros_like(tokens), SAMPLER)
    guess = decoder(latent.float())[:, 0] > 0
    truth = held_out["occupancy"].bool()
    coarse = [F.max_pool3d(grid.float().unsqueeze(1), 2)[:, 0] > 0 for grid in (guess, truth)]
    return {"iou_fine": occupancy_iou(guess, truth), "iou_coarse": occupancy_iou(*coarse)}
