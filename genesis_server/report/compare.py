# SPDX-License-Identifier: Apache-2.0
"""Two models side by side, measured: how far apart their surfaces, colours and pictures are; a score sheet of seven lines.

A is the reference, B what is judged: a model held against itself has 100 in every line. Distances are relative to the diagonal
of A's bounds. Everything is computed on the CPU from surface points spread evenly by area (`surface_points`) and from renders
of the same cameras.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.report.atlas import layout_picture
from genesis_server.report.inspect import inspect
from genesis_server.report.render import View, render_views
from genesis_server.report.surface_points import SurfacePoints, around_places, surface_points, values_at
from native_ext.closest_point import closest_point

NEAR = (0.0025, 0.005, 0.01)  # of the diagonal: a point this near to the other surface counts as met
VIEWS = tuple(View(azimuth, elevation) for azimuth, elevation in ((0, 10), (90, 10), (180, 10), (270, 10), (35, 35)))
PICTURE_SIZE = 320
LAYOUT_SIZE = 640  # pixels per side of the picture of an atlas
PICTURE_MODES = ("shaded", "base_color", "metallic", "roughness", "clay", "normal", "wire")
_FRAME = 1.1  # half the diagonal of both models fits in the picture this many times
ANGLE = 10  # degrees between faces that count as parallel
_PARALLEL = np.cos(np.radians(ANGLE))
_BINS = 32
_FAR_COLOUR = 64.0  # levels of 255 between the colours of a place at which the colour score is 0
_FAR_SURFACE = 0.5  # difference of metallic and roughness of a place at which the PBR score is 0
_DETAIL_STEP = 1e-4, 0.01  # of the diagonal, least and most: detail is measured from texel to texel of A, within these
_PLAIN = 0.25  # levels of 255 from texel to texel: less than that is no detail
_SPREAD_MIN = 8.0  # levels of 255: colours that spread by less are one colour
_NOISE = 2.0  # times the detail of A that may be detail; more is noise


@dataclass(frozen=True)
class Score:
    """One line of the score sheet.

    Attributes:
        name: what is judged.
        value: 0 to 100.
        how: the rule, in words with its numbers.
    """

    name: str
    value: float
    how: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` found.

    Attributes:
        found: what `inspect` says of A and of B.
        measures: distances and differences, plain JSON values.
        scores: the seven lines.
        pictures: mode to [A's views, B's views, absolute differences], uint8 RGBA.
        layouts: the atlas of A and of B, uint8 RGB; empty where no pictures were asked for.
    """

    found: tuple[dict[str, Any], dict[str, Any]]
    measures: dict[str, Any]
    scores: list[Score]
    pictures: dict[str, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]
    layouts: tuple[np.ndarray, ...] = ()


def compare(
    a: str | os.PathLike[str] | GlbModel,
    b: str | os.PathLike[str] | GlbModel,
    size: int = PICTURE_SIZE,
    modes: Sequence[str] = PICTURE_MODES,
) -> Comparison:
    """Holds model B against model A.

    Args:
        a, b: paths, or what `read_glb` returned.
        size: pixels per side of each picture.
        modes: kinds of pictures that are wanted; "shaded" is always there.

    Raises:
        GenesisError: BAD_MESH for an unreadable file.
    """
    models = tuple(model if isinstance(model, GlbModel) else read_glb(model) for model in (a, b))
    found = tuple(inspect(model) for model in models)
    diagonal = float(np.linalg.norm(np.ptp(models[0].vertices, axis=0))) or 1.0
    least, most = _DETAIL_STEP
    step = float(np.clip(1 / max(found[0]["texel_density"], 1e-9), least * diagonal, most * diagonal))
    points = tuple(surface_points(model, step) for model in models)
    pictures = _pictures(models, size, modes)
    measures = {
        **_differences(models, points, diagonal),
        **_distributions(points),
        **_views(pictures),
        "detail": [round(_detail(one), 5) for one in points],
        "extents": [np.ptp(model.vertices, axis=0).round(5).tolist() for model in models],
        "areas": [round(values["area"], 6) for values in found],
    }
    layouts = tuple(layout_picture(model, LAYOUT_SIZE) for model in models) if modes else ()
    return Comparison(found, measures, score_sheet(found, measures), pictures, layouts)


