# SPDX-License-Identifier: Apache-2.0
"""genesis-mini on models from outside its world: the "BlendSwap CC-0" furniture of Sweet Home 3D, none of it used in training.

    apt-get download sweethome3d-furniture; dpkg-deb -x sweethome3d-furniture_*.deb furniture
    python -m tests.benchmarks.mini_furniture --models furniture --json furniture.json --sheet furniture.png

Every model is placed in genesis-mini's frame (docs/spec/mini.md 1), drawn with alpha from its camera, generated from that
picture and compared with its own O-Voxel. The files have base colours only, so metallic and roughness are not measured.
Glass counts as solid, in the picture and in the truth. Models whose textures cut shapes out with alpha, and those shown in
`examples/`, are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.mesh.finish import repair
from genesis_server.mesh.mesh import Mesh
from genesis_server.mini.evaluate import SEED, VIEW, Truth, compare, format_table, generate, summary
from genesis_server.mini.world.frame import CUBE, FILL
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.surface import SurfaceMaterial, TexturedSurface
from genesis_server.ovoxel.texture import Texture, Wrap
from genesis_server.ovoxel.voxelize import voxelize_surface
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.model import Model
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.report.render import FRONT_DISTANCE, View, over, render_views

COLLECTION = "BlendSwap-CC-0.sh3f"
EXAMPLES = {
    "barrel", "basketball", "caballito", "cactus", "caffe_final", "chicken", "cupcake", "oakChair", "plasticCup",
    "stoneLantern", "teddyBear", "woodToy",
}  # fmt: skip
YAW, PITCH = -30.0, 15.0  # degrees, of a product shot
PICTURE = 448
ROUGHNESS = 0.7
CELL, BORDER = 512, 4  # texels of a texture in the atlas, and of what is repeated around it
TILE = 168
PAPER = (244, 244, 244)
FRONT = View(distance=FRONT_DISTANCE)
SHOWN = (FRONT, View(azimuth=45, elevation=15), View(azimuth=180, elevation=15))


@dataclass(frozen=True)
class Furniture:
    """Triangles without shared corners, z up, front to -y; one base colour atlas.

    Attributes:
        corners, normals: float64 [F, 3, 3]; zero normals where the file has none.
        uvs: float32 [F, 3, 2], v growing downward.
        atlas: uint8 [H, W, 3].
    """

    corners: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    atlas: np.ndarray


def unpacked(folder: Path) -> Path:
    """The folder with the collection's OBJ files, unpacked beside the .sh3f if need be."""
    for packed in sorted(folder.rglob(COLLECTION))[:1]:
        inside = packed.with_suffix("")
        if not inside.is_dir():
            zipfile.ZipFile(packed).extractall(inside)
        return inside
    if next(folder.rglob("PluginFurnitureCatalog.properties"), None) and next(folder.rglob("*.obj"), None):
        return folder
    raise GenesisError(
        ErrorCode.BAD_PARAMETER,
        f"{folder} holds neither {COLLECTION} nor what is in it.",
        "Get Debian's sweethome3d-furniture (apt-get download), unpack it (dpkg-deb -x FILE FOLDER) and name that folder.",
    )


def catalog_rotations(folder: Path) -> dict[str, np.ndarray]:
    """OBJ path inside the collection -> 3 x 3 rotation, of the models that do not stand upright in their file."""
    lines = next(folder.rglob("PluginFurnitureCatalog.properties")).read_text(encoding="latin-1").splitlines()
    entries = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    turned = {key.split("#")[1]: value for key, value in entries.items() if key.startswith("modelRotation#")}
    return {entries[f"model#{n}"].strip("/ "): np.array(value.split(), float).reshape(3, 3) for n, value in turned.items()}


def read(path: Path, rotation: np.ndarray) -> Furniture | None:
    """The model of an OBJ file; None if a texture cuts shapes out of it."""
    parts = [part for part in trimesh.load(path, force="scene", process=False).geometry.values() if len(part.faces)]
    cells, looks = [], []
    for part in parts:
        material, uv = getattr(part.visual, "material", None), getattr(part.visual, "uv", None)
        image = getattr(material, "image", None) if uv is not None else None
        colour = getattr(material, "diffuse", (204, 204, 204, 255))
        if image is not None and np.asarray(image.convert("RGBA"))[..., 3].min() < 250:
            return None
        picture, uvs = _tiled(image, np.asarray(uv)[part.faces]) if image is not None else _plain(colour, len(part.faces))
        cells.append(picture)
        looks.append(uvs)
    atlas, uvs = _atlas(cells, looks)
    y_up = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ rotation  # the files' front looks to +z
    corners = np.concatenate([part.vertices[part.faces] for part in parts]) @ y_up.T
    normals = np.concatenate([part.vertex_normals[part.faces] for part in parts]) @ y_up.T
    return Furniture(corners, normals, uvs, atlas)


def _plain(colour: Any, faces: int) -> tuple[np.ndarray, np.ndarray]:
    return np.broadcast_to(np.array(colour[:3], np.uint8), (1, 1, 3)), np.full((faces, 3, 2), 0.5)


