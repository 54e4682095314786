# SPDX-License-Identifier: Apache-2.0
"""Two models side by side, measured: how far apart their surfaces, colours and pictures are; a score sheet of seven lines.

A is the reference, B what is judged. Distances are relative to the diagonal of A's bounds. Everything is computed on the CPU
from surface points spread evenly by area and from renders of the same cameras.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.report.atlas import sample
from genesis_server.report.inspect import inspect
from genesis_server.report.render import View, render_views
from native_ext.closest_point import closest_point

POINTS = 20_000
NEAR = 0.01  # of the diagonal: a point this near to the other surface counts as met
VIEWS = tuple(View(azimuth, elevation) for azimuth, elevation in ((0, 10), (90, 10), (180, 10), (270, 10), (35, 35)))
PICTURE_SIZE = 320
_FRAME = 1.1  # half the diagonal of both models fits in the picture this many times
_BINS = 32
_FAR_COLOUR = 64.0  # levels of 255 between the colour distributions at which the colour score is 0
_FAR_SURFACE = 0.5  # mean difference of metallic and roughness at which the PBR score is 0


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
    """

    found: tuple[dict[str, Any], dict[str, Any]]
    measures: dict[str, Any]
    scores: list[Score]
    pictures: dict[str, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]


def compare(a: str | os.PathLike[str] | GlbModel, b: str | os.PathLike[str] | GlbModel, size: int = PICTURE_SIZE) -> Comparison:
    """Holds model B against model A.

    Raises:
        GenesisError: BAD_MESH for an unreadable file.
    """
    models = tuple(model if isinstance(model, GlbModel) else read_glb(model) for model in (a, b))
    found = tuple(inspect(model) for model in models)
    diagonal = float(np.linalg.norm(np.ptp(models[0].vertices, axis=0))) or 1.0
    clouds = tuple(_surface_points(model) for model in models)
    pictures = _pictures(models, size)
    measures = {
        **_distances(models, clouds, diagonal),
        **_colours(clouds),
        **_views(pictures),
        "extents": [np.ptp(model.vertices, axis=0).round(5).tolist() for model in models],
        "areas": [round(values["area"], 6) for values in found],
    }
    return Comparison(found, measures, score_sheet(found, measures), pictures)


def score_sheet(found: tuple[Mapping[str, Any], Mapping[str, Any]], measures: Mapping[str, Any]) -> list[Score]:
    """The seven lines; each says how it is computed."""
    sharp_a, sharp_b = measures["sharpness"]
    clarity = 100.0 if sharp_a <= 0 else 100 * min(1.0, sharp_b / sharp_a)
    colour = 100 * max(0.0, 1 - measures["colour_distance"] / _FAR_COLOUR)
    surface = (measures["metallic_difference"] + measures["roughness_difference"]) / 2
    uv_a, uv_b = (uv_score(values) for values in found)
    topology_a, topology_b = (topology_score(values) for values in found)
    far = f"{_FAR_COLOUR:.0f} is 0"
    how = {
        "shape": f"share of points within {NEAR:.0%} of the diagonal of the other surface, F1 of both ways",
        "structure": f"overlap of the silhouettes, mean of {len(VIEWS)} views",
        "texture clarity": f"detail in rendered colour (mean Laplacian): A {sharp_a:.2f}, B {sharp_b:.2f}; A's or more is 100",
        "colour": f"distance of the colour distributions, {measures['colour_distance']:.1f} levels of 255; {far}",
        "PBR": f"distance of the metallic and roughness distributions, {surface:.3f}; {_FAR_SURFACE} is 0",
        "UV": f"B alone, a fifth each: use, overlap, density, seams, faults; A has {uv_a:.0f}",
        "topology": f"B alone, a fifth each: closed, manifold, no flat faces, slivers, winding; A has {topology_a:.0f}",
    }
    values = {
        "shape": 100 * measures["f_score"],
        "structure": 100 * measures["silhouette_iou"],
        "texture clarity": clarity,
        "colour": colour,
        "PBR": 100 * max(0.0, 1 - surface / _FAR_SURFACE),
        "UV": uv_b,
        "topology": topology_b,
    }
    return [Score(name, values[name], rule) for name, rule in how.items()]


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
    """0 to 100 from a fifth each: no border edges, no edge of three faces, nothing flat or double, few slivers, winding."""
    faces = max(found["faces"], 1)
    parts = [
        1 - min(found["boundary_edges"] / faces * 20, 1),
        1 - min(found["non_manifold_edges"] / faces * 100, 1),
        1 - min((found["degenerate_faces"] + found["duplicate_faces"]) / faces * 100, 1),
        1 - min(max(found["sliver_faces"] / faces - 0.01, 0) * 5, 1),
        1 - min(found["turned_edges"] / faces * 20 + found["inside_out_components"], 1),
    ]
    return 20 * sum(parts)