def score_sheet(found: tuple[Mapping[str, Any], Mapping[str, Any]], measures: Mapping[str, Any]) -> list[Score]:
    """The seven lines; each says how it is computed."""
    detail_a, detail_b = measures["detail"]
    colour = measures["local_colour"]
    surface = (measures["local_metallic"] + measures["local_roughness"]) / 2
    uv_a, uv_b = (uv_score(values) for values in found)
    topology_a, topology_b = (topology_score(values) for values in found)
    near = ", ".join(f"{100 * limit:g}" for limit in NEAR)
    how = {
        "shape": f"a quarter each: points within {near} % of the diagonal of the other surface (F1 of both ways), and points "
        f"whose face is parallel to the nearest one within {ANGLE} degrees",
        "structure": f"overlap of the silhouettes, mean of {len(VIEWS)} views",
        "texture clarity": f"change of colour over a texel of A, of the spread of all colours: A {detail_a:.2%}, "
        f"B {detail_b:.2%}; B / A, and where B has more than {_NOISE:g} times as much, which is noise, {_NOISE:g} A / B",
        "colour": f"difference of the mean colours around the same places: {colour:.1f} levels of 255; {_FAR_COLOUR:.0f} is 0",
        "PBR": f"difference of mean metallic and roughness around the same places: {surface:.3f}; {_FAR_SURFACE} is 0",
        "UV": f"use, overlap, density, seams, faults, a fifth each: A {uv_a:.0f}, B {uv_b:.0f}; B / A, 100 at most",
        "topology": "open edges, edges of three faces, flat or double faces, slivers, winding, loose parts, a sixth each: "
        f"A {topology_a:.0f}, B {topology_b:.0f}; B / A, 100 at most",
    }
    values = {
        "shape": 75 * measures["f_score"] + 25 * measures["parallel"],
        "structure": 100 * measures["silhouette_iou"],
        "texture clarity": _clarity(detail_a, detail_b),
        "colour": 100 * max(0.0, 1 - colour / _FAR_COLOUR),
        "PBR": 100 * max(0.0, 1 - surface / _FAR_SURFACE),
        "UV": 100 * min(uv_b / max(uv_a, 1e-9), 1.0),
        "topology": 100 * min(topology_b / max(topology_a, 1e-9), 1.0),
    }
    return [Score(name, values[name], rule) for name, rule in how.items()]


def _detail(points: SurfacePoints) -> float:
    """Change of colour over a step, of the spread (standard deviation) of all colours: darker colours have as much detail."""
    spread = float(np.sqrt(points.values[:, :3].var(0).mean()))
    return max(float(points.detail.mean()), _PLAIN) / max(spread, _SPREAD_MIN)


def _clarity(detail_a: float, detail_b: float) -> float:
    ratio = detail_b / detail_a
    return 100 * min(ratio, 1.0, _NOISE / ratio)


def uv_score(found: Mapping[str, Any]) -> float:
    """0 to 100 from a fifth each: use of 65 %, no overlap, density within 10 %, seams within 4 levels, no faults."""
    faults = (found["zero_uv_faces"] + found["mirrored_faces"] + found["uv_outside"]) / max(found["faces"], 1)
    parts = [
        min(found["uv_use"] / 0.65, 1),
        1 - min(found["uv_overlap"] / 0.01, 1),
        1 - min(max(found["density_spread"] - 0.1, 0) / 0.9, 1),
        1 - min(max(found["seam_error"] - 4, 0) / 16, 1),
        1 - min(faults * 20, 1),
    ]
    return 20 * sum(parts)


def topology_score(found: Mapping[str, Any]) -> float:
    """0 to 100 from a sixth each: no border edges, no edge of three faces, nothing flat or double, few slivers, winding, and
    no more than 20 separate pieces."""
    faces = max(found["faces"], 1)
    parts = [
        1 - min(found["boundary_edges"] / faces * 20, 1),
        1 - min(found["non_manifold_edges"] / faces * 100, 1),
        1 - min((found["degenerate_faces"] + found["duplicate_faces"]) / faces * 100, 1),
        1 - min(max(found["sliver_faces"] / faces - 0.01, 0) * 5, 1),
        1 - min(found["turned_edges"] / faces * 20 + found["inside_out_components"], 1),
        1 - min(max(found["components"] - 20, 0) / 180, 1),
    ]
    return 100 / 6 * sum(parts)


