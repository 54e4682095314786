# SPDX-License-Identifier: Apache-2.0
"""The texture atlas of a model, measured: how it is used, what its charts are like, what shows at its seams
(docs/spec/geometry.md 18.4, 18.8, 19.2, 21)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from genesis_server.bake.read_gltf import GlbModel
from genesis_server.report.geometry import face_parts, weld
from native_ext.rasterize import overdraw, rasterize

SEAM_MIP = 3  # level at which both sides of the seams are compared (21)
THIN_TEXELS = 8.0  # a chart narrower than this is thin
TINY_CHART = 1e-4  # of the surface: smaller charts do not count for the spread of density
_DIRECTIONS = 24  # tried for a chart's smallest width
_GRID_MIN, _GRID_MAX = 512, 4096  # texels per side of the grid for use and overlap where the texture is smaller or larger
_SAMPLES_PER_SEAM = 3
_OUTSIDE = 1e-4  # of the texture, that a vertex may lie beyond it: other tools round


def measure_atlas(model: GlbModel) -> dict[str, Any]:
    """Measures of a model's texture coordinates and textures; of several materials each with its own textures, taken together.

    Returns:
        charts, thin_charts (narrower than 8 texels), uv_use (share of the atlas under faces), uv_overlap (share under two
        faces), zero_uv_faces, mirrored_faces, uv_outside (vertices outside 0..1), texel_density (texels per unit of length,
        mean), density_spread (largest difference of a chart to the mean, relative), seam_edges, seam_error (mean difference
        of base colour across seams at mip level 3, of 255), black_texels (under faces, shares of them), unfilled_texels (beside
        faces, black or without a value where the face is not; bilinear filtering reads them), metallic, roughness and alpha
        [least, mean, most] under faces, 0..1.
    """
    parts = model.by_material()
    found = [_measure_one(part) for part in parts]
    return found[0] if len(found) == 1 else _together(found, parts)


def _together(found: list[dict[str, Any]], parts: list[GlbModel]) -> dict[str, Any]:
    """Sums of counts, means of shares by what they are shares of, and the widest ranges."""
    area = np.array([_areas(part).sum() for part in parts])
    texels = np.array([part.material.base_color[..., 0].size for part in parts], float)
    covered = texels * [one["uv_use"] for one in found]
    seams = np.array([one["seam_edges"] for one in found], float)

    def mean(name: str, weight: np.ndarray, digits: int) -> float:
        return round(float((weight * [one[name] for one in found]).sum() / max(weight.sum(), 1e-30)), digits)

    summed = ("charts", "thin_charts", "zero_uv_faces", "mirrored_faces", "uv_outside", "seam_edges")
    return {
        **{name: sum(one[name] for one in found) for name in summed},
        "uv_use": mean("uv_use", texels, 4),
        "uv_overlap": mean("uv_overlap", texels, 6),
        "texel_density": mean("texel_density", area, 2),
        "density_spread": max(one["density_spread"] for one in found),
        "seam_error": mean("seam_error", seams, 3),
        "black_texels": mean("black_texels", covered, 6),
        "unfilled_texels": mean("unfilled_texels", covered, 6),
        **{
            name: [
                min(one[name][0] for one in found),
                round(float((area * [one[name][1] for one in found]).sum() / max(area.sum(), 1e-30)), 3),
                max(one[name][2] for one in found),
            ]
            for name in ("metallic", "roughness", "alpha")
        },
    }


def _measure_one(model: GlbModel) -> dict[str, Any]:
    base = model.material.base_color
    height, width = base.shape[:2]
    scale = np.array([width, height], np.float32)
    side = int(np.clip(max(width, height), _GRID_MIN, _GRID_MAX))
    uv = model.uvs.astype(np.float64)
    corners = uv[model.faces]
    corners -= np.floor(corners.min(1, keepdims=True) + 1e-6)  # textures repeat: faces outside lie on what is inside
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turned = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]  # v grows downward: negative where the picture is not mirrored
    chart = face_parts(model.faces.astype(np.int64), len(model.vertices))
    grid = torch.from_numpy(corners.astype(np.float32) * np.float32(side))
    used = rasterize(grid, side, side).face >= 0
    return {
        "charts": int(chart.max()) + 1,
        "thin_charts": int((chart_widths(uv * scale, model.faces, chart) < THIN_TEXELS).sum()),
        "uv_use": round(float(used.float().mean()), 4),
        "uv_overlap": round(float((overdraw(grid, side, side) > 1).float().mean()), 6),
        "zero_uv_faces": int((turned == 0).sum()),
        "mirrored_faces": int((turned > 0).sum()),
        "uv_outside": int(((uv < -_OUTSIDE) | (uv > 1 + _OUTSIDE)).any(1).sum()),
        **_density(model, chart, np.abs(turned) / 2 * width * height),
        **seam_difference(model),
        **_texels(model, corners),
    }


def chart_widths(points: np.ndarray, faces: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Smallest extent of every chart over all directions, in the units of `points` [V, 2]; float64 [C]."""
    count = int(chart.max()) + 1
    index = np.repeat(chart, 3)
    flat = points[faces.reshape(-1)]
    best = np.full(count, np.inf)
    for angle in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        along = flat @ [np.cos(angle), np.sin(angle)]
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, index, along)
        np.maximum.at(high, index, along)
        best = np.minimum(best, high - low)
    return best


