# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/bake.md: `python -m tests.pictures.bake docs/images`.

Every analytic asset lit, as wireframe, its UV layout and its normal map; and defects of docs/spec/geometry.md 18 beside what is
baked here, each "before" made by taking out what prevents it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from genesis_server.bake import surface, textures
from genesis_server.bake.images import shallow
from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.bake import BAKE_STAGES, bake_voxels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.atlas import mip_level
from genesis_server.report.geometry import face_parts
from genesis_server.report.render import SHEET_BACKGROUND, View, over, render_views
from native_ext.rasterize import rasterize
from tests import analytic
from tests.mesh.noise import spoil

SIZE = 300
RESOLUTION = 128
SETTINGS = BakeSettings(faces=12_000, texture_size=1024)
VIEW = View(azimuth=35, elevation=25)
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]


def bake(voxels: OVoxel, settings: BakeSettings = SETTINGS) -> GlbModel:
    """Through a file, as a user gets it."""
    progress = Progress(BAKE_STAGES, lambda event: None, lambda: False)
    progress.started("mesh")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.glb"
        write_baked(path, bake_voxels(voxels, settings, progress, "cpu"), settings)
        return read_glb(path)


def rendered(model: GlbModel, mode: str = "shaded", view: View = VIEW, size: int = SIZE) -> np.ndarray:
    return over(render_views(model, [replace(view, mode=mode)], size)[0], SHEET_BACKGROUND)


