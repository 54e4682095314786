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
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.bake import BAKE_STAGES, bake_voxels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.atlas import mip_level
from genesis_server.report.geometry import face_parts
from genesis_server.report.render import SHEET_BACKGROUND, View, over, render_views
from native_ext.rasterize import rasterize
from tests import analytic

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
    knot = bake(analytic.voxelize(analytic.torus_knot(), RESOLUTION))
    yield "18.4 seams from afar (mip 3)", *(rendered(from_afar(m), "base_color") for m in (black_gutters(knot), knot))

    pane = analytic.voxelize(replace(analytic.rounded_box(), colour=glass), RESOLUTION)
    opaque = bake(pane, replace(SETTINGS, alpha="opaque"))
    yield "18.7 alpha kept but opaque", rendered(opaque), rendered(bake(pane))

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

    def with_known(mesh: Any, _: OVoxel) -> surface.DetailedSurface:
        return original(mesh, known)

    with replaced(textures, "DetailedSurface", with_known):
        return bake(shape)


def write(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), picture[..., ::-1], _JPEG)
    print(f"{path}: {picture.shape[1]} x {picture.shape[0]}, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    makers: dict[str, Callable[[], np.ndarray]] = {
        "bake_defects.jpg": lambda: np.concatenate(
            [labelled(np.concatenate([before, after], 1), what) for what, before, after in defects()]
        ),
        "bake_assets.jpg": lambda: np.concatenate([asset_row(name, voxels) for name, voxels in assets()]),
    }
    for name, make in makers.items():
        write(folder / name, make())


if __name__ == "__main__":
    main()
