# SPDX-License-Identifier: Apache-2.0
"""Measures a model on held-out objects of the world, through the functions users run (docs/spec/mini.md 7).

    genesis mini evaluate [--objects 200] [--views 2] [--slender] [--json]

The objects come from a seed that training never uses. A picture goes through cut-out, image tokens, structure, shape,
texture and decoding; the O-Voxel that comes out, and the surface extracted from it, are compared with the object's own.
What only the camera can judge (silhouette, colours of the visible side) is measured by drawing the voxels from the
camera that took the picture; the hidden side by the true voxels that no pixel shows and their nearest found ones.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genesis_server.hub.catalog import MINI
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas, face_normals
from genesis_server.mini.supply import CAMERA_DISTANCE, HELD_OUT_SEED
from genesis_server.mini.world import Objects, Voxels, World, visible
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.conditioning import encode
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.decode import decode
from genesis_server.pipeline.latents import Sampling, Structure, seeded
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.pipeline.outline import fitted
from genesis_server.pipeline.shape import sample_shape
from genesis_server.pipeline.structure import sample_structure
from genesis_server.pipeline.texture import sample_texture
from genesis_server.protocol.errors import ErrorCode, GenesisError

CHUNK = {"cuda": 20, "cpu": 4}  # objects sampled together
VIEW = 192  # side of the drawn view in pixels: a voxel of a 128 grid covers one and a half
SURFACE_POINTS = 8192
HIDDEN_POINTS = 4096
SEED = 1

# column -> (title, decimals)
MEASURES = {
    "iou_structure": ("occupancy IoU of the structure", 3),
    "iou_voxels": ("occupancy IoU of decoded voxels, twice that grid", 3),
    "chamfer": ("Chamfer distance of the surface, unit cube", 4),
    "normals": ("normal consistency", 3),
    "silhouette": ("silhouette IoU, input view", 3),
    "colour_psnr": ("base colour PSNR, input view, dB", 2),
    "metallic": ("metallic error, input view", 3),
    "roughness": ("roughness error, input view", 3),
    "hidden_distance": ("distance of the hidden side", 4),
    "hidden_colour": ("base colour PSNR of the hidden side, dB", 2),
}


@dataclass(frozen=True)
class _Tokens:
    """Tokens of several objects where the samplers expect those of one (`Conditioning`)."""

    tokens: Tensor
    size: int

    @property
    def views(self) -> tuple[Tensor, ...]:
        """Of one of them: all have as many."""
        return (self.tokens[0],)

    def batched(self, samples: int) -> tuple[list[Tensor], Tensor]:
        tokens = self.tokens.repeat_interleave(samples // len(self.tokens), 0)
        return [tokens], torch.zeros_like(tokens)


@dataclass(frozen=True)
class Truth:
    """What is known about one object.

    Attributes:
        voxels: its O-Voxel.
        structure, fine: bool `[G, G, G]` and twice that, the occupied cells.
        mask: bool `[VIEW, VIEW]`, the pixels that it covers.
        albedo: float32 `[VIEW, VIEW, 3]`.
        metallic_roughness: float32 `[VIEW, VIEW, 2]`, None where it is not known.
        hidden: bool per voxel, the picture does not show it; None where it is not known.
    """

    voxels: OVoxel
    structure: Tensor
    fine: Tensor
    mask: Tensor
    albedo: Tensor
    metallic_roughness: Tensor | None = None
    hidden: Tensor | None = None


def evaluate(
    model_id: str | Path,
    objects: int = 40,
    device: torch.device | str | None = None,
    views: int = 1,
    slender: bool = False,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        model_id: `mini` or a model folder.
        objects: how many held-out objects.
        views: pictures of each object, evenly around it; the first is the one that is compared.
        device: default the GPU where there is one.
        slender: measure on held-out slender things and fruit (`World.further`) in place of the usual objects.

    Returns:
        {"objects", "failed" (nothing generated), "mean", "median", "each"}, measures by the names of `MEASURES`.
    """
    model = Model.load(str(model_id), device)
    world = World(model.device, model.plan().resolution, model.config.image_size, further=float(slender))
    size = CHUNK[model.device.type]
    each: list[dict[str, float]] = []
    for start in range(0, objects, size):
        chosen = world.objects(HELD_OUT_SEED, start, min(size, objects - start))
        pictures = [pictures_of(world, chosen, model, view / views) for view in range(views)]
        truths = truths_of(world, chosen, model)
        results = generate(model, list(zip(*pictures, strict=True)))
        each += [compare(found, truth) for found, truth in zip(results, truths, strict=True)]
    return {
        "objects": objects,
        "failed": sum("chamfer" not in row for row in each),
        "mean": summary(each, statistics.fmean),
        "median": summary(each, statistics.median),
        "each": each,
    }


