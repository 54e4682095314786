# SPDX-License-Identifier: Apache-2.0
"""Signed distances of the world's primitives against closed forms, and the bound that culling relies on."""

import math

import pytest
import torch

from genesis_server.mini.world import World, sdf

FLOAT32 = 2e-5  # rounding of a few square roots of numbers near 1


def distance_of(kind: int, parameters: list[float], points: torch.Tensor) -> torch.Tensor:
    """Distances [P] of one primitive in an identity frame."""
    row = torch.zeros(1, sdf.PRIMITIVES, sdf.WIDTH)
    row[0, 0, sdf.SLOT_KIND] = kind
    row[0, 0, sdf.SLOT_ROTATION : sdf.SLOT_ROTATION + 9] = torch.eye(3).flatten()
    row[0, 0, sdf.SLOT_PARAMETERS : sdf.SLOT_PARAMETERS + len(parameters)] = torch.tensor(parameters)
    row[0, 0, sdf.SLOT_BOUND], row[0, 0, sdf.SLOT_SAFETY] = 2.0, 1.0
    frame = torch.cat([torch.eye(3).flatten(), torch.zeros(3), torch.ones(3)])[None]
    return sdf.sample(row, frame, points[None])[0]


@pytest.fixture(scope="module")
def points() -> torch.Tensor:
    return torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 3 - 1.5


def box_distance(p: torch.Tensor, half: list[float]) -> torch.Tensor:
    q = p.abs() - torch.tensor(half)
    return q.clamp(min=0).norm(dim=1) + q.amax(dim=1).clamp(max=0)


def drum_distance(across: torch.Tensor, along: torch.Tensor, radius: float, half: float) -> torch.Tensor:
    q = torch.stack([across - radius, along.abs() - half], dim=1)
    return q.clamp(min=0).norm(dim=1) + q.amax(dim=1).clamp(max=0)


def test_exact_kinds_equal_their_closed_forms(points: torch.Tensor) -> None:
    x, y, z = points.unbind(1)
    rho = torch.hypot(x, y)
    axis = torch.stack([x, y, z - z.clamp(0.0, 0.7)], dim=1)
    cases = {
        "box": (sdf.BOX, [0.5, 0.3, 0.8, 0.0], box_distance(points, [0.5, 0.3, 0.8])),
        "drum": (sdf.CONE, [0.6, 0.6, 0.4, 0.0], drum_distance(rho, z, 0.6, 0.4)),
        "capsule": (sdf.LIMB, [0.3, 0.3, 0.7], axis.norm(dim=1) - 0.3),
        "torus": (sdf.ARC, [0.7, 0.2, math.pi], torch.hypot(torch.hypot(x, z) - 0.7, y) - 0.2),
        "prism": (sdf.PRISM, [0.5, 0.5, 0.8, 0.3, 0.0], box_distance(points, [0.5, 0.3, 0.8])),
        "coin": (sdf.BLOB, [0.6, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0], drum_distance(torch.hypot(x, z), y, 0.6, 0.25)),
    }
    for name, (kind, parameters, expected) in cases.items():
        error = (distance_of(kind, parameters, points) - expected).abs().max()
        assert error < FLOAT32, name


def test_four_pointed_star_of_sharpness_two_is_a_square(points: torch.Tensor) -> None:
    x, y, z = points.unbind(1)
    turned = torch.stack([(x + z) / math.sqrt(2), y, (z - x) / math.sqrt(2)], dim=1)
    side = 0.8 / math.sqrt(2)
    found = distance_of(sdf.STAR, [0.8, 4.0, 2.0, 0.3, 0.0], points)
    assert (found - box_distance(turned, [side, 0.3, side])).abs().max() < FLOAT32


def test_round_limb_touches_both_balls_and_their_common_tangent_cone(points: torch.Tensor) -> None:
    balls = torch.linspace(0, 1, 400)
    centres = torch.stack([torch.zeros(400), torch.zeros(400), 0.8 * balls], dim=1)
    hull = (torch.cdist(points, centres) - (0.4 - 0.25 * balls)).amin(dim=1)
    # the hull is the union of the interpolated balls; 400 of them leave gaps of 0.8^2 / (8 * 400^2 * 0.15)
    outside = hull > 0
    assert (distance_of(sdf.LIMB, [0.4, 0.15, 0.8], points) - hull).abs()[outside].max() < 1e-4


