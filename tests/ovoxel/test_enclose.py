# SPDX-License-Identifier: Apache-2.0
"""The closed surface of O-Voxels that a small network spoiled: watertight, outward, in place, without crumbs."""

import dataclasses

import numpy as np
import pytest
import torch

from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.corners import differing_edges
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.ovoxel.voxels import OVoxel
from native_ext.closest_point import closest_point
from native_ext.inside_corners import close_gaps, inside_corners, tidy_corners, torn_corners
from tests.analytic import Solid, dual_mesh, leaves, nested_shells, rounded_box, solids, sphere, text, torus, voxelize
from tests.mesh.noise import spoil
from tests.quality import quality

RESOLUTION = 64


def torn(voxels: OVoxel, seed: int, lost: float = 0.02) -> OVoxel:
    """Flags missing and stray, dual vertices trembling, and a share of the cells not there."""
    noisy = spoil(voxels, missing=0.05, stray=0.01, tremble=0.1, seed=seed)
    keep = torch.rand(len(noisy.coords), generator=torch.Generator().manual_seed(seed)) > lost
    values = {"coords": noisy.coords, "dual_vertices": noisy.dual_vertices.clamp(0, 1), "intersected": noisy.intersected}
    return dataclasses.replace(noisy, **{name: value[keep] for name, value in values.items()}, attributes=None)


def joined(*meshes: Mesh) -> Mesh:
    count = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + int(first) for mesh, first in zip(meshes, count, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


@pytest.mark.parametrize("solid", solids(), ids=lambda solid: solid.name)
def test_flags_that_agree_are_left_alone(solid):
    assert enclosed_surface(voxelize(solid, RESOLUTION)) is None


def test_objects_of_sheets_are_left_alone():
    assert enclosed_surface(torn(voxelize_mesh(leaves(), RESOLUTION), 0)) is None


@pytest.mark.parametrize("resolution", [64, 128])
def test_sheets_around_a_hollow_are_not_walled_in(resolution: int):
    assert enclosed_surface(voxelize_mesh(leaves(), resolution)) is None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("solid", [sphere(), torus(), rounded_box(), text(), nested_shells()], ids=lambda solid: solid.name)
def test_a_torn_solid_is_closed_and_in_place(solid: Solid, seed: int):
    surface = enclosed_surface(torn(voxelize(solid, RESOLUTION), seed))
    q = quality(surface)
    assert (q.open_edges, q.crowded_edges, q.clashing_edges) == (0, 0, 0)
    assert q.components == (4 if solid.name == "text" else 1)  # of the shells only the outer one; N is two halves that touch
    off = np.abs(solid.distance(surface.vertices.double().numpy())) * RESOLUTION
    assert off.mean() < 0.2 and np.quantile(off, 0.99) < 1
    if solid.name == "sphere":
        assert q.volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.01)


def test_a_closed_surface_keeps_its_parts_and_its_target_when_finished():
    surface = enclosed_surface(torn(voxelize(torus(), RESOLUTION), 0))
    for target in (10_000, 500):
        q = quality(finish_mesh(surface, target, closed=True))
        assert q.faces == pytest.approx(target, rel=0.02) and q.slivers < 0.01
        assert (q.open_edges, q.crowded_edges, q.degenerate, q.duplicate, q.components) == (0, 0, 0, 0, 1)


def test_a_sheet_on_a_solid_survives():
    ball, _ = dual_mesh(sphere(0.25), RESOLUTION)
    side = torch.linspace(-0.45, 0.45, 60)
    x, y = torch.meshgrid(side, side[20:40], indexing="ij")
    number = torch.arange(1200, dtype=torch.int32).view(60, 20)
    a, b, c, d = (
        number[:-1, :-1].reshape(-1),
        number[1:, :-1].reshape(-1),
        number[1:, 1:].reshape(-1),
        number[:-1, 1:].reshape(-1),
    )
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    band = Mesh(torch.stack([x, y, 0.013 + 0.1 * x], -1).reshape(-1, 3), faces)
    surface = enclosed_surface(torn(voxelize_mesh(joined(ball, band), RESOLUTION), 0, lost=0.01))
    assert quality(surface).open_edges == 0
    inner = (band.vertices[:, 0].abs() < 0.42) & (band.vertices[:, 1].abs() < 0.1)
    near = closest_point(surface.vertices, surface.faces, band.vertices[inner & (band.vertices[:, 0].abs() > 0.3)])[0]
    assert near.mean() * RESOLUTION < 0.5 and near.max() * RESOLUTION < 2


