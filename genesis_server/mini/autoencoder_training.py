# SPDX-License-Identifier: Apache-2.0
"""Trains the shape and the texture autoencoder side by side on the same fresh objects (docs/spec/mini.md 5, 6).

Both see every object once; they share its voxels and the neighbour tables, and nothing else. The texture autoencoder
starts from `colour_path` and sees scrambled attributes in most steps, so that geometry says nothing about colour and
the latent has to carry it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.mini.colour_path import calibrate, carry_colour, cell_means
from genesis_server.mini.config import UP_LEVELS, build_network
from genesis_server.mini.structure_training import divergence, load_frozen
from genesis_server.mini.supply import HELD_OUT_SEED, Supply, shape_input, texture_input
from genesis_server.mini.training import Run, Training
from genesis_server.networks.sparse_unet import sample_posterior
from genesis_server.sparse.tensor import Level, SparseTensor

BATCH = 16
SHAPE_RATE, TEXTURE_RATE = 1.5e-3, 3e-4  # the constructed start loses colour at 5e-4 and more before it gains any
WARM_UP = 200
SCRAMBLED_UNTIL, SCRAMBLED_SHARE = 0.75, 0.7  # the last quarter sees attributes as they are
DIVERGENCE_SHAPE, DIVERGENCE_TEXTURE = 1e-3, 2e-4
# base colour counts most; metallic is bimodal and would take over; alpha is constant
ATTRIBUTE_WEIGHTS = (1.0, 1.0, 1.0, 0.4, 0.8, 0.1)
CALIBRATION_OBJECTS, HELD_OUT_OBJECTS = 32, 16
MEASURE_SECONDS = 30.0
INEXACT = 0.4  # most noise on the latents that the decoders finish on, as a share of the latent's own size
LOGVAR_RANGE = (-12.0, 4.0)


def train_autoencoders(run: Run, seconds: float) -> None:
    """Phase "autoencoders"."""
    roles = ("shape_encoder", "shape_decoder", "texture_encoder", "texture_decoder")
    networks = {role: build_network(role, run.sizes) for role in roles}
    if not run.again:
        carry_colour(networks["texture_encoder"], networks["texture_decoder"])
    networks = {role: network.to(run.device) for role, network in networks.items()}
    held_out = Supply(run, HELD_OUT_SEED)
    held_out = held_out.world.voxels(held_out.objects(run.scaled(HELD_OUT_OBJECTS)))
    supply = Supply(run, run.seed * 10 + 3)
    if not run.again:
        voxels = supply.world.voxels(supply.objects(run.scaled(CALIBRATION_OBJECTS)))
        first = texture_input(voxels.attributes, Level(voxels.coords))
        calibrate(networks["texture_encoder"], networks["texture_decoder"], first)
    rates = {role: SHAPE_RATE if role.startswith("shape") else TEXTURE_RATE for role in roles}
    training = Training(run, "autoencoders", networks, rates, seconds, decay_from=0.6, warm_up=WARM_UP, average=0.998)
    supply.next += training.step_count * BATCH
    if training.step_count == 0:
        training.report(**_measure(run, networks, held_out))
    measured = training.elapsed
    while training.running():
        voxels = supply.world.voxels(supply.objects(run.scaled(BATCH)))
        level = Level(voxels.coords)
        scrambled = training.fraction < SCRAMBLED_UNTIL and float(torch.rand(())) < SCRAMBLED_SHARE
        with run.autocast():
            shape, shape_parts = shape_loss(networks["shape_encoder"], networks["shape_decoder"], voxels, level)
            attributes = texture_input(voxels.attributes, level)
            if scrambled:
                attributes = scramble(attributes, run.scaled(BATCH))
            texture, texture_parts = texture_loss(networks["texture_encoder"], networks["texture_decoder"], attributes)
        training.step(shape + texture, {**shape_parts, **texture_parts})
        if training.elapsed - measured > MEASURE_SECONDS:
            training.report(**_measure(run, networks, held_out))
            measured = training.elapsed
    for role, network in networks.items():
        network.load_state_dict(training.averaged(role))
    training.finish(**_measure(run, networks, held_out))


def refine_decoders(run: Run, seconds: float) -> None:
    """Phase "decoders": the decoders go on alone, on latents as inexact as the flows' samples, which they learn to mend."""
    encoders = {role: load_frozen(run, role) for role in ("shape_encoder", "texture_encoder")}
    networks = {role: build_network(role, run.sizes).to(run.device) for role in ("shape_decoder", "texture_decoder")}
    for role, network in networks.items():
        network.load_state_dict(run.load(role))
    held_out = Supply(run, HELD_OUT_SEED)
    held_out = held_out.world.voxels(held_out.objects(run.scaled(HELD_OUT_OBJECTS)))
    rates = {"shape_decoder": SHAPE_RATE, "texture_decoder": 2 * TEXTURE_RATE}
    training = Training(run, "decoders", networks, rates, seconds, decay_from=0.2, warm_up=WARM_UP, average=0.998)
    supply = Supply(run, run.seed * 10 + 6, training.step_count * BATCH)
    while training.running():
        voxels = supply.world.voxels(supply.objects(run.scaled(BATCH)))
        level = Level(voxels.coords)
        attributes = texture_input(voxels.attributes, level)
        with run.autocast():
            with torch.no_grad():
                shape_latent, _ = encoders["shape_encoder"](*shape_input(voxels, level))
                texture_latent, _ = encoders["texture_encoder"](attributes)
            shape, parts = decoded_shape_loss(networks["shape_decoder"], _inexact(shape_latent), voxels)
            texture, texture_parts = decoded_texture_loss(networks["texture_decoder"], _inexact(texture_latent), attributes)
        training.step(shape + texture, {**parts, **texture_parts})
    for role, network in networks.items():
        network.load_state_dict(training.averaged(role))
    training.finish(**_measure(run, {**encoders, **networks}, held_out))


