# SPDX-License-Identifier: Apache-2.0
"""Trains the 64^3 variant of genesis-mini on a CPU: image encoder and flows, on autoencoders that exist (docs/spec/mini.md 9).

    python -m genesis_server.mini.train_small stock RUN --minutes 9 --worker 0      # one per core, side by side
    python -m genesis_server.mini.train_small structure RUN --minutes 10
    python -m genesis_server.mini.train_small latents RUN --minutes 6.5             # ends with RUN/weights

RUN holds the four networks of `train --phases autoencoders` and the structure autoencoder: they are convolutions trained at
128^3 and work at 64^3 as they are. A CPU cannot make objects as fast as it trains, so a stock of them is made first and
stretched: mirrored pictures with mirrored occupancy, and colour channels exchanged in picture and truth alike.
"""

from __future__ import annotations

import copy
import logging
import time
from functools import partial
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genesis_server.mini import structure_training
from genesis_server.mini.config import ENCODER_WIDTH, Sizes, build_image_encoder, build_network
from genesis_server.mini.export import PACKAGED, export
from genesis_server.mini.flow_loss import drop_condition, flow_loss
from genesis_server.mini.latent_flow_training import SHAPE_NOISE, normalisation, padded_velocity
from genesis_server.mini.structure_training import auxiliary_loss, load_frozen, load_frozen_encoder, measure_structures
from genesis_server.mini.supply import AUXILIARY_CHANNELS, CELLS, Supply, picture_tensor, shape_input, texture_input
from genesis_server.mini.training import Run, Training
from genesis_server.sparse.tensor import Level

SIZES = Sizes(64, 128)
TOKENS = 320  # rows kept per object; 152 on average, more than these are left out
CHUNK, CHUNKS = 16, 4  # objects drawn at once, and such draws per file of the stock
COLOURINGS = 2  # exchanges of colour channels whose texture latents are in the stock
STOCK_SEED = 12
MEASURE_SECONDS = 150.0
NORMAL_X = 6  # channel of the auxiliary maps that changes sign in a mirror
AVERAGE, WARM_UP, DECAY_FROM, RATE = 0.99, 40, 0.6, 1.5e-3  # hundreds of steps, not thousands