def test_crumbs_go_and_parts_stay():
    parts = [dual_mesh(sphere(radius / RESOLUTION), RESOLUTION)[0] for radius in (16, 1.2, 4)]
    away = [
        Mesh(part.vertices + torch.tensor([shift, 0.01, 0.0]), part.faces)
        for part, shift in zip(parts, (0, 0.3, -0.35), strict=True)
    ]
    surface = enclosed_surface(torn(voxelize_mesh(joined(*away), RESOLUTION), 0))
    assert quality(surface).components == 2
    assert surface.vertices[:, 0].min() < -0.35 and surface.vertices[:, 0].max() < 0.27


def test_the_same_voxels_give_the_same_bytes():
    voxels = torn(voxelize(torus(), RESOLUTION), 0)
    one, two = enclosed_surface(voxels), enclosed_surface(voxels)
    assert torch.equal(one.vertices, two.vertices) and torch.equal(one.faces, two.faces)


def test_corners_of_a_ball_are_found_from_its_flags_even_if_a_tenth_is_missing():
    axis = torch.arange(40) - 19.7
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < 12**2
    crossed = torch.zeros(3, 40, 40, 40, dtype=torch.bool)
    for turn in range(3):
        crossed[turn].narrow(turn, 0, 39).copy_(inside.narrow(turn, 0, 39) ^ inside.narrow(turn, 1, 39))
    assert torch.equal(inside_corners(crossed), inside)
    crossed &= torch.rand(crossed.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    assert (inside_corners(crossed) ^ inside).sum() < 0.01 * inside.sum()


def test_thorns_and_pits_become_shorter_and_rods_stay():
    solid = torch.zeros(20, 20, 20, dtype=torch.bool)
    solid[2:8, 5:15, 5:15] = True
    solid[8:13, 10, 10] = True  # a thorn
    solid[5:8, 7, 7] = False  # a pit
    rod = torch.zeros_like(solid)
    rod[2:18, 3, 3] = rod[2:18, 3, 16] = rod[2, 3, 3:17] = rod[17, 3, 3:17] = True  # a ring has no end
    tidy = tidy_corners(solid | rod)
    assert not tidy[10:13, 10, 10].any() and tidy[5:8, 7, 7].all() and tidy[rod].all()


def test_gaps_are_closed_where_they_may_be_and_wide_ones_stay():
    plate = torch.zeros(48, 32, 8, dtype=torch.bool)
    plate[2:46, 2:30, 2:6] = True
    whole = plate.clone()
    plate[6:10, 12:18], plate[20:24, 12:18] = False, False
    plate[30:44, 9:23] = False  # 14 corners across
    left = torch.zeros_like(plate)
    left[:16] = True
    assert torch.equal(close_gaps(plate, left), plate | (whole & left))
    everywhere = close_gaps(plate, torch.ones_like(plate))
    assert everywhere[6:24, 12:18, 2:6].all() and not everywhere[34:40, 13:19].any()
    assert not everywhere[..., [0, 1, 6, 7]].any()  # nothing is made thicker


def test_a_surface_is_torn_where_a_third_of_its_flags_are_wrong():
    axis = torch.arange(60) - 29.6
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) < 20**2
    differ = differing_edges(inside)
    chance = torch.rand(differ.shape, generator=torch.Generator().manual_seed(0))
    crossed = differ & (chance > torch.where(axis > 0, 0.1, 0.5))  # by the last axis
    torn = torn_corners(crossed, differ) & differ.any(0)
    assert torn[..., :20].sum() > 0.95 * differ.any(0)[..., :20].sum() and not torn[..., 38:].any()


def test_a_torn_half_is_closed_and_the_other_half_keeps_its_holes():
    """A plate with bores; half of it is full of flags that are missing or stray."""

    def distance(points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        bores = np.hypot((x + 2) % 0.2 - 0.1, (y + 2) % 0.2 - 0.1) - 0.04
        return np.maximum(np.maximum(np.abs(z) - 0.05, np.maximum(np.abs(x), np.abs(y)) - 0.4), -bores)

    voxels = voxelize(Solid("plate", distance), RESOLUTION)
    wrong = torch.rand(voxels.intersected.shape, generator=torch.Generator().manual_seed(0))
    wrong = wrong < torch.where(voxels.coords[:, :1] < RESOLUTION // 2 - 4, 0.45, 0.02)
    surface = enclosed_surface(dataclasses.replace(voxels, intersected=voxels.intersected ^ wrong, attributes=None))
    q = quality(surface)
    handles = q.components - (len(surface.vertices) - len(surface.faces) // 2) // 2
    assert (q.open_edges, q.crowded_edges) == (0, 0)
    assert 6 <= handles <= 10  # of the sixteen bores those of the right half
