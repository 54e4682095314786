# SPDX-License-Identifier: Apache-2.0
"""Trains the structure autoencoder, then the image encoder and the structure flow together (docs/spec/mini.md 3, 4).

The published structure latent has no normalisation constants, so the finished autoencoder is rescaled instead: the
encoder's mean is divided by its root mean square per channel and the decoder's first kernel multiplied by it, which
changes no reconstruction (the kernel's zero padding stays zero).
"""

from __future__ import annotations

import copy
import time
from functools import partial

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

from genesis_server.mini.config import ENCODER_WIDTH, LATENT_CHANNELS, build_image_encoder, build_network
from genesis_server.mini.flow_loss import drop_condition, flow_loss
from genesis_server.mini.pool import Pool
from genesis_server.mini.supply import (
    AUXILIARY,
    AUXILIARY_CHANNELS,
    CELLS,
    HELD_OUT_SEED,
    OUTLINE_CELLS,
    Supply,
    picture_tensor,
    plain,
    take_rows,
)
from genesis_server.mini.training import Run, Training
from genesis_server.networks.sparse_unet import sample_posterior
from genesis_server.pipeline.conditioning import mark_turn
from genesis_server.pipeline.samplers import SamplerParameters, sample_flow

SAMPLER = SamplerParameters(steps=12, rescale_t=3.0, guidance_strength=2.0)
CHUNK = 128  # objects voxelised at once: about 5 million voxels
MEASURE_SECONDS = 60.0
REFRESH_STEPS = 16  # a chunk of fresh objects costs about four steps
MATRIX_RATE = 1.2e-3  # of Muon
CALIBRATION_SEED = 880_001
SHIFTS = tuple(0.5 * step for step in range(9))
BATCH, POOL = 256, 32768
PAIRED, PAIRED_REFINED = 64, 128  # objects of a batch with a second picture, in the two phases of the flow


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
    """Phase "structure_flow": image encoder, its auxiliary read-out and the structure flow together."""
    encoder = build_image_encoder(run.sizes).to(run.device).eval()  # training mode would jitter its positions
    flow = build_network("structure_flow", run.sizes).to(run.device)
    head = nn.Linear(ENCODER_WIDTH, OUTLINE_CELLS**2 + (AUXILIARY_CHANNELS - 1) * CELLS**2).to(run.device)
    networks = {"image_encoder": encoder, "auxiliary": head, "structure_flow": flow}
    measure = _Measurement(run, {"image_encoder": copy.deepcopy(encoder), "structure_flow": copy.deepcopy(flow)})
    if run.compiled:
        compile_blocks(flow.blocks)
        compile_blocks(encoder_layers(encoder))
    training = Training(
        run, "structure_flow", networks, dict.fromkeys(networks, 2e-3), seconds, average=0.998, matrix_rate=MATRIX_RATE
    )
    pools = _Pools(run, run.seed * 10 + 2, training.step_count, PAIRED)
    while training.running():
        single, paired = pools.batch(training.step_count)
        pictures = torch.cat([single["picture"], paired["picture"], paired["second"]])
        with run.autocast():
            tokens = encoder(picture_tensor(pictures))
            first = tokens[: len(tokens) - len(paired["turn"])]
            guess = head(first[:, -(run.sizes.patches**2) :])
            target, outline = (torch.cat([single[name], paired[name]]).float() for name in ("auxiliary", "outline"))
            auxiliary, parts = auxiliary_loss(guess.float(), target, outline)
            velocity = partial(flow, cond=drop_condition(pair_tokens(first, tokens[len(first) :], paired["turn"])))
            loss = flow_loss(velocity, torch.cat([single["latent"], paired["latent"]]).float())
        training.step(loss + auxiliary, {"velocity": loss, **parts})
        measure.when_due(training)
    training.finish(**measure.of(training))


