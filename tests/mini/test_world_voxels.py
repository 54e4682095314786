# SPDX-License-Identifier: Apache-2.0
"""O-Voxels of the world: analytic sphere, flags that always find their four cells, order, sizes, determinism."""

import pytest
import torch

from genesis_server.mini.supply import HELD_OUT_SEED
from genesis_server.mini.world import Objects, Voxels, World, sdf
from genesis_server.protocol.errors import GenesisError

CORNERS = {0: ((0, 0, 1), (0, 1, 0)), 1: ((1, 0, 0), (0, 0, 1)), 2: ((0, 1, 0), (1, 0, 0))}  # e_b, e_d per axis


@pytest.fixture(scope="module")
def world() -> World:
    return World("cpu")


@pytest.fixture(scope="module")
def objects(world: World) -> Objects:
    return world.objects(3, 0, 10)


@pytest.fixture(scope="module")
def voxels(world: World, objects: Objects) -> Voxels:
    return world.voxels(objects)


def sphere(radius: float) -> Objects:
    primitives = torch.zeros(1, sdf.PRIMITIVES, sdf.WIDTH)
    primitives[0, 0, sdf.SLOT_KIND] = sdf.ELLIPSOID
    primitives[0, 0, sdf.SLOT_ROTATION : sdf.SLOT_ROTATION + 9] = torch.eye(3).flatten()
    primitives[0, 0, sdf.SLOT_PARAMETERS : sdf.SLOT_PARAMETERS + 3] = radius
    primitives[0, 0, sdf.SLOT_BOUND], primitives[0, 0, sdf.SLOT_SAFETY] = radius, 1.0
    frame = torch.cat([torch.eye(3).flatten(), torch.zeros(3), torch.ones(3)])[None]
    return Objects(primitives, torch.full((1, 5, 16), 0.5), frame, torch.zeros(1, 8), torch.eye(3)[None], torch.ones(1))


def thinnest(objects: Objects) -> torch.Tensor:
    """Radius of each object's thinnest rod; 1 without one."""
    rods = objects.primitives[..., sdf.SLOT_KIND] == sdf.LIMB
    return torch.where(rods, objects.primitives[..., sdf.SLOT_PARAMETERS + 1], 1.0).amin(1)


def test_slender_things_are_drawn_on_request_alone() -> None:
    usual, mixed, slender = (thinnest(World("cpu", 64, further=share).objects(3, 0, 60)) < 0.03 for share in (0.0, 0.45, 1.0))
    assert usual.sum() == 0 < mixed.sum() < slender.sum()
    assert slender.float().mean() > 0.4


def test_toys_are_drawn_on_request_alone_and_leave_the_others_as_they_are() -> None:
    plain, mixed = (World("cpu", 64, toys=share).objects(3, 0, 40) for share in (0.0, 0.5))
    same = (plain.materials == mixed.materials).flatten(1).all(1)
    assert 8 < same.sum() < 40  # what is drawn after the choice of a slot tells them apart
    toys = World("cpu", 64, toys=1.0)
    found = toys.voxels(toys.objects(3, 0, 40))
    counts = torch.bincount(found.coords[:, 0].long(), minlength=40)
    assert (counts > 800).all() and found.coords[:, 1:].min() >= 0 and found.coords[:, 1:].max() < 64


def test_the_held_out_objects_are_those_of_the_model_card() -> None:
    world = World("cpu")
    counts = torch.bincount(world.voxels(world.objects(HELD_OUT_SEED, 0, 4)).coords[:, 0].long())
    # the last digits may turn with the rounding of another processor
    assert ((counts - torch.tensor([38304, 48435, 20183, 26772])).abs() < 40).all()


def keys(coords: torch.Tensor, resolution: int) -> torch.Tensor:
    b, x, y, z = coords.long().unbind(1)
    return ((b * resolution + x) * resolution + y) * resolution + z


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_sphere_vertices_lie_on_the_sphere_and_cells_are_those_its_surface_crosses(resolution: int) -> None:
    found = World("cpu", resolution).voxels(sphere(0.4))
    error = (found.positions().norm(dim=1) - 0.4).abs() * resolution
    # curvature lifts the tangent planes' meeting point by at most diagonal^2 / 8 radius, clamping at cell walls adds to it
    assert error.mean() < 0.02 and error.max() < 0.3
    grid = torch.linspace(-0.5, 0.5, resolution + 1)
    inside = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij")).norm(dim=0) < 0.4
    count = torch.nn.functional.avg_pool3d(inside[None, None].float(), 2, stride=1)[0, 0]
    expected = ((count > 0) & (count < 1)).nonzero()
    difference = set(map(tuple, expected.tolist())) ^ set(map(tuple, found.coords[:, 1:].tolist()))
    assert len(difference) <= 0.001 * len(expected)  # corners within rounding of the sphere