def _areas(model: GlbModel) -> np.ndarray:
    corners = model.vertices.astype(np.float64)[model.faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def _density(model: GlbModel, chart: np.ndarray, texels: np.ndarray) -> dict[str, float]:
    area = _areas(model)
    chart_area, chart_texels = np.bincount(chart, area), np.bincount(chart, texels)
    density = np.sqrt(chart_texels / np.maximum(chart_area, 1e-30))
    mean = float(np.sqrt(texels.sum() / max(area.sum(), 1e-30)))
    counts = chart_area > TINY_CHART * area.sum()
    spread = float(np.abs(density[counts] / max(mean, 1e-30) - 1).max()) if counts.any() else 0.0
    return {"texel_density": round(mean, 2), "density_spread": round(spread, 4)}


def seam_difference(model: GlbModel, level: int = SEAM_MIP) -> dict[str, Any]:
    """How many edges have two places in the texture, and how much the base colour differs there at a mip level, of 255."""
    edges = weld(model.vertices, model.faces)
    faces = model.faces.astype(np.int64)
    order = np.argsort(edges.key, kind="stable")
    first = order[:-1][(edges.key[order[:-1]] == edges.key[order[1:]]) & (edges.uses[edges.key[order[:-1]]] == 2)]
    second = order[np.searchsorted(edges.key[order], edges.key[first], side="right") - 1]
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    points = edges.faces.reshape(-1)
    same_way = points[first] == points[second]
    near, far = np.where(same_way, start[second], end[second]), np.where(same_way, end[second], start[second])
    seam = (start[first] != near) | (end[first] != far)
    one = model.uvs[np.stack([start[first], end[first]], 1)[seam]].astype(np.float64)
    two = model.uvs[np.stack([near, far], 1)[seam]].astype(np.float64)
    apart = np.abs(one - two).max((1, 2)) > 1e-7 if len(one) else np.zeros(0, bool)
    one, two = one[apart], two[apart]
    if not len(one):
        return {"seam_edges": 0, "seam_error": 0.0}
    mip = mip_level(model.material.base_color[..., :3], level)
    differences = []
    for share in (np.arange(_SAMPLES_PER_SEAM) + 0.5) / _SAMPLES_PER_SEAM:
        here, there = (sample(mip, ends[:, 0] * (1 - share) + ends[:, 1] * share) for ends in (one, two))
        differences.append(np.abs(here - there).mean())
    return {"seam_edges": len(one), "seam_error": round(float(np.mean(differences)), 3)}


def mip_level(picture: np.ndarray, level: int) -> np.ndarray:
    """float32 picture, halved `level` times by the mean of 2 x 2 texels, down to one texel at least."""
    result = picture.astype(np.float32)
    for _ in range(level):
        if min(result.shape[:2]) < 2:
            break
        result = cv2.resize(result, (result.shape[1] // 2, result.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return result if result.ndim == 3 else result[..., None]


def sample(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples float32 [n, C], repeated outside of 0..1 and clamped within; uv in the glTF convention [n, 2]."""
    height, width = picture.shape[:2]
    uv = np.where((uv < 0) | (uv > 1), uv - np.floor(uv), uv)
    x, y = (uv * [width, height] - 0.5).T
    col, row = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - col)[:, None], (y - row)[:, None]
    cols, rows = ([np.clip(base + step, 0, size - 1) for step in (0, 1)] for base, size in ((col, width), (row, height)))
    above = picture[rows[0], cols[0]] * (1 - fx) + picture[rows[0], cols[1]] * fx
    below = picture[rows[1], cols[0]] * (1 - fx) + picture[rows[1], cols[1]] * fx
    return (above * (1 - fy) + below * fy).astype(np.float32)


def layout_picture(model: GlbModel, size: int) -> np.ndarray:
    """The base colour texture of the first material with the borders of its charts, uint8 [size, size, 3]."""
    part = model.by_material()[0]
    picture = cv2.resize(part.material.base_color[..., :3], (size, size), interpolation=cv2.INTER_AREA)
    ends = np.stack([part.faces, np.roll(part.faces, -1, 1)], 2).reshape(-1, 2)
    _, first, uses = np.unique(np.sort(ends, 1), axis=0, return_index=True, return_counts=True)
    border = part.uvs[ends[first[uses == 1]]].astype(np.float64)
    lines = np.round((border - np.floor(border.min(1, keepdims=True) + 1e-6)) * size * 16).astype(np.int32)
    result = np.ascontiguousarray(picture)
    cv2.polylines(result, list(lines), False, (255, 60, 200), 1, cv2.LINE_AA, 4)
    return result


def _texels(model: GlbModel, corners: np.ndarray) -> dict[str, Any]:
    base, surface = model.material.base_color, model.material.metallic_roughness
    height, width = base.shape[:2]
    points = torch.from_numpy((corners * [width, height]).astype(np.float32))
    face = rasterize(points, height, width, reach=1.0).face.numpy() >= 0
    under = rasterize(points, height, width).face.numpy() >= 0
    black = (base[..., :3] == 0).all(2)
    beside = face & ~under
    lit = cv2.dilate((under & ~black).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    count = max(int(under.sum()), 1)
    ranges = {"alpha": base[..., 3][under]}
    if surface.shape[0] > 1:
        same = surface.shape[:2] == base.shape[:2]
        where = under if same else np.ones(surface.shape[:2], bool)
        ranges |= {"metallic": surface[..., 2][where], "roughness": surface[..., 1][where]}
    else:
        ranges |= {"metallic": surface[..., 2].reshape(-1), "roughness": surface[..., 1].reshape(-1)}
    return {
        "black_texels": round(float((under & black).sum()) / count, 6),
        "unfilled_texels": round(float((beside & black & lit).sum()) / count, 6),
        **{name: _range(values) for name, values in ranges.items()},
    }


def _range(values: np.ndarray) -> list[float]:
    if not values.size:
        return [0.0, 0.0, 0.0]
    return [round(float(value) / 255, 3) for value in (values.min(), values.mean(), values.max())]