def uv_layout(model: GlbModel) -> np.ndarray:
    """Charts in colours of their own, with the edges of their faces."""
    corners = torch.from_numpy(model.uvs[model.faces] * np.float32(2 * SIZE))
    face = rasterize(corners, 2 * SIZE, 2 * SIZE).face.numpy()
    chart = face_parts(model.faces.astype(np.int64), len(model.vertices))
    shades = np.random.default_rng(4).integers(90, 235, (int(chart.max()) + 1, 3)).astype(np.uint8)
    picture = np.where((face >= 0)[..., None], shades[chart[face.clip(0)]], np.uint8(30))
    lines = (corners.numpy()[:, :, None] * 16).astype(np.int32)
    cv2.polylines(picture, list(lines.reshape(-1, 3, 1, 2)), True, (60, 60, 60), 1, cv2.LINE_AA, 4)
    return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def asset_row(name: str, voxels: OVoxel) -> np.ndarray:
    model = bake(voxels)
    bumps = model.material.normal if model.material.normal.dtype == np.uint8 else shallow(model.material.normal)
    bumps = cv2.resize(bumps, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    row = np.concatenate([rendered(model), rendered(model, "wire"), uv_layout(model), bumps], 1)
    return labelled(row, f"{name}: {len(model.faces)} faces")


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    picture = np.pad(picture, ((26, 0), (0, 0), (0, 0)))
    picture[:26] = SHEET_BACKGROUND
    cv2.putText(picture, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (240, 240, 240), 1, cv2.LINE_AA)
    return picture


def assets() -> Iterator[tuple[str, OVoxel]]:
    for solid in analytic.solids():
        yield solid.name, analytic.voxelize(solid, RESOLUTION)
    blades = voxelize_mesh(analytic.leaves(), RESOLUTION)
    points = (blades.coords + blades.dual_vertices).numpy() / RESOLUTION - 0.5
    yield "leaves", replace(blades, attributes=torch.from_numpy(analytic.smooth_colour(points)).float())


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def glass(points: np.ndarray) -> np.ndarray:
    values = analytic.smooth_colour(points)
    values[:, 3], values[:, 4] = 0, 0.2
    values[:, 5] = np.where(np.abs(points[:, 2]) < 0.15, 0.35, 1)
    return values


def two_sided_sheet() -> OVoxel:
    """A thin wavy sheet, yellow above and blue below, a few of its cells missing as networks leave them."""

    def height(points: np.ndarray) -> np.ndarray:
        return 0.03 * np.sin(24 * points[:, 0]) * np.cos(21 * points[:, 1])

    def distance(points: np.ndarray) -> np.ndarray:
        slab = 0.7 * (np.abs(points[:, 2] - height(points)) - 0.011)
        return np.maximum(slab, np.abs(points[:, :2]).max(1) - 0.4)

    def colour(points: np.ndarray) -> np.ndarray:
        values = np.full((len(points), 6), [0.1, 0.2, 0.8, 0, 0.8, 1])
        values[points[:, 2] > height(points), :3] = 0.9, 0.75, 0.2
        return values

    return spoil(analytic.voxelize(analytic.Solid("sheet", distance, colour), RESOLUTION), missing=0.02, stray=0.0, tremble=0.0)


def nearest_of_all(self: surface.DetailedSurface, position: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whatever way it faces (18.1)."""
    return self._search.closest(position)[1:]


def without_small_faces(model: GlbModel, share: float) -> GlbModel:
    """As an unwrapper leaves them that gives small faces no place: all corners at (0, 0), which is black (18.2)."""
    a, b, c = model.vertices[model.faces].astype(np.float64).swapaxes(0, 1)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    lost = area < np.quantile(area, share)
    vertices = np.concatenate([model.vertices, model.vertices[model.faces[lost]].reshape(-1, 3)])
    normals = np.concatenate([model.normals, model.normals[model.faces[lost]].reshape(-1, 3)])
    uvs = np.concatenate([model.uvs, np.zeros((3 * int(lost.sum()), 2), np.float32)])
    faces = model.faces.copy()
    faces[lost] = len(model.vertices) + np.arange(3 * int(lost.sum())).reshape(-1, 3)
    base = model.material.base_color.copy()
    base[:8, :8, :3] = 0
    plain = replace(model.material, base_color=base, normal=None)
    return replace(model, vertices=vertices, normals=normals, faces=faces, uvs=uvs, tangents=None, material=plain)


def first_normals(model: GlbModel) -> GlbModel:
    """Of the last face around each vertex instead of the mean of all (18.3, 18.10)."""
    corners = model.vertices[model.faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = model.normals.copy()
    normals[model.faces.reshape(-1)] = np.repeat(crosses / np.linalg.norm(crosses, axis=1, keepdims=True), 3, 0)
    return replace(model, normals=normals, material=replace(model.material, normal=None))


def error_of(quantise: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Texels that show 100 times the error of writing them as 8 bits, around grey (18.9)."""

    def texels(values: torch.Tensor) -> torch.Tensor:
        levels = values.clamp(0, 1) * 255
        return ((quantise(levels) - levels) * 100 + 128).clamp(0, 255).to(torch.uint8)

    return texels


def black_gutters(model: GlbModel) -> GlbModel:
    """Coverage at texel centres alone and nothing between the charts (18.4)."""
    size = model.material.base_color.shape[0]
    covered = rasterize(torch.from_numpy(model.uvs[model.faces] * np.float32(size)), size, size).face.numpy() >= 0
    base = model.material.base_color * covered[..., None].astype(np.uint8)
    base[..., 3] = 255
    return replace(model, material=replace(model.material, base_color=base))


def from_afar(model: GlbModel) -> GlbModel:
    """With its textures at mip level 3."""
    base = (mip_level(model.material.base_color, 3) + 0.5).astype(np.uint8)
    return replace(model, material=replace(model.material, base_color=base))


def defects() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what, before, after)."""
    sheet = two_sided_sheet()
    few = replace(SETTINGS, faces=1500, normal_map=False)
    coarse = replace(few, faces=200)
    with replaced(surface.DetailedSurface, "locate", nearest_of_all):
        before = rendered(bake(sheet, coarse), "base_color")
    yield "18.1 texels of the other side", before, rendered(bake(sheet, coarse), "base_color")

    ball = bake(analytic.voxelize(analytic.sphere(), RESOLUTION))
    yield "18.2 faces without a place", rendered(without_small_faces(ball, 0.03)), rendered(ball)

    box = bake(analytic.voxelize(analytic.torus(), RESOLUTION), few)
    yield "18.3 normals of one face (1500 faces)", rendered(first_normals(box)), rendered(box)

    knot = bake(analytic.voxelize(analytic.torus_knot(), RESOLUTION))
    yield "18.4 seams from afar (mip 3)", *(rendered(from_afar(m), "base_color") for m in (black_gutters(knot), knot))

    pane = analytic.voxelize(replace(analytic.rounded_box(), colour=glass), RESOLUTION)
    opaque = bake(pane, replace(SETTINGS, alpha="opaque"))
    yield "18.7 alpha kept but opaque", rendered(opaque), rendered(bake(pane))

    pictures = []
    for quantise in (torch.floor, torch.round):
        with replaced(textures, "_bytes", error_of(quantise)):
            pictures.append(rendered(bake(analytic.voxelize(analytic.torus(), RESOLUTION), few), "base_color"))
    yield "18.9 darker by half a level (error x 100)", *pictures

    whole = analytic.voxelize(analytic.sphere(), RESOLUTION)
    bite = (whole.coords[:, 0] > 50) & (whole.coords[:, 0] < 80) & (whole.coords[:, 1] < 40)
    black = torch.where(bite[:, None], torch.tensor([0.0, 0, 0, 0, 1, 1]), whole.attributes)
    lost = replace(whole, attributes=black)
    kept = ~bite
    known = replace(
        whole,
        coords=whole.coords[kept],
        dual_vertices=whole.dual_vertices[kept],
        intersected=whole.intersected[kept],
        attributes=whole.attributes[kept],
    )
    filled = baked_on(whole, known)
    front = View(azimuth=0, elevation=10)
    yield "18.8 no data is black", rendered(bake(lost), "base_color", front), rendered(filled, "base_color", front)

    rough = analytic.voxelize(analytic.noisy_blob(), RESOLUTION)
    plain, mapped = (bake(rough, replace(SETTINGS, faces=3000, normal_map=use)) for use in (False, True))
    yield "18.12 no normal map (3000 faces)", rendered(plain), rendered(mapped)


def baked_on(shape: OVoxel, known: OVoxel) -> GlbModel:
    """The whole shape with colours of only a part of its voxels."""
    original = textures.DetailedSurface

    def with_known(mesh: Any, _: OVoxel, outward: bool) -> surface.DetailedSurface:
        return original(mesh, known, outward)

    with replaced(textures, "DetailedSurface", with_known):
        return bake(shape)


def in_two_columns(pictures: list[np.ndarray]) -> np.ndarray:
    half = (len(pictures) + 1) // 2
    return np.concatenate([np.concatenate(pictures[:half]), np.concatenate(pictures[half:])], 1)


def write(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), picture[..., ::-1], _JPEG)
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]}, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="one of the pictures")
    options = parser.parse_args()
    folder = options.folder
    makers: dict[str, Callable[[], np.ndarray]] = {
        "bake_defects.jpg": lambda: in_two_columns(
            [labelled(np.concatenate([before, after], 1), what) for what, before, after in defects()]
        ),
        "bake_assets.jpg": lambda: np.concatenate([asset_row(name, voxels) for name, voxels in assets()]),
    }
    for name, make in makers.items():
        if options.only in (None, name):
            write(folder / name, make())


if __name__ == "__main__":
    main()