def refine_structure_flow(run: Run, seconds: float) -> None:
    """Phase "structure_refinement": the structure flow goes on with the finished image encoder, whose tokens are kept."""
    flow = build_network("structure_flow", run.sizes).to(run.device)
    flow.load_state_dict(run.load("structure_flow"))
    measure = _Measurement(run, {"image_encoder": load_frozen_encoder(run), "structure_flow": copy.deepcopy(flow)})
    if run.compiled:
        compile_blocks(flow.blocks)
    training = Training(
        run,
        "structure_refinement",
        {"structure_flow": flow},
        {"structure_flow": 1e-3},
        seconds,
        decay_from=0.4,
        average=0.998,
        matrix_rate=MATRIX_RATE / 2,
    )
    pools = _Pools(run, run.seed * 10 + 5, training.step_count, PAIRED_REFINED, load_frozen_encoder(run))
    while training.running():
        single, paired = pools.batch(training.step_count)
        tokens = torch.cat([single["tokens"], paired["tokens"]])
        with run.autocast():
            velocity = partial(flow, cond=drop_condition(pair_tokens(tokens, paired["second"], paired["turn"])))
            loss = flow_loss(velocity, torch.cat([single["latent"], paired["latent"]]).float())
        training.step(loss, {"velocity": loss})
        measure.when_due(training)
    training.finish(**measure.of(training))


def pair_tokens(first: Tensor, second: Tensor, turn: Tensor) -> Tensor:
    """Tokens of one or two pictures per object, all of one length: those of a single picture are there twice, which changes
    no attention.

    Args:
        first: `[B, L, D]`, of the front.
        second: `[P, L, D]`, of another view of the last P objects.
        turn: `[P]`, radians.

    Returns:
        `[B, 2 L, D]`.
    """
    other = torch.cat([first[: len(first) - len(second)], mark_turn(second, turn)])
    return torch.cat([first, other], dim=1)