def _surface_points(model: GlbModel) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    corners = model.vertices.astype(np.float64)[model.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = area.sum()
    share = area / total if total > 0 else np.full(len(area), 1 / len(area))
    face = rng.choice(len(area), POINTS, p=share)
    weight = rng.dirichlet([1, 1, 1], POINTS)[:, :, None]
    uv = (model.uvs.astype(np.float64)[model.faces[face]] * weight).sum(1) % 1.0
    base = sample(model.material.base_color.astype(np.float32), uv)
    surface = sample(model.material.metallic_roughness.astype(np.float32), uv)
    position = (corners[face] * weight).sum(1).astype(np.float32)
    return {"position": position, "colour": base[:, :3], "roughness": surface[:, 1] / 255, "metallic": surface[:, 2] / 255}


def _distances(models: tuple[GlbModel, ...], clouds: tuple[dict[str, np.ndarray], ...], diagonal: float) -> dict[str, float]:
    ways = []
    for cloud, other in ((clouds[0], models[1]), (clouds[1], models[0])):
        points = torch.from_numpy(cloud["position"])
        distance, _, _ = closest_point(torch.from_numpy(other.vertices), torch.from_numpy(other.faces), points)
        ways.append(distance.numpy() / diagonal)
    met = [float((way <= NEAR).mean()) for way in ways]
    return {
        "chamfer": round(float(ways[0].mean() + ways[1].mean()) / 2, 6),
        "hausdorff": round(float(max(way.max() for way in ways)), 6),
        "f_score": round(2 * met[0] * met[1] / max(met[0] + met[1], 1e-9), 5),
    }


def _colours(clouds: tuple[dict[str, np.ndarray], ...]) -> dict[str, Any]:
    """Distances of distributions: mean difference of equally ranked values (earth mover's distance), and of histograms."""
    colours = [np.sort(cloud["colour"], axis=0) for cloud in clouds]
    histograms = [
        np.stack([np.histogram(cloud["colour"][:, c], _BINS, (0, 256))[0] for c in range(3)]) / POINTS for cloud in clouds
    ]
    overlap = np.minimum(*histograms).sum(1)
    return {
        "colour_distance": round(float(np.abs(colours[0] - colours[1]).mean()), 3),
        "histogram_overlap": overlap.round(4).tolist(),
        **{
            f"{name}_difference": round(float(np.abs(np.sort(clouds[0][name]) - np.sort(clouds[1][name])).mean()), 4)
            for name in ("metallic", "roughness")
        },
    }


def _pictures(
    models: tuple[GlbModel, ...], size: int
) -> dict[str, tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]:
    """Renders by mode from cameras that see both models whole."""
    reach = max(float(np.linalg.norm(model.vertices, axis=1).max()) for model in models)
    distance = _FRAME * reach / np.sin(np.radians(15))
    result = {}
    for mode in ("shaded", "base_color", "clay", "normal", "wire"):
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
    overlaps, gaps, sharpness = [], [], ([], [])
    for a, b, gap in zip(*pictures["shaded"], strict=True):
        here, there = a[..., 3] > 127, b[..., 3] > 127
        either = here | there
        overlaps.append((here & there).sum() / max(either.sum(), 1))
        gaps.append(gap[..., :3][either].mean() if either.any() else 0.0)
    for a, b, _ in zip(*pictures["base_color"], strict=True):
        for values, picture in zip(sharpness, (a, b), strict=True):
            inside = cv2.erode((picture[..., 3] == 255).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            grey = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY)
            detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
            values.append(float(detail[inside].mean()) if inside.any() else 0.0)
    return {
        "silhouette_iou": round(float(np.mean(overlaps)), 5),
        "rendered_difference": round(float(np.mean(gaps)), 3),
        "sharpness": [round(float(np.mean(values)), 4) for values in sharpness],
    }