@click.group()
def main() -> None:
    """Train the 64^3 variant on a CPU."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--minutes", default=9.0, show_default=True)
@click.option("--worker", default=0, show_default=True, help="Number of this process; each makes other objects.")
def stock(folder: Path, minutes: float, worker: int) -> None:
    """Make objects: pictures, maps, occupancy, latents."""
    torch.set_num_threads(1)
    torch.manual_seed(worker)
    supply = Supply(_run(folder), STOCK_SEED, worker * 1_000_000)
    encoders = {role: load_frozen(supply.run, role) for role in ("shape_encoder", "texture_encoder")}
    (folder / "stock").mkdir(parents=True, exist_ok=True)
    end, made = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        rows = [_stock_rows(supply, encoders) for _ in range(CHUNKS)]
        made += sum(len(part["count"]) for part in rows)
        name = folder / "stock" / f"{worker}_{made:06d}.safetensors"
        save_file({key: torch.cat([part[key] for part in rows]).contiguous() for key in rows[0]}, name)


@torch.no_grad()
def _stock_rows(supply: Supply, encoders: dict[str, nn.Module]) -> dict[str, Tensor]:
    objects = supply.objects(CHUNK)
    picture, auxiliary = supply.pictures(objects)
    voxels = supply.world.voxels(objects)
    level = Level(voxels.coords)
    shape, _ = encoders["shape_encoder"](*shape_input(voxels, level))
    sample = shape.coords[:, 0].long()
    count = torch.bincount(sample, minlength=CHUNK)
    place = torch.arange(len(sample)) - (count.cumsum(0) - count)[sample]
    fits, kept = place < TOKENS, (count > 0) & (count <= TOKENS)

    def padded(rows: Tensor) -> Tensor:
        out = torch.zeros(CHUNK, TOKENS, rows.shape[1], dtype=rows.dtype)
        return out.index_put((sample[fits], place[fits]), rows[fits])

    rows = {
        "picture": picture,
        "auxiliary": auxiliary,
        "occupancy": supply.world.occupancy(voxels, SIZES.structure_grid),
        "shape": padded(shape.feats.half()),
        "coords": padded(shape.coords[:, 1:].to(torch.uint8)),
        "count": count.int(),
    }
    for index in range(COLOURINGS):
        order = torch.rand(CHUNK, 3).argsort(1)
        whole = torch.cat([order, torch.arange(3, 6).expand(CHUNK, 3)], dim=1)
        attributes = voxels.attributes.gather(1, whole[voxels.coords[:, 0].long()])
        texture, _ = encoders["texture_encoder"](texture_input(attributes, level))
        rows[f"texture_{index}"], rows[f"order_{index}"] = padded(texture.feats.half()), order.to(torch.uint8)
    return {key: value[kept] for key, value in rows.items()}


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--minutes", default=10.0, show_default=True)
def structure(folder: Path, minutes: float) -> None:
    """Train the image encoder, its auxiliary read-out and the structure flow."""
    run, goods = _run(folder), _goods(folder)
    frozen = {role: load_frozen(run, role) for role in ("structure_encoder", "structure_decoder")}
    encoder = build_image_encoder(SIZES).eval()
    networks = {
        "image_encoder": encoder,
        "auxiliary": nn.Linear(ENCODER_WIDTH, AUXILIARY_CHANNELS * CELLS**2),
        "structure_flow": build_network("structure_flow", SIZES),
    }
    spare = {role: copy.deepcopy(networks[role]) for role in ("image_encoder", "structure_flow")}
    training = _training(run, "structure_flow", networks, minutes)
    held_out = structure_training.held_out_objects(run)
    measured = training.elapsed
    while training.running():
        rows = torch.randint(len(goods["count"]), (64,))
        batch = stretched({key: goods[key][rows] for key in ("picture", "auxiliary", "occupancy")})
        with torch.no_grad():
            latent, _ = frozen["structure_encoder"](batch["occupancy"].float().unsqueeze(1))
        tokens = encoder(picture_tensor(batch["picture"]))
        guess = networks["auxiliary"](tokens[:, -(SIZES.patches**2) :])
        auxiliary, parts = auxiliary_loss(guess, batch["auxiliary"].float())
        loss = flow_loss(partial(networks["structure_flow"], cond=drop_condition(tokens)), latent)
        training.step(loss + auxiliary, {"velocity": loss, **parts})
        if training.elapsed - measured > MEASURE_SECONDS:
            training.report(**measure_structures(run, training, spare, frozen["structure_decoder"], held_out))
            measured = training.elapsed
    training.finish(**measure_structures(run, training, spare, frozen["structure_decoder"], held_out))


def stretched(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half of a batch mirrored in x, every object's colour channels in random order; pictures, maps and occupancy agree."""
    picture, auxiliary, occupancy = batch["picture"], batch["auxiliary"], batch["occupancy"]
    mirror = (torch.rand(len(picture)) < 0.5).view(-1, 1, 1, 1)
    picture = torch.where(mirror, picture.flip(-1), picture)
    sign = torch.ones(1, AUXILIARY_CHANNELS, 1, 1, dtype=auxiliary.dtype)
    sign[:, NORMAL_X] = -1
    auxiliary = torch.where(mirror, auxiliary.flip(-1) * sign, auxiliary)
    occupancy = torch.where(mirror, occupancy.flip(1), occupancy)
    order = torch.rand(len(picture), 3).argsort(1)
    albedo = exchanged(auxiliary[:, 1:4], order)
    auxiliary = torch.cat([auxiliary[:, :1], albedo, auxiliary[:, 4:]], dim=1)
    return {"picture": exchanged(picture, order), "auxiliary": auxiliary, "occupancy": occupancy}


def exchanged(image: Tensor, order: Tensor) -> Tensor:
    """Channels of `[B, 3, H, W]` in the order `[B, 3]`."""
    return image.gather(1, order.long()[:, :, None, None].expand(-1, -1, *image.shape[2:]))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--minutes", default=6.5, show_default=True)