class _Pools:
    """Training objects with one picture, and some with two.

    Args:
        seed: of the stream of objects.
        steps: done so far; a continued phase draws other objects.
        paired: objects of a batch with a second picture.
        encoder: a finished image encoder, to keep tokens in place of pictures.
    """

    def __init__(self, run: Run, seed: int, steps: int, paired: int, encoder: nn.Module | None = None) -> None:
        self.run, self.share, self.encoder = run, paired / BATCH, encoder
        self.latent_encoder = load_frozen(run, "structure_encoder")
        self.supply = Supply(run, seed, steps * CHUNK)
        rows = round(self.share * POOL)
        self.single, self.paired = Pool(run.scaled(POOL - rows), run.device), Pool(run.scaled(rows), run.device)
        while self.single.size < run.scaled(6144):
            self._refresh()

    def batch(self, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The objects of one step: those with one picture, those with two."""
        if step % REFRESH_STEPS == 0:
            self._refresh()
        paired = round(self.share * BATCH)
        return self.single.sample(self.run.scaled(BATCH - paired)), self.paired.sample(self.run.scaled(paired))

    @torch.no_grad()
    def _refresh(self) -> None:
        """A chunk of fresh objects and their mirror images, some of them with a second picture."""
        objects = self.supply.objects(self.run.scaled(CHUNK))
        picture, auxiliary, outline = self.supply.pictures(objects)
        rows = {"picture": picture, "auxiliary": auxiliary, "outline": outline, "occupancy": self.supply.occupancy(objects)}
        count = max(1, round(self.share * len(picture)))
        second, turn = self.supply.views(take_rows(objects, slice(count)))
        self._add(self.single, {name: value[count:] for name, value in rows.items()})
        self._add(self.paired, {**{name: value[:count] for name, value in rows.items()}, "second": second, "turn": turn})

    def _add(self, pool: Pool, rows: dict[str, Tensor]) -> None:
        rows = {name: torch.cat([value, mirrored(name, value)]) for name, value in rows.items()}
        with self.run.autocast():
            latent, _ = self.latent_encoder(rows.pop("occupancy").float().unsqueeze(1))
            if self.encoder is not None:
                del rows["auxiliary"], rows["outline"]
                rows["tokens"] = self.encoder(picture_tensor(rows.pop("picture"))).to(torch.bfloat16)
                if "second" in rows:
                    rows["second"] = self.encoder(picture_tensor(rows["second"])).to(torch.bfloat16)
        pool.add({**rows, "latent": latent.half()})


def mirrored(name: str, value: Tensor) -> Tensor:
    """A column of training objects as their mirror images at x = 0 have it."""
    if name == "turn":
        return -value
    if name == "occupancy":
        return value.flip(1)
    flipped = value.flip(-1)
    if name == "auxiliary":
        flipped = flipped.clone()
        flipped[:, AUXILIARY["normal"].start] *= -1
    return flipped


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


def auxiliary_loss(guess: Tensor, target: Tensor, outline: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The outline by cross entropy, the rest by absolute error where the object covers the cell.

    Args:
        guess: `[B, P*P, 64 + 9*16]`, per patch the outline in its 8x8 cells and the other channels in its 4x4 cells.
        target: `[B, 10, 4P, 4P]`.
        outline: `[B, 1, 8P, 8P]`.
    """
    edge, rest = guess[..., : OUTLINE_CELLS**2], guess[..., OUTLINE_CELLS**2 :].unflatten(-1, (-1, CELLS**2))
    outline, target = _by_patch(outline, OUTLINE_CELLS)[:, :, 0], _by_patch(target, CELLS)
    cover, target = target[:, :, :1], target[:, :, 1:]
    parts = {"alpha": F.binary_cross_entropy_with_logits(edge, outline)}
    for name, channels in AUXILIARY.items():
        if name != "alpha":
            chosen = slice(channels.start - 1, channels.stop - 1)
            error = (rest[:, :, chosen] - target[:, :, chosen]).abs().mean(2, keepdim=True)
            parts[name] = (error * cover).sum() / cover.sum().clamp(min=1)
    return sum(parts.values()), parts


def _by_patch(maps: Tensor, cells: int) -> Tensor:
    """`[B, C, P cells, P cells]` to `[B, P*P, C, cells*cells]`."""
    patches = maps.shape[-1] // cells
    maps = maps.unflatten(-1, (patches, cells)).unflatten(-3, (patches, cells))  # B C Py cy Px cx
    return maps.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(-2)


class _Measurement:
    """IoU of sampled structures of held-out objects, with the moving averages.

    Args:
        spare: networks to load the averages into.
        seed: of the objects.
    """

    def __init__(self, run: Run, spare: dict[str, nn.Module], seed: int = HELD_OUT_SEED) -> None:
        self.run, self.spare = run, spare
        self.decoder = load_frozen(run, "structure_decoder")
        supply = Supply(run, seed)
        objects = supply.objects(run.scaled(CHUNK))
        self.picture, self.occupancy = plain(supply.world.pictures(objects)), supply.occupancy(objects).bool()
        self.last = 0.0

    def when_due(self, training: Training) -> None:
        if training.elapsed - self.last > MEASURE_SECONDS:
            training.report(**self.of(training))
            self.last = training.elapsed

    @torch.no_grad()
    def of(self, training: Training) -> dict[str, Tensor]:
        for role in self.spare.keys() & training.networks.keys():
            self.spare[role].load_state_dict(training.averaged(role))
        logits = self.sample()
        guess = logits > 0
        return {
            "iou_fine": occupancy_iou(guess, self.occupancy),
            "iou_coarse": occupancy_iou(*map(halved, (guess, self.occupancy))),
        }

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Logits `[B, R, R, R]` of the decoder for structures sampled with the spare networks."""
        side = self.run.sizes.structure_latent_grid
        with self.run.autocast():
            tokens = self.spare["image_encoder"](picture_tensor(self.picture)).float()
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(len(tokens), LATENT_CHANNELS, side, side, side, generator=generator).to(self.run.device)
            latent = sample_flow(self.spare["structure_flow"], noise, [tokens], torch.zeros_like(tokens), SAMPLER)
        return self.decoder(latent.float())[:, 0]


def halved(occupancy: Tensor) -> Tensor:
    """bool `[B, R, R, R]` on the grid of half the side: occupied where any part is."""
    return F.max_pool3d(occupancy.float().unsqueeze(1), 2)[:, 0] > 0


def calibrate_threshold(run: Run) -> float:
    """Phase "threshold": what the decoder's logits need added so that sampled structures overlap the truth most.

    A cell of which the flow is unsure is worth keeping where it is more likely to add to the overlap than to the union, which
    is below even odds. Chosen on objects that are neither trained on nor held out.
    """
    started = time.monotonic()
    measure = _Measurement(
        run, {"image_encoder": load_frozen_encoder(run), "structure_flow": load_frozen(run, "structure_flow")}, CALIBRATION_SEED
    )
    logits, truth = measure.sample(), halved(measure.occupancy)
    overlaps = {shift: float(occupancy_iou(halved(logits + shift > 0), truth)) for shift in SHIFTS}
    best = max(overlaps, key=overlaps.get)
    seconds = round(time.monotonic() - started, 1)
    run.finish("threshold", {"steps": 0, "seconds": seconds, "shift": best, "iou_before": overlaps[0.0], "iou": overlaps[best]})
    return best
