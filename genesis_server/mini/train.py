# SPDX-License-Identifier: Apache-2.0
"""Trains genesis-mini from nothing: `python -m genesis_server.mini.train RUN_FOLDER` (docs/spec/mini.md 9).

Phases run in order, each for its share of the minutes; a phase that is done is not run again, one that was interrupted
continues from its last checkpoint, and `--again` adds a round to one that is finished. On two GPUs run `structure` beside
`autoencoders`, then `refinement` beside `flows`, then `package`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from genesis_server.mini.autoencoder_training import refine_decoders, train_autoencoders
from genesis_server.mini.calibrate import calibrate_roughness
from genesis_server.mini.card import write_card
from genesis_server.mini.config import Sizes
from genesis_server.mini.evaluate import evaluate, format_table, write_report
from genesis_server.mini.export import PACKAGED, export
from genesis_server.mini.latent_flow_training import normalisation, train_latent_flows
from genesis_server.mini.structure_training import (
    calibrate_threshold,
    load_frozen_encoder,
    refine_structure_flow,
    train_structure_autoencoder,
    train_structure_flow,
)
from genesis_server.mini.training import Run

CALIBRATED = 128  # objects for the calibration of roughness

# phase -> (what trains it, its share of the time)
PHASES: dict[str, tuple[Callable[[Run, float], None], float]] = {
    "structure_autoencoder": (train_structure_autoencoder, 0.9),
    "structure_flow": (train_structure_flow, 8.5),
    "structure_refinement": (refine_structure_flow, 9.0),
    "autoencoders": (train_autoencoders, 8.0),
    "decoders": (refine_decoders, 4.0),
    "latent_flows": (train_latent_flows, 9.0),
}
GROUPS = {
    "all": tuple(PHASES),
    "structure": ("structure_autoencoder", "structure_flow"),
    "refinement": ("structure_refinement",),
    "flows": ("latent_flows",),
    "package": (),
    **{phase: (phase,) for phase in PHASES},
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--minutes", default=20.0, show_default=True, help="Time for the training of the chosen phases together.")
@click.option("--phases", type=click.Choice(list(GROUPS)), default="all", show_default=True, help="What to train.")
@click.option("--resolution", default=128, show_default=True, help="O-Voxel cells per axis, a multiple of 32.")
@click.option("--picture", default=224, show_default=True, help="Side of the encoder's picture in pixels.")
@click.option("--scale", default=1.0, show_default=True, help="Factor on batch and pool sizes; below 1 to try the code.")
@click.option("--objects", default=40, show_default=True, help="Held-out objects for the final evaluation.")
@click.option("--seed", default=1, show_default=True)
@click.option("--again", is_flag=True, help="Another round of phases that are done, from what they left; give another --seed.")
@click.option("--compile/--no-compile", "compiled", default=True, help="Compile transformer blocks (on a GPU).")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def main(
    folder: Path,
    minutes: float,
    phases: str,
    resolution: int,
    picture: int,
    scale: float,
    objects: int,
    seed: int,
    again: bool,
    compiled: bool,
    device: str,
) -> None:
    """Train genesis-mini in FOLDER; "all" and "package" end with its weights in FOLDER/weights, evaluated."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Sizes(resolution, picture)
    run = Run(folder, torch.device(device), sizes, seed, compiled and device.startswith("cuda"), scale, again)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # every phase has one shape
    train(run, GROUPS[phases], 60 * minutes)
    if phases in ("all", "package"):
        package(run, objects)


def train(run: Run, phases: tuple[str, ...], seconds: float) -> None:
    """Run the phases that are not done, sharing the time in their usual proportions."""
    total = sum(share for phase, (_, share) in PHASES.items() if phase in phases)
    for phase in phases:
        work, share = PHASES[phase]
        if run.again or not run.done(phase):
            started = time.monotonic()
            work(run, seconds * share / total)
            logging.getLogger("genesis.mini").info("%s took %.0f s", phase, time.monotonic() - started)


def package(run: Run, objects: int) -> None:
    """Write the model folder, measure it as users will run it, and describe both."""
    weights = run.folder / "weights"
    states = {role: run.load(role) for role in PACKAGED}
    states["structure_decoder"]["out_layer.2.bias"] += calibrate_threshold(run)
    states["image_encoder"] = load_frozen_encoder(run).checkpoint_state()
    export(weights, run.sizes, states, normalisation(run))
    started = time.monotonic()
    calibration = calibrate_roughness(weights, run.scaled(CALIBRATED), run.device)
    run.finish("roughness", {"steps": 0, "seconds": round(time.monotonic() - started, 1), **calibration})
    report = evaluate(weights, objects, run.device)
    click.echo(format_table(report))
    write_report(run.folder / "evaluation.json", report)
    write_card(weights / "README.md", run, report)


if __name__ == "__main__":
    main()