def _inexact(latent: SparseTensor) -> SparseTensor:
    """With noise of its own size times up to `INEXACT`, another share for every object."""
    feats = latent.feats.float()
    share = INEXACT * torch.rand(int(latent.coords[:, 0].max()) + 1, 1, device=feats.device)[latent.coords[:, 0].long()]
    return latent.replace(feats + share * feats.std(0) * torch.randn_like(feats))


def scramble(attributes: SparseTensor, samples: int) -> SparseTensor:
    """Each sample's colour channels in random order and each attribute but alpha with a random sign."""
    device = attributes.device
    order = torch.rand(samples, 3, device=device).argsort(1)
    order = torch.cat([order, torch.arange(3, 6, device=device).expand(samples, 3)], dim=1)
    sign = torch.where(torch.rand(samples, 6, device=device) < 0.5, -1.0, 1.0)
    sign[:, 5] = 1.0
    rows = attributes.coords[:, 0].long()
    return attributes.replace(attributes.feats.gather(1, order[rows]) * sign[rows])


def shape_loss(encoder: nn.Module, decoder: nn.Module, voxels: Any, level: Level) -> tuple[Tensor, dict[str, Tensor]]:
    """Dual vertices, edge flags, subdivisions (teacher-forced by the encoder's index maps), split weight, divergence."""
    mean, logvar = encoder(*shape_input(voxels, level))
    loss, parts = decoded_shape_loss(decoder, _posterior_sample(mean, logvar), voxels)
    parts["shape_kl"] = divergence(mean.feats.float(), logvar.feats.float().clamp(*LOGVAR_RANGE))
    return loss + DIVERGENCE_SHAPE * parts["shape_kl"], parts


