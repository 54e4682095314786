# SPDX-License-Identifier: Apache-2.0
"""Shows what genesis-mini makes of pictures, and what it learns from: numbers alone prove nothing.

genesis mini show examples/*.png -o sheet.png      each picture beside four views of its mesh, and how well outlines agree
genesis mini world -o world.png --objects 32       objects of the procedural world: picture, base colour, normals
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw

from genesis_server.assets import Asset
from genesis_server.hub.catalog import MINI
from genesis_server.mini.world import World, save_sheet
from genesis_server.pipeline.conditioning import framed
from genesis_server.pipeline.generate import MODEL_FILE, generate
from genesis_server.pipeline.model import Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.report.render import FRONT_DISTANCE, View, over, render_views

VIEWS = (View(0, 10), View(50, 20), View(180, 20), View(-60, 35))  # degrees: the input's side, then around
TILE = 224
PAPER = (244, 244, 244)


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", default="sheet.png", show_default=True, type=click.Path(path_type=Path))
@click.option("--model", "model_id", default=MINI, show_default=True, help="Model id or folder.")
@click.option("--columns", default=2, show_default=True, help="Pictures side by side.")
def main(pictures: Sequence[Path], out: Path, model_id: str, columns: int) -> None:
    """Write a sheet with each picture and four views of its mesh; print the outline's overlap with the picture."""
    model = Model.load(model_id)
    rows, overlaps = [], []
    for path in pictures:
        with tempfile.TemporaryDirectory() as folder:
            asset = Asset.create(Path(folder) / "shown.genesis", [load_picture(path)], GenerateSettings(), model_id)
            generate(asset, model, lambda event: None)
            overlaps.append(outline_overlap(asset, model.config.framing.border))
            rows.append(_row(asset, f"{path.stem} {overlaps[-1]:.2f}"))
        click.echo(f"{path.name:24} silhouette IoU {overlaps[-1]:.3f}")
    click.echo(f"{'mean':24} silhouette IoU {np.mean(overlaps):.3f}, least {min(overlaps):.3f}")
    blank = [np.full_like(rows[0], 255)] * (-len(rows) % columns)
    lines = [np.concatenate((rows + blank)[i : i + columns], axis=1) for i in range(0, len(rows), columns)]
    Image.fromarray(np.concatenate(lines)).save(out)


@click.command()
@click.option("-o", "--out", default="world.png", show_default=True, type=click.Path(path_type=Path))
@click.option("--objects", default=32, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--size", default=128, show_default=True, help="Side of each picture in pixels.")
def world(out: Path, objects: int, seed: int, size: int) -> None:
    """Write a contact sheet of the procedural world."""
    source = World("cuda" if torch.cuda.is_available() else "cpu")
    save_sheet(source.pictures(source.objects(seed, 0, objects), size), out)


def outline_overlap(asset: Asset, border: float) -> float:
    """IoU of the picture's outline with that of the mesh seen from the model's own camera.

    Args:
        asset: a finished one.
        border: `Framing.border` of its model.
    """
    seen = framed(Image.open(asset.path("cutout_0.png")), border).resize((TILE, TILE), Image.Resampling.LANCZOS)
    mask = np.asarray(seen.getchannel("A")) > 127
    drawn = render_views(asset.path(MODEL_FILE), [View(distance=FRONT_DISTANCE)], TILE)[0][..., 3] > 127
    return float((drawn & mask).sum() / (drawn | mask).sum())


def _row(asset: Asset, title: str) -> np.ndarray:
    picture = Image.new("RGB", (TILE, TILE), PAPER)
    shown = Image.open(asset.path("input_0.png")).convert("RGBA")
    shown.thumbnail((TILE, TILE))
    picture.paste(shown, ((TILE - shown.width) // 2, (TILE - shown.height) // 2), shown)
    ImageDraw.Draw(picture).text((4, TILE - 14), title, fill=(90, 90, 90))
    views = [over(view, PAPER) for view in render_views(asset.path(MODEL_FILE), VIEWS, TILE)]
    return np.concatenate([np.asarray(picture), *views], axis=1)