def test_rows_are_sorted_unique_and_in_range(voxels: Voxels) -> None:
    key = keys(voxels.coords, 128)
    assert (key[1:] > key[:-1]).all()
    assert voxels.coords.dtype == torch.int32 and voxels.coords[:, 1:].min() >= 0 and voxels.coords[:, 1:].max() < 128
    for values in (voxels.offsets, voxels.attributes):
        assert torch.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    assert (voxels.attributes[:, 5] == 1).all()


def test_every_flagged_edge_has_its_four_cells(voxels: Voxels) -> None:
    key = keys(voxels.coords, 128)
    for axis, steps in CORNERS.items():
        owners = voxels.coords[voxels.intersected[:, axis]]
        assert len(owners) > 1000
        for step in (steps[0], steps[1], tuple(map(sum, zip(*steps, strict=True)))):
            neighbour = owners + torch.tensor((0, *step), dtype=torch.int32)
            dangling = ~torch.isin(keys(neighbour, 128), key)
            assert dangling.float().mean() <= 0.0005  # objects stay off the walls, so only rounding could break this


def test_flags_are_the_sign_changes_of_the_owned_edges(world: World, objects: Objects, voxels: Voxels) -> None:
    row = voxels.coords[:, 0] == 4
    cells, flags = voxels.coords[row, 1:][:3000], voxels.intersected[row][:3000]
    one = world.objects(3, 4, 1)
    for axis, steps in CORNERS.items():
        start = cells + torch.tensor(steps).sum(dim=0)
        end = start.clone()
        end[:, axis] += 1
        ends = [world.sdf(one, (corner / 128 - 0.5)[None])[0] for corner in (start, end)]
        changed = (ends[0] < 0) != (ends[1] < 0)
        assert (changed == flags[:, axis]).float().mean() > 0.999  # a corner exactly on the surface may round either way


def test_vertices_of_drawn_objects_lie_near_their_surface(world: World, objects: Objects, voxels: Voxels) -> None:
    for b in range(len(objects)):
        points = voxels.positions()[voxels.coords[:, 0] == b]
        one = world.objects(3, b, 1)
        assert world.sdf(one, points[None]).abs().mean() * 128 < 0.08  # sharp edges and seams pull a few vertices off


def test_occupancy_is_the_max_pool_of_the_cells_and_within_the_promised_range(world: World, voxels: Voxels) -> None:
    dense = torch.zeros(10, 1, 128, 128, 128)
    b, x, y, z = voxels.coords.long().unbind(1)
    dense[b, 0, x, y, z] = 1
    for grid in (16, 32):
        pooled = torch.nn.functional.max_pool3d(dense, 128 // grid)[:, 0] > 0
        assert torch.equal(pooled, world.occupancy(voxels, grid))
    count = world.occupancy(voxels, 16).flatten(1).sum(dim=1)
    assert count.min() >= 200 and count.max() <= 1400


def test_objects_depend_on_seed_and_number_alone(world: World, objects: Objects, voxels: Voxels) -> None:
    pair = world.objects(3, 6, 2)
    for name in ("primitives", "materials", "frame", "light"):
        assert torch.equal(getattr(pair, name), getattr(objects, name)[6:8])
    again = world.voxels(pair)
    rows = (voxels.coords[:, 0] >= 6) & (voxels.coords[:, 0] < 8)
    assert torch.equal(again.coords[:, 1:], voxels.coords[rows, 1:]) and torch.equal(again.offsets, voxels.offsets[rows])
    assert not torch.equal(world.objects(4, 6, 2).primitives, pair.primitives)


def test_impossible_resolution_is_refused() -> None:
    with pytest.raises(GenesisError, match="127"):
        World("cpu", 127)