def decoded_shape_loss(decoder: nn.Module, latent: SparseTensor, voxels: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """`shape_loss` without the divergence, of a given latent."""
    decoded = decoder(latent)
    raw, margin = decoded.raw.feats.float(), decoder.voxel_margin
    offsets = (1 + 2 * margin) * raw[:, :3].sigmoid() - margin
    parts = {
        "offset": F.mse_loss(offsets, voxels.offsets),
        "flags": F.binary_cross_entropy_with_logits(raw[:, 3:6], voxels.intersected.float()),
        "subdivision": sum(
            F.binary_cross_entropy_with_logits(logits.feats.float(), children)
            for logits, children in zip(decoded.subs, true_children(latent.level), strict=True)
        ),
        "split": (F.softplus(raw[:, 6]) - 1).square().mean(),
    }
    return 10 * parts["offset"] + parts["flags"] + parts["subdivision"] + 0.01 * parts["split"], parts


def true_children(level: Level) -> list[Tensor]:
    """float32 `[N_i, 8]` per up block: which children the encoder's maps say there are."""
    children = []
    while level.finer is not None:
        present = torch.zeros(len(level.coords) * 8, device=level.coords.device)
        children.append(present.index_fill(0, level.finer.slots, 1.0).view(-1, 8))
        level = level.finer.fine
    return children


def texture_loss(encoder: nn.Module, decoder: nn.Module, attributes: SparseTensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted squared error of the attributes in [-1, 1], and the divergence."""
    mean, logvar = encoder(attributes)
    loss, parts = decoded_texture_loss(decoder, _posterior_sample(mean, logvar), attributes)
    parts["texture_kl"] = divergence(mean.feats.float(), logvar.feats.float().clamp(*LOGVAR_RANGE))
    return loss + DIVERGENCE_TEXTURE * parts["texture_kl"], parts


def decoded_texture_loss(
    decoder: nn.Module, latent: SparseTensor, attributes: SparseTensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """`texture_loss` without the divergence, of a given latent."""
    decoded = decoder(latent).feats.float()
    weights = torch.tensor(ATTRIBUTE_WEIGHTS, device=decoded.device)
    error = (decoded - attributes.feats).square().mean(0)
    parts = {"colour": error[:3].mean(), "metallic": error[3], "roughness": error[4]}
    return (error * weights).sum() / weights.sum(), parts


def _posterior_sample(mean: SparseTensor, logvar: SparseTensor) -> SparseTensor:
    return mean.replace(sample_posterior(mean.feats.float(), logvar.feats.float().clamp(*LOGVAR_RANGE)))


@torch.no_grad()
def _measure(run: Run, networks: dict[str, nn.Module], voxels: Any) -> dict[str, Tensor]:
    """Reconstruction of held-out objects: shape with predicted subdivisions, colours beside those of a cell's mean."""
    level = Level(voxels.coords)
    with run.autocast():
        mean, _ = networks["shape_encoder"](*shape_input(voxels, level))
        guessed = networks["shape_decoder"](SparseTensor(mean.feats.float(), mean.coords))
        forced = networks["shape_decoder"](mean.replace(mean.feats.float()))
        attributes = texture_input(voxels.attributes, level)
        latent, _ = networks["texture_encoder"](attributes)
        decoded = networks["texture_decoder"](latent.replace(latent.feats.float())).feats.float()
    means, parent = cell_means(attributes, latent.coords, 2**UP_LEVELS)
    colour = (decoded - attributes.feats) / 2
    return {
        "held_voxel_iou": _set_iou(guessed.coords, voxels.coords),
        "held_flags": (forced.intersected == voxels.intersected).float().mean(),
        "held_vertex": (forced.vertices.float() - voxels.offsets).norm(dim=1).mean(),
        "held_colour_psnr": _psnr(colour[:, :3]),
        "held_cell_mean_psnr": _psnr((means[parent] - attributes.feats)[:, :3] / 2),
        "held_metallic": colour[:, 3].abs().mean(),
        "held_roughness": colour[:, 4].abs().mean(),
    }


def _psnr(error: Tensor) -> Tensor:
    return -10 * torch.log10(error.square().mean())


def _set_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two sets of voxels `[N, 4]`."""
    _, counts = torch.cat([a, b]).unique(dim=0, return_counts=True)
    return (counts == 2).sum() / len(counts)
