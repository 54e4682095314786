# SPDX-License-Identifier: Apache-2.0
"""What was decoded is fitted to the picture's outline: nothing beside it, and no gaps."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from genesis_server.mini.evaluate import silhouette
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.conditioning import Framing
from genesis_server.pipeline.outline import fitted
from tests.analytic import Solid, sphere, voxelize
from tests.quality import quality

FRAMING = Framing(camera=0.5 / math.tan(math.radians(15)))
RESOLUTION, PICTURE = 64, 256


def cutout(*boxes: tuple[float, float, float, float], disc: float = 0.0) -> Image.Image:
    """Boxes (left, bottom, right, top) and a disc around the middle, in model units, as seen at y = 0."""
    mask = Image.new("L", (PICTURE, PICTURE))
    draw = ImageDraw.Draw(mask)
    for left, bottom, right, top in boxes:
        draw.rectangle(
            [PICTURE * (0.5 + left), PICTURE * (0.5 - top), PICTURE * (0.5 + right), PICTURE * (0.5 - bottom)], fill=255
        )
    low, high = PICTURE * (0.5 - disc), PICTURE * (0.5 + disc)
    draw.ellipse([low, low, high, high], fill=255 if disc else 0)
    picture = Image.new("RGBA", mask.size, (200, 30, 30, 255))
    picture.putalpha(mask)
    return picture


def overlap(voxels: OVoxel, picture: Image.Image) -> float:
    positions = (voxels.coords + voxels.dual_vertices) / voxels.resolution - 0.5
    found = silhouette(positions, 96).numpy()
    wanted = np.asarray(picture.getchannel("A").resize((96, 96), Image.Resampling.BOX)) > 127
    return (found & wanted).sum() / (found | wanted).sum()


def dumbbell() -> OVoxel:
    """Two balls above each other, at different depths."""
    places = np.array([[0, -0.15, 0.3], [0, 0.15, -0.3]])
    return voxelize(Solid("balls", lambda p: np.linalg.norm(p[:, None] - places, axis=2).min(1) - 0.15), RESOLUTION)


def test_what_stands_beside_the_outline_leaves():
    picture = cutout(disc=0.25)
    ball = voxelize(sphere(0.35), RESOLUTION)
    found = fitted(ball, picture, FRAMING)
    assert overlap(ball, picture) < 0.6 and overlap(found, picture) > 0.93
    assert quality(extract_mesh(found)).open_edges == 0


def test_a_gap_is_closed_by_a_rod_from_end_to_end():
    balls = dumbbell()
    outline = silhouette((balls.coords + balls.dual_vertices) / RESOLUTION - 0.5, RESOLUTION).numpy()
    picture = cutout((-0.03, -0.3, 0.03, 0.3))
    outline = Image.fromarray(255 * outline.astype(np.uint8)).resize(picture.size)
    picture.putalpha(ImageChops.lighter(picture.getchannel("A"), outline))
    mesh = extract_mesh(fitted(balls, picture, FRAMING))
    assert quality(extract_mesh(balls)).components == 2 and quality(mesh).components == 1
    middle = mesh.vertices[mesh.vertices[:, 2].abs() < 0.04]
    assert len(middle) > 10 and middle[:, 0].abs().max() < 0.05
    assert middle[:, 1].min() > -0.2 and middle[:, 1].max() < 0.2  # between the depths of the balls


@pytest.mark.parametrize("framing", [FRAMING, Framing()])
def test_nothing_changes_without_alpha_or_without_a_camera(framing: Framing):
    ball = voxelize(sphere(0.35), RESOLUTION)
    picture = cutout(disc=0.25)
    assert fitted(ball, picture if framing.camera is None else picture.convert("RGB"), framing) is ball


def test_on_a_true_outline_a_true_object_stays():
    ball = voxelize(sphere(0.3), RESOLUTION)
    seen = 0.3 / math.sqrt(1 - (0.3 / FRAMING.camera) ** 2)  # the outline of a ball in perspective
    found = fitted(ball, cutout(disc=seen), FRAMING)
    off = extract_mesh(found).vertices.norm(dim=1) - 0.3
    assert off.abs().mean() < 0.1 / RESOLUTION and off.abs().max() < 1.5 / RESOLUTION
    assert torch.isfinite(off).all()