def latents(folder: Path, minutes: float) -> None:
    """Train the shape and the texture flow, then write RUN/weights."""
    run, goods = _run(folder), _goods(folder)
    tokens = [_tokens(run, exchanged(goods["picture"], goods[f"order_{index}"])) for index in range(COLOURINGS)]
    constants = _constants(run, goods)
    networks = {role: build_network(role, SIZES) for role in ("shape_flow", "texture_flow")}
    training = _training(run, "latent_flows", networks, minutes)
    batches: list[Tensor] = []
    while training.running():
        if not batches:  # objects of similar length together: little is padded
            rows = torch.randint(len(goods["count"]), (256,))
            parts = rows[goods["count"][rows].argsort()].split(32)
            batches = [parts[index] for index in torch.randperm(len(parts))]
        rows, colouring = batches.pop(), int(torch.randint(COLOURINGS, ()))
        parts = latent_losses(networks, goods, constants, rows, colouring, drop_condition(tokens[colouring][rows].float()))
        training.step(parts["shape"] + parts["texture"], parts)
    training.finish(objects=len(goods["count"]))
    package(run)


def latent_losses(
    networks: dict[str, nn.Module],
    goods: dict[str, Tensor],
    constants: dict[str, Tensor],
    rows: Tensor,
    colouring: int,
    tokens: Tensor,
) -> dict[str, Tensor]:
    """Velocity losses of both flows on some objects of the stock, in one of their colourings."""
    length = int(goods["count"][rows].max())
    normal = {}
    for name, column in (("shape", "shape"), ("texture", f"texture_{colouring}")):
        raw = goods[column][rows, :length].float()
        normal[name] = (raw - constants[f"{name}_mean"]) / constants[f"{name}_std"]
    exists = torch.arange(length) < goods["count"][rows][:, None]
    coords, mask = goods["coords"][rows, :length], exists[:, None, None]
    shape = normal["shape"]
    known = shape + SHAPE_NOISE * torch.rand(len(shape), 1, 1) * torch.randn_like(shape)

    def shape_velocity(x: Tensor, t: Tensor) -> Tensor:
        return padded_velocity(networks["shape_flow"], x, coords, mask, t, tokens)

    def texture_velocity(x: Tensor, t: Tensor) -> Tensor:
        return padded_velocity(networks["texture_flow"], torch.cat([x, known], dim=-1), coords, mask, t, tokens)

    return {
        "shape": flow_loss(shape_velocity, shape, exists[..., None]),
        "texture": flow_loss(texture_velocity, normal["texture"], exists[..., None]),
    }


def package(run: Run) -> None:
    """Write RUN/weights from the finished networks."""
    states = {role: run.load(role) for role in PACKAGED}
    states["image_encoder"] = load_frozen_encoder(run).checkpoint_state()
    export(run.folder / "weights", SIZES, states, normalisation(run))


@torch.no_grad()
def _tokens(run: Run, pictures: Tensor) -> Tensor:
    encoder = load_frozen_encoder(run)
    return torch.cat([encoder(picture_tensor(part)).half() for part in pictures.split(128)])


def _constants(run: Run, goods: dict[str, Tensor]) -> dict[str, Tensor]:
    exists = torch.arange(TOKENS) < goods["count"][:, None]
    constants = {}
    for name, column in (("shape", "shape"), ("texture", "texture_0")):
        rows = goods[column][exists].float()
        constants[f"{name}_mean"], constants[f"{name}_std"] = rows.mean(0), rows.std(0).clamp(min=1e-3)
    run.save("normalisation", constants)
    return constants


def _training(run: Run, phase: str, networks: dict[str, nn.Module], minutes: float) -> Training:
    rates = dict.fromkeys(networks, RATE)
    return Training(run, phase, networks, rates, 60 * minutes, decay_from=DECAY_FROM, warm_up=WARM_UP, average=AVERAGE)


def _run(folder: Path) -> Run:
    return Run(folder, torch.device("cpu"), SIZES, compiled=False)


def _goods(folder: Path) -> dict[str, Tensor]:
    parts = [load_file(path) for path in sorted((folder / "stock").glob("*.safetensors"))]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


if __name__ == "__main__":
    main()