def _tiled(image: Image.Image, uvs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A texture repeated as often as one triangle needs it, squeezed to one cell, and UVs inside 0..1 with v downward."""
    uvs = uvs * (1, -1) + (0, 1)
    uvs = uvs - np.floor(uvs.min(1, keepdims=True))
    repeats = np.maximum(np.ceil(uvs.max((0, 1))), 1).astype(int)
    one = image.convert("RGB").resize(tuple(int(n) for n in np.maximum(CELL // repeats, 1)), Image.Resampling.BOX)
    return np.tile(np.asarray(one), (repeats[1], repeats[0], 1)), uvs / repeats


def _atlas(cells: list[np.ndarray], looks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    columns = math.ceil(math.sqrt(len(cells)))
    pitch = max(max(cell.shape[:2]) for cell in cells) + 2 * BORDER
    size = columns * pitch
    atlas, placed = np.zeros((size, size, 3), np.uint8), []
    for number, (cell, uvs) in enumerate(zip(cells, looks, strict=True)):
        row, column = (pitch * place for place in divmod(number, columns))
        height, width = (side + 2 * BORDER for side in cell.shape[:2])
        atlas[row : row + height, column : column + width] = np.pad(cell, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), "edge")
        placed.append((uvs * cell.shape[1::-1] + BORDER + (column, row)) / size)
    return atlas, np.concatenate(placed).astype(np.float32)


def placed(model: Furniture) -> Furniture:
    """The model turned as in a product shot and fitted into genesis-mini's frame."""
    turn, tilt = (trimesh.transformations.rotation_matrix(math.radians(a), axis)[:3, :3] for a, axis in
                  ((YAW, (0, 0, 1)), (PITCH, (1, 0, 0))))  # fmt: skip
    rotation = tilt @ turn
    points, squash = fit((model.corners @ rotation.T).reshape(-1, 3))
    normals = model.normals @ rotation.T / (1, squash, 1)
    return Furniture(points.reshape(model.corners.shape), normals, model.uvs, model.atlas)


def fit(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Points [N, 3] whose picture fills the frame and that stay in the cube; and how much y was squashed against x and z.

    The outline's box is that of the projected points: nothing has to be drawn. The last step draws everything towards the
    camera until it is inside the cube sideways, which changes no pixel.
    """
    points = points - (points.min(0) + points.max(0)) / 2
    reach, scale, shift, pull = np.abs(points).max(0), 0.48 / np.linalg.norm(points, axis=1).max(), np.zeros(2), 1.0
    for _step in range(20):
        room = (CUBE - FRONT_DISTANCE * (1 - pull)) / pull
        squash = min(1.0, room / max(scale * reach[1], 1e-9))
        flat = scale * points[:, [0, 2]] + shift
        depth = scale * squash * points[:, 1]
        seen = flat * (FRONT_DISTANCE / (depth + FRONT_DISTANCE))[:, None]
        low, high = seen.min(0), seen.max(0)
        pull = min(1.0, CUBE / np.abs(flat).max())
        grow = FILL / (high - low).max()
        scale, shift = scale * grow, (shift - (low + high) / 2) * grow
    eye = np.array([0, -FRONT_DISTANCE, 0])
    return eye + pull * (np.stack([flat[:, 0], depth, flat[:, 1]], 1) - eye), squash


def drawable(model: Furniture) -> GlbModel:
    """For the project's renderer."""
    base = np.dstack([model.atlas, np.full(model.atlas.shape[:2], 255, np.uint8)])
    material = Material(base, np.array([[[255, round(255 * ROUGHNESS), 0]]], np.uint8))
    lengths = np.linalg.norm(model.normals, axis=2, keepdims=True)
    return GlbModel(
        model.corners.reshape(-1, 3).astype(np.float32),
        (model.normals / np.maximum(lengths, 1e-9)).reshape(-1, 3).astype(np.float32),
        np.arange(3 * len(model.corners), dtype=np.int32).reshape(-1, 3),
        model.uvs.reshape(-1, 2),
        material,
    )


def truth(model: Furniture, shown: GlbModel, resolution: int, grid: int) -> Truth:
    """The model's own O-Voxel, occupied grids, and its outline and colours from the camera."""
    mesh = Mesh(torch.from_numpy(shown.vertices), torch.from_numpy(shown.faces))
    uvs = torch.from_numpy(model.uvs * np.float32([1, -1]) + np.float32([0, 1]))
    texture = Texture(torch.from_numpy(model.atlas), wrap=Wrap.CLAMP)
    material = SurfaceMaterial(metallic=0.0, roughness=ROUGHNESS, base_color_texture=texture)
    surface = TexturedSurface(mesh, torch.zeros(len(mesh.faces), dtype=torch.int64), (material,), uvs)
    voxels = voxelize_surface(surface, resolution)
    flat = torch.from_numpy(render_views(shown, [View(mode="base_color", distance=FRONT_DISTANCE)], VIEW)[0])
    occupied = (_occupied(voxels, cells) for cells in (grid, 2 * grid))
    return Truth(voxels, *occupied, flat[..., 3] >= 128, flat[..., :3].float() / 255)


def _occupied(voxels: OVoxel, grid: int) -> torch.Tensor:
    cells = torch.zeros((grid,) * 3, dtype=torch.bool)
    cells[tuple((voxels.coords.long() // (voxels.resolution // grid)).unbind(1))] = True
    return cells


def coloured(voxels: OVoxel) -> GlbModel:
    """The surface of an O-Voxel, every face in the colour of the voxel nearest to it: quick to draw, nothing baked."""
    mesh = repair(extract_mesh(voxels))
    positions = (voxels.coords + voxels.dual_vertices) / voxels.resolution - 0.5
    corners = mesh.vertices[mesh.faces.long()].numpy()
    near = cKDTree(positions.numpy()).query(corners.mean(1))[1]
    colours = (voxels.attributes[near, :3].clamp(0, 1) * 255).round().byte().numpy()
    side = math.ceil(math.sqrt(len(colours)))
    atlas = np.zeros((side * side, 3), np.uint8)
    atlas[: len(colours)] = colours
    rows, columns = np.divmod(np.arange(len(colours)), side)
    uvs = (np.stack([columns, rows], 1) + 0.5) / side
    uvs = np.repeat(uvs[:, None], 3, axis=1).astype(np.float32)
    return drawable(Furniture(corners, np.zeros_like(corners), uvs, atlas.reshape(side, side, 3)))


def line(picture: Image.Image, found: OVoxel | None, shown: GlbModel, title: str) -> np.ndarray:
    """One row of the sheet: the picture, three views of what was generated, the true back."""
    views = [np.asarray(picture.resize((TILE, TILE), Image.Resampling.BOX))]
    empty = np.zeros((TILE, TILE, 4), np.uint8)
    views += [empty] * len(SHOWN) if found is None else render_views(coloured(found), SHOWN, TILE)
    row = Image.fromarray(np.concatenate([over(view, PAPER) for view in [*views, *render_views(shown, SHOWN[2:], TILE)]], 1))
    ImageDraw.Draw(row).text((4, TILE - 13), title, fill=(60, 60, 60))
    return np.asarray(row)


def measure(folder: Path, count: int, model: Model, seconds: float, sheet: Path | None) -> dict[str, Any]:
    """The report of `genesis_server.mini.evaluate` for `count` models, or as many as `seconds` allow."""
    folder = unpacked(folder)
    rotations = catalog_rotations(folder)
    paths = sorted((path for path in folder.rglob("*.obj") if path.stem not in EXAMPLES), key=lambda path: path.stem.lower())
    paths = paths[:: max(1, len(paths) // count)][:count]
    plan, rows, names, lines, left_out = model.plan(), [], [], [], []
    began = time.monotonic()
    for path in paths:
        if time.monotonic() - began > seconds:
            break
        rotation = rotations.get(path.relative_to(folder).as_posix(), np.eye(3))
        raw = read(path, rotation)
        if raw is None:
            left_out.append(path.stem)
            continue
        piece = placed(raw)
        shown = drawable(piece)
        picture = Image.fromarray(render_views(shown, [FRONT], PICTURE)[0])
        cutout = cut_out(picture, "auto", model.remover()).picture
        result = generate(model, [(cutout,)])[0]
        rows.append(compare(result, truth(piece, shown, plan.resolution, plan.grid)))
        names.append(path.stem)
        print(f"{path.stem:24}" + "".join(f" {name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
        if sheet:
            title = f"{path.stem} IoU {rows[-1]['iou_structure']:.2f} outline {rows[-1]['silhouette']:.2f}"
            lines.append(line(picture, result and result[1], shown, title))
    if sheet and lines:
        lines += [np.full_like(lines[0], 255)] * (len(lines) % 2)
        pairs = [np.concatenate(lines[i : i + 2], axis=1) for i in range(0, len(lines), 2)]
        Image.fromarray(np.concatenate(pairs)).save(sheet)
    return {
        "objects": len(rows),
        "failed": sum("chamfer" not in row for row in rows),
        "chosen": len(paths),
        "left_out": left_out,
        "mean": summary(rows, statistics.fmean),
        "median": summary(rows, statistics.median),
        "each": dict(zip(names, rows, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with the unpacked Debian package or collection")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--model", default="mini", help="model id or folder")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no model after this time")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--sheet", type=Path, help="PNG: picture, generated front, three-quarters, back, true back")
    options = parser.parse_args()
    try:
        report = measure(options.models, options.count, Model.load(options.model, "cpu"), options.seconds, options.sheet)
    except GenesisError as error:
        parser.exit(2, f"{error}\n")
    print(format_table(report))
    print(f"of {report['chosen']} chosen; left out for textures with alpha: {', '.join(report['left_out']) or 'none'}")
    if options.json:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10).stdout
        machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "commit": commit.strip()}
        options.json.write_text(json.dumps({**machine, "seed": SEED, "model": options.model, **report}, indent=1))


if __name__ == "__main__":
    main()