def summary(rows: list[dict[str, float]], statistic) -> dict[str, float]:
    """The statistic of every measure over the objects that have it."""
    columns = {name: [row[name] for row in rows if name in row] for name in MEASURES}
    return {name: round(statistic(values), 5) for name, values in columns.items() if values}


def pictures_of(world: World, chosen: Objects, model: Model, turn: float = 0.0) -> list[Image.Image]:
    """Cutouts of the objects after a part of a full turn."""
    seen = chosen if turn == 0 else world.turned(chosen, torch.full((len(chosen),), 2 * math.pi * turn, device=world.device))
    seen = world.pictures(seen, 2 * model.config.image_size)  # real pictures are larger than what the encoder sees
    cutouts = [_rgba(rgb, alpha) for rgb, alpha in zip(seen.rgb, seen.alpha, strict=True)]
    return [cut_out(picture, "auto", model.remover()).picture for picture in cutouts]


def _rgba(rgb: Tensor, alpha: Tensor) -> Image.Image:
    """The cut-out picture a user would give: straight alpha."""
    cover = alpha.float()[..., None] / 255
    straight = (rgb.float() / cover.clamp(min=1 / 255)).clamp(0, 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(torch.cat([straight, alpha[..., None]], dim=-1).cpu().numpy()))


def truths_of(world: World, chosen: Objects, model: Model) -> list[Truth]:
    """What the world knows about each of the objects."""
    voxels = world.voxels(chosen)
    view = world.pictures(chosen, VIEW)
    grid = model.plan().grid
    structure, fine = world.occupancy(voxels, grid), world.occupancy(voxels, 2 * grid)
    hidden = ~visible(voxels, view)
    return [
        Truth(
            _object(voxels, voxels.coords[:, 0] == index),
            structure[index].bool(),
            fine[index].bool(),
            view.alpha[index] >= 128,
            view.albedo[index].float(),
            view.metallic_roughness[index].float(),
            hidden[voxels.coords[:, 0] == index],
        )
        for index in range(len(view.alpha))
    ]


def _object(voxels: Voxels, rows: Tensor) -> OVoxel:
    columns = (voxels.coords[rows, 1:], voxels.offsets[rows], voxels.intersected[rows])
    return OVoxel(*columns, voxels.resolution, attributes=voxels.attributes[rows])


def generate(model: Model, cutouts: list[tuple[Image.Image, ...]]) -> list[tuple[Structure, OVoxel] | None]:
    """Structure and O-Voxel of each object from its pictures; None where nothing came out."""
    plan, samplers = model.plan(), model.config.samplers
    with model.network(ENCODER) as encoder:
        encoded = [encode(encoder, views, plan.structure_size, model.config.framing) for views in cutouts]
    tokens = [_Tokens(torch.stack([item.views[0] for item in encoded]), plan.structure_size)]
    generator = seeded(SEED)
    try:
        structure = sample_structure(model, plan, tokens, generator, Sampling(samplers["structure"]), len(cutouts))
        shape = sample_shape(model, plan, structure, tokens, generator, Sampling(samplers["shape"]))
        texture = sample_texture(model, plan, shape, tokens, generator, Sampling(samplers["texture"]))
        decoded = decode(model, shape, texture)
        voxels = [fitted(found, views[0], model.config.framing) for found, views in zip(decoded, cutouts, strict=True)]
    except GenesisError as error:
        if error.code != ErrorCode.EMPTY_STRUCTURE:
            raise
        if len(cutouts) == 1:
            return [None]
        return [result for cutout in cutouts for result in generate(model, [cutout])]
    parts = [structure.coords[structure.coords[:, 0] == index, 1:] for index in range(len(cutouts))]
    return [(Structure(part, structure.resolution), found) for part, found in zip(parts, voxels, strict=True)]