def test_lathe_and_ellipsoid_have_the_right_sign_and_never_exceed_the_distance(points: torch.Tensor) -> None:
    x, y, z = points.unbind(1)
    drum = drum_distance(torch.hypot(x, y), z, 0.6, 0.5)
    solid = distance_of(sdf.LATHE, [0.6] * 6 + [0.5, 0.0], points)
    assert ((solid < 0) == (drum < 0)).all() and (solid.abs() <= drum.abs() + FLOAT32).all()
    cup = distance_of(sdf.LATHE, [0.6] * 6 + [0.5, 0.1], points)
    hollow = (torch.hypot(x, y) < 0.49) & (z > -0.39)
    assert (cup[hollow] > 0).all() and (cup[(drum < -0.01) & ((torch.hypot(x, y) > 0.51) | (z < -0.41))] < 0).all()
    radii = torch.tensor([0.9, 0.4, 0.6])
    egg = distance_of(sdf.ELLIPSOID, radii.tolist(), points)
    assert ((egg < 0) == ((points / radii).norm(dim=1) < 1)).all()


def rays(points: torch.Tensor, first: float, last: float, angles: torch.Tensor) -> torch.Tensor:
    """Distance to line segments from `first` to `last` along rays of the x-z plane, angles from +z towards +x."""
    ends = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], dim=1)
    along = (points @ ends.T).clamp(first, last)
    return (points[:, None] - along[..., None] * ends).norm(dim=2).amin(dim=1)


def test_spokes_are_rods_around_a_hub(points: torch.Tensor) -> None:
    wheel = distance_of(sdf.SPOKES, [0.1, 0.8, 0.05, 7.0, 2 * math.pi / 7, 0.0], points)
    expected = rays(points, 0.1, 0.8, (torch.arange(7) - 3) * 2 * math.pi / 7) - 0.05
    assert (wheel - expected).abs().max() < FLOAT32
    fan = distance_of(sdf.SPOKES, [1.0, 1.6, 0.03, 4.0, 0.2, 1.3], points)
    expected = rays(points + torch.tensor([0, 0, 1.3]), 1.0, 1.6, (torch.arange(4) - 1.5) * 0.2) - 0.03
    assert (fan - expected).abs().max() < FLOAT32


def test_a_lattice_is_crossing_rods_and_a_disc_cuts_them(points: torch.Tensor) -> None:
    def lines(u: torch.Tensor, v: torch.Tensor, half: float, reach: float) -> torch.Tensor:
        places = torch.arange(-2, 3) * 0.3
        places = places[places.abs() <= half]
        across = (u[:, None] - places).abs().amin(dim=1)
        return torch.stack([across, (v.abs() - reach).clamp(min=0), points[:, 1]], dim=1).norm(dim=1)

    x, _, z = points.unbind(1)
    expected = torch.minimum(lines(x, z, 0.6, 0.5), lines(z, x, 0.5, 0.6)) - 0.02
    found = distance_of(sdf.LATTICE, [0.6, 0.5, 0.3, 0.3, 0.02, 0.0], points)
    assert (found - expected).abs().max() < FLOAT32
    disc = distance_of(sdf.LATTICE, [0.6, 0.5, 0.3, 0.3, 0.02, 1.0], points)
    outside = (x / 0.6).square() + (z / 0.5).square() > 1
    assert (disc[outside] >= 0).all() and (disc[~outside] >= found[~outside] - FLOAT32).all()


def test_a_row_shows_copies_around_the_place_of_one(points: torch.Tensor) -> None:
    row = torch.zeros(1, sdf.PRIMITIVES, sdf.WIDTH)
    row[0, 0, sdf.SLOT_KIND] = sdf.ELLIPSOID
    row[0, 0, sdf.SLOT_ROTATION : sdf.SLOT_ROTATION + 9] = torch.eye(3).flatten()
    row[0, 0, sdf.SLOT_PARAMETERS : sdf.SLOT_PARAMETERS + 3] = 0.1
    row[0, 0, sdf.SLOT_BOUND], row[0, 0, sdf.SLOT_SAFETY] = 2.0, 1.0
    row[0, 0, sdf.SLOT_ROW], row[0, 0, sdf.SLOT_STEP], row[0, 0, sdf.SLOT_AXIS] = 4.0, 0.5, 2.0
    frame = torch.cat([torch.eye(3).flatten(), torch.zeros(3), torch.ones(3)])[None]
    found = sdf.sample(row, frame, points[None])[0]
    places = torch.tensor([[0, 0, -0.75], [0, 0, -0.25], [0, 0, 0.25], [0, 0, 0.75]])
    distance = torch.cdist(points, places).amin(dim=1) - 0.1
    assert ((found < 0) == (distance < 0)).all() and (found <= distance + FLOAT32).all()


def test_distances_of_drawn_objects_never_exceed_the_distance_to_their_surface() -> None:
    world = World("cpu")
    objects = world.objects(11, 0, 12)
    voxels = world.voxels(objects)
    points = torch.rand(12, 400, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    values = world.sdf(objects, points)
    for b in range(12):
        surface = voxels.positions()[voxels.coords[:, 0] == b]
        nearest = torch.cdist(points[b], surface).amin(dim=1)
        # a dual vertex lies within half a cell of the surface
        assert (values[b].abs() <= nearest + 0.5 / 128).float().mean() > 0.999