def _differences(models: tuple[GlbModel, ...], points: tuple[SurfacePoints, ...], diagonal: float) -> dict[str, float]:
    """How far each surface is from the other, and how they differ where they are nearest; means of both ways."""
    away, parallel, places = [], [], []
    for one, other in ((points[0], models[1]), (points[1], models[0])):
        surface = torch.from_numpy(other.vertices), torch.from_numpy(other.faces)
        distance, face, weights = (found.numpy() for found in closest_point(*surface, torch.from_numpy(one.position)))
        away.append(distance / diagonal)
        corners = other.vertices.astype(np.float64)[other.faces[face]]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normal, axis=1)
        parallel.append(np.abs((normal * one.normal).sum(1)) >= _PARALLEL * length)
        places.append(np.abs(around_places(one, values_at(other, face, weights) - one.values)).mean(0))
    met = [[float((way <= limit).mean()) for way in away] for limit in NEAR]
    local = (places[0] + places[1]) / 2
    return {
        "chamfer": round(float(away[0].mean() + away[1].mean()) / 2, 6),
        "hausdorff": round(float(max(way.max() for way in away)), 6),
        "f_score": round(float(np.mean([2 * one * two / max(one + two, 1e-9) for one, two in met])), 5),
        "parallel": round(float(np.mean(parallel)), 5),
        "local_colour": round(float(local[:3].mean()), 3),
        "local_metallic": round(float(local[3]), 4),
        "local_roughness": round(float(local[4]), 4),
    }


def _distributions(points: tuple[SurfacePoints, ...]) -> dict[str, Any]:
    """Distances of distributions: mean difference of equally ranked values (earth mover's distance), and of histograms."""
    one, two = (np.sort(cloud.values, axis=0) for cloud in points)
    away = np.abs(one - two).mean(0)
    histograms = [
        np.stack([np.histogram(cloud.values[:, c], _BINS, (0, 256))[0] for c in range(3)]) / len(cloud.values)
        for cloud in points
    ]
    return {
        "colour_distance": round(float(away[:3].mean()), 3),
        "histogram_overlap": np.minimum(*histograms).sum(1).round(4).tolist(),
        "metallic_difference": round(float(away[3]), 4),
        "roughness_difference": round(float(away[4]), 4),
    }


def _pictures(
    models: tuple[GlbModel, ...], size: int, modes: Sequence[str]
) -> dict[str, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]:
    """Renders by mode from cameras that see both models whole; of any size and anywhere, they are brought to the unit box."""
    low, high = np.min([model.vertices.min(0) for model in models], 0), np.max([model.vertices.max(0) for model in models], 0)
    middle, size_of_both = (low + high) / 2, float((high - low).max()) or 1.0
    models = tuple(replace(model, vertices=((model.vertices - middle) / size_of_both).astype(np.float32)) for model in models)
    reach = max(float(np.linalg.norm(model.vertices, axis=1).max()) for model in models)
    distance = _FRAME * reach / np.sin(np.radians(15))
    result = {}
    for mode in ("shaded", *(mode for mode in modes if mode != "shaded")):
        views = [View(view.azimuth, view.elevation, mode, distance) for view in VIEWS]
        one, two = (render_views(model, views, size) for model in models)
        result[mode] = (one, two, [_difference(a, b) for a, b in zip(one, two, strict=True)])
    return result


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Opaque picture of the premultiplied difference, black where both agree."""
    plain = [picture[..., :3].astype(int) * picture[..., 3:] // 255 for picture in (a, b)]
    gap = np.abs(plain[0] - plain[1]).astype(np.uint8)
    return np.dstack([gap, np.full_like(gap[..., :1], 255)])


def _views(pictures: Mapping[str, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]) -> dict[str, Any]:
    overlaps, gaps = [], []
    for a, b, gap in zip(*pictures["shaded"], strict=True):
        here, there = a[..., 3] > 127, b[..., 3] > 127
        either = here | there
        overlaps.append((here & there).sum() / max(either.sum(), 1))
        gaps.append(gap[..., :3][either].mean() if either.any() else 0.0)
    return {
        "silhouette_iou": round(float(np.mean(overlaps)), 5),
        "rendered_difference": round(float(np.mean(gaps)), 3),
    }
