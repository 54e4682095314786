# SPDX-License-Identifier: Apache-2.0
"""Pictures of the world: framing, agreement of alpha and albedo with the voxels, premultiplication, exposure."""

import pytest
import torch

from genesis_server.mini import supply
from genesis_server.mini.world import Objects, Pictures, Voxels, World, save_sheet, visible
from genesis_server.mini.world.frame import CAMERA

SIZE = 224


@pytest.fixture(scope="module")
def world() -> World:
    return World("cpu")


@pytest.fixture(scope="module")
def objects(world: World) -> Objects:
    return world.objects(7, 0, 10)


@pytest.fixture(scope="module")
def pictures(world: World, objects: Objects) -> Pictures:
    return world.pictures(objects, SIZE, 2)


@pytest.fixture(scope="module")
def voxels(world: World, objects: Objects) -> Voxels:
    return world.voxels(objects)


def project(voxels: Voxels, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch row, picture row and column of every dual vertex."""
    x, y, z = voxels.positions().unbind(1)
    scale = CAMERA / (y + CAMERA)
    cell = torch.stack([(0.5 - z * scale) * size, (0.5 + x * scale) * size]).long().clamp(0, size - 1)
    return voxels.coords[:, 0].long(), cell[0], cell[1]


def test_silhouette_touches_the_frame_on_its_longer_side_and_is_centred(pictures: Pictures) -> None:
    for alpha in pictures.alpha:
        rows, columns = (alpha > 0).any(1).nonzero()[:, 0], (alpha > 0).any(0).nonzero()[:, 0]
        gaps = [int(v) for v in (rows[0], SIZE - 1 - rows[-1], columns[0], SIZE - 1 - columns[-1])]
        tight = gaps[:2] if gaps[0] + gaps[1] < gaps[2] + gaps[3] else gaps[2:]
        assert max(tight) <= 3, gaps  # the wanted margin is 1.7 pixels
        assert abs(gaps[0] - gaps[1]) <= 3 and abs(gaps[2] - gaps[3]) <= 3, gaps


def test_alpha_is_the_projection_of_the_voxels(world: World, objects: Objects, voxels: Voxels) -> None:
    size = 80  # a cell of 128 near the camera covers less than a pixel, so the points leave no holes
    seen = world.pictures(objects, size, 3).alpha > 0
    splat = torch.zeros_like(seen)
    splat[project(voxels, size)] = True
    overlap = (seen & splat).flatten(1).sum(1) / (seen | splat).flatten(1).sum(1)
    assert overlap.min() > 0.93 and overlap.mean() > 0.96  # both round outwards at the rim, each in its own way


def test_albedo_is_the_attribute_of_the_visible_voxel(pictures: Pictures, voxels: Voxels) -> None:
    shown = visible(voxels, pictures)
    assert 0.2 < shown.float().mean() < 0.6
    where = project(voxels, SIZE)
    for values, attributes in (
        (pictures.albedo, voxels.attributes[:, :3]),
        (pictures.metallic_roughness, voxels.attributes[:, 3:5]),
    ):
        error = (values[where] - attributes).abs().mean(dim=1)[shown]
        assert error.mean() < 0.02 and (error < 0.02).float().mean() > 0.93  # crisp borders of patterns shift by half a cell


def test_depth_and_normals_describe_the_surface(world: World, objects: Objects, pictures: Pictures) -> None:
    hit = pictures.depth > 0
    assert torch.equal(hit, pictures.alpha > 0)
    grid = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    for b in range(3):
        row, column = hit[b].nonzero()[::50].unbind(1)
        depth = pictures.depth[b, row, column]
        x, z = grid[column] * depth / CAMERA, -grid[row] * depth / CAMERA
        distances = world.sdf(world.objects(7, b, 1), torch.stack([x, depth - CAMERA, z], dim=1)[None])
        assert distances.abs().median() < 0.004  # the sample is up to half a pixel (0.003) off the pixel's centre
    assert (pictures.normal[hit].norm(dim=1) - 1).abs().max() < 1e-3
    assert (pictures.normal[hit][:, 1] < 0.1).float().mean() > 0.98  # towards the camera, up to perspective and seams


def test_colours_are_premultiplied_and_well_exposed(pictures: Pictures) -> None:
    rgb, alpha = pictures.rgb.float(), pictures.alpha
    assert (rgb <= alpha[..., None].float() + 1).all() and (rgb[alpha == 0] == 0).all()
    solid = (alpha == 255) & (pictures.metallic_roughness[..., 0] < 0.5)
    ratio = rgb[solid].mean() / (255 * pictures.albedo[solid].mean())
    assert 0.6 < ratio < 1.0  # shading keeps the base colour recognisable


def test_pictures_are_deterministic(world: World, objects: Objects, pictures: Pictures) -> None:
    again = world.pictures(world.objects(7, 2, 1), SIZE, 2)
    assert torch.equal(again.rgb[0], pictures.rgb[2]) and torch.equal(again.depth[0], pictures.depth[2])


def test_sheet_holds_three_rows_per_object(pictures: Pictures, tmp_path) -> None:
    from PIL import Image

    save_sheet(pictures, tmp_path / "sheet.png", columns=5)
    assert Image.open(tmp_path / "sheet.png").size == (5 * SIZE, 2 * 3 * SIZE)


@pytest.mark.parametrize("kind", ["HATCHED_SHARE", "GRAINED_SHARE", "FLAT_SHARE"])
def test_what_is_drawn_on_training_pictures_stays_within_their_outlines(pictures: Pictures, monkeypatch, kind: str) -> None:
    for name in ("FLAT_SHARE", "EXPOSED_SHARE", "HATCHED_SHARE", "GRAINED_SHARE"):
        monkeypatch.setattr(supply, name, float(name == kind))
    torch.manual_seed(0)
    before, after = supply.plain(pictures).int(), supply.varied(pictures).int()
    assert torch.equal(after[:, 3], before[:, 3])
    assert (after[:, :3] <= after[:, 3:] + 1).all()  # premultiplied
    changed = ((after - before)[:, :3].abs().amax(1) > 8).flatten(1).float().sum(1) / (before[:, 3] > 0).flatten(1).sum(1)
    assert changed.max() > 0.05
    if kind == "HATCHED_SHARE":  # lines darken and leave the rest
        assert (after <= before + 1).all() and changed.mean() < 0.5