def compare(result: tuple[Structure, OVoxel] | None, truth: Truth) -> dict[str, float]:
    """A generated object's `MEASURES`, those that the truth allows; None scores nothing."""
    if result is None:
        return {"iou_structure": 0.0, "iou_voxels": 0.0, "silhouette": 0.0}
    structure, voxels = result
    ratio = voxels.resolution // len(truth.fine)
    positions, true_positions = positions_of(voxels), positions_of(truth.voxels)
    drawn, attributes = draw(positions, voxels.attributes, VIEW)
    both, outline = drawn & truth.mask, silhouette(positions, VIEW)
    row = {
        "iou_structure": _grid_iou(structure.coords, truth.structure),
        "iou_voxels": _grid_iou(voxels.coords // ratio, truth.fine),
        "silhouette": float((outline & truth.mask).sum() / (outline | truth.mask).sum()),
        **_surfaces(voxels, truth.voxels),
    }
    if both.any():
        found = attributes[both].clamp(0, 1)
        row["colour_psnr"] = _psnr(found[:, :3] - truth.albedo[both])
        if truth.metallic_roughness is not None:
            material = (found[:, 3:5] - truth.metallic_roughness[both]).abs().mean(0)
            row |= {"metallic": float(material[0]), "roughness": float(material[1])}
    if truth.hidden is not None and truth.hidden.any():
        chosen = _evenly(truth.hidden.nonzero()[:, 0], HIDDEN_POINTS)
        distance, nearest = torch.cdist(true_positions[chosen].float(), positions.float()).min(1)
        row["hidden_distance"] = float(distance.mean())
        row["hidden_colour"] = _psnr(voxels.attributes[nearest, :3].clamp(0, 1) - truth.voxels.attributes[chosen, :3])
    return row


def positions_of(voxels: OVoxel) -> Tensor:
    """Dual vertices in model space, `[N, 3]`."""
    return (voxels.coords + voxels.dual_vertices) / voxels.resolution - 0.5


def _psnr(error: Tensor) -> float:
    return float(-10 * error.square().mean().clamp(min=1e-6).log10())


def _evenly(rows: Tensor, count: int) -> Tensor:
    return rows[:: max(1, -(-len(rows) // count))]


def _surfaces(found: OVoxel, true: OVoxel) -> dict[str, float]:
    """Chamfer distance (mean of the two mean nearest distances) and mean |cosine| of the normals at nearest points."""
    try:
        (a, normal_a), (b, normal_b) = (sample_surface(extract_mesh(voxels), SURFACE_POINTS) for voxels in (found, true))
    except GenesisError as error:
        if error.code != ErrorCode.EMPTY_STRUCTURE:
            raise
        return {}  # voxels, but no face
    distances = torch.cdist(a, b)
    to_true, to_found = distances.min(1), distances.min(0)
    cosines = [(normal_a * normal_b[to_true.indices]).sum(1), (normal_b * normal_a[to_found.indices]).sum(1)]
    return {
        "chamfer": float((to_true.values.mean() + to_found.values.mean()) / 2),
        "normals": float(sum(cosine.abs().mean() for cosine in cosines) / 2),
    }


def sample_surface(mesh: Mesh, count: int) -> tuple[Tensor, Tensor]:
    """Points spread evenly by area, and the normals of their faces, float32 `[count, 3]` each."""
    normals, areas = face_normals(mesh), face_areas(mesh)
    steps = (torch.arange(count, device=areas.device) + 0.5) / count
    total = areas.double().cumsum(0)
    faces = torch.searchsorted(total, steps.double() * total[-1]).clamp(max=len(areas) - 1)
    golden = torch.arange(count, device=areas.device, dtype=torch.float64)
    u, v = (golden * 0.7548776662).frac().float().sqrt(), (golden * 0.5698402910).frac().float()
    weights = torch.stack([1 - u, u * (1 - v), u * v], dim=1)
    corners = mesh.vertices[mesh.faces[faces].long()]
    return (weights[..., None] * corners).sum(1), normals[faces]


def draw(positions: Tensor, attributes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Voxels as 2 x 2 pixels each, nearest first, from the world's camera.

    Args:
        positions: float `[N, 3]` in model space.
        attributes: `[N, C]`.
        size: side of the picture.

    Returns:
        bool `[size, size]`, what is covered, and `[size, size, C]`.
    """
    depth = positions[:, 1] + CAMERA_DISTANCE
    corner = (_pixels(positions, size) - 0.5).floor().long()
    steps = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=corner.device)
    pixels = (corner[:, None] + steps).clamp(0, size - 1)
    pixels = (pixels[..., 0] * size + pixels[..., 1]).flatten()
    source = torch.arange(len(positions), device=corner.device).repeat_interleave(4)
    nearest = torch.full((size * size,), torch.inf, device=corner.device)
    nearest = nearest.scatter_reduce(0, pixels, depth[source], "amin")
    first = depth[source] == nearest[pixels]
    image = attributes.new_zeros(size * size, attributes.shape[1])
    image[pixels[first]] = attributes[source[first]]
    return nearest.isfinite().view(size, size), image.view(size, size, -1)


def silhouette(positions: Tensor, size: int) -> Tensor:
    """bool `[size, size]`: the pixels of the voxels, gaps between them closed without making the outline wider."""
    row, column = _pixels(positions, size).floor().long().clamp(0, size - 1).unbind(1)
    mask = torch.zeros(1, 1, size, size, device=positions.device)
    mask[0, 0, row, column] = 1
    wide = F.max_pool2d(mask, 3, 1, 1)
    return -F.max_pool2d(-wide, 3, 1, 1)[0, 0] > 0.5


def _pixels(positions: Tensor, size: int) -> Tensor:
    """Row and column `[N, 2]`, in pixels, of points in model space."""
    scale = CAMERA_DISTANCE / (positions[:, 1] + CAMERA_DISTANCE)
    return torch.stack([0.5 - positions[:, 2] * scale, 0.5 + positions[:, 0] * scale], dim=1) * size


def _grid_iou(cells: Tensor, truth: Tensor) -> float:
    guess = torch.zeros_like(truth)
    guess[tuple(cells.long().unbind(1))] = True
    return float((guess & truth).sum() / (guess | truth).sum())


def format_table(report: dict[str, Any]) -> str:
    """The report as text; what was not measured has no line."""
    lines = [f"{report['objects']} held-out objects, {report['failed']} without a result", f"{'':52}    mean  median"]
    for name, (title, decimals) in MEASURES.items():
        if name not in report["mean"]:
            continue
        mean, median = report["mean"][name], report["median"][name]
        lines.append(f"{title:52}{mean:8.{decimals}f}{median:8.{decimals}f}")
    return "\n".join(lines)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """The report as JSON."""
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@click.command()
@click.option("--model", "model_id", default=MINI, show_default=True, help="Model id or folder.")
@click.option("--objects", default=40, show_default=True, help="Held-out objects to measure on.")
@click.option("--views", default=1, show_default=True, help="Pictures of each object, evenly around it.")
@click.option("--slender", is_flag=True, help="On held-out things of rods, wires and slats, and fruit.")
@click.option("--device", default=None, help="cuda or cpu; the GPU where there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
def main(model_id: str, objects: int, views: int, slender: bool, device: str | None, as_json: bool) -> None:
    """Measure genesis-mini on held-out objects."""
    report = evaluate(model_id, objects, device, views, slender)
    click.echo(json.dumps(report) if as_json else format_table(report))


if __name__ == "__main__":
    main()
