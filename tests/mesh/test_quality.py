# SPDX-License-Identifier: Apache-2.0
"""What leaves the mesh room, on every analytic asset: clean, closed where it was, at the target, in place."""

import pytest
import torch

from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas
from genesis_server.mesh.simplify import without_slivers
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxelize import voxelize_mesh
from native_ext.closest_point import closest_point
from tests.analytic import dual_mesh, leaves, nested_shells, rounded_box, solids, sphere, thin_sheet, torus, voxelize
from tests.mesh.noise import spoil
from tests.quality import aspects, quality

RESOLUTION = 64
ASSETS = {solid.name: solid for solid in solids()}


def extracted(name: str) -> Mesh:
    if name == "leaves":
        return extract_mesh(voxelize_mesh(leaves(), RESOLUTION))
    return extract_mesh(voxelize(ASSETS[name], RESOLUTION))


def off(mesh: Mesh, surface: Mesh) -> torch.Tensor:
    """Distances [20000] of random points of a mesh from a surface, in voxels."""
    generator = torch.Generator().manual_seed(0)
    area = face_areas(mesh)
    face = torch.multinomial(area.double() / area.sum(), 20_000, replacement=True, generator=generator)
    weights = -torch.log(torch.rand(20_000, 3, generator=generator).clamp(min=1e-9))
    weights = weights / weights.sum(1, keepdim=True)
    points = (mesh.vertices[mesh.faces[face].long()] * weights[..., None]).sum(1)
    return closest_point(surface.vertices, surface.faces, points)[0] * RESOLUTION


@pytest.mark.parametrize("remesh", [False, True], ids=["plain", "remeshed"])
@pytest.mark.parametrize("name", [*ASSETS, "leaves"])
def test_every_asset_comes_out_clean_at_the_target_and_in_place(name, remesh):
    raw = extracted(name)
    target = len(raw.faces) // 3
    mesh = finish_mesh(raw, target, remesh=remesh, resolution=RESOLUTION)
    q = quality(mesh)
    assert (q.degenerate, q.duplicate, q.crowded_edges, q.clashing_edges) == (0, 0, 0, 0)
    assert 0.98 * target <= q.faces <= 1.02 * target
    assert q.slivers < 0.01 and q.worst_aspect < 1000
    distance, back = off(mesh, raw), off(raw, mesh)
    assert distance.mean() < 0.1 and distance.quantile(0.99) < 0.5
    if not (remesh and name == "nested_shells"):  # what nobody sees goes
        assert back.mean() < 0.1 and back.quantile(0.99) < 0.5  # and nothing is lost
    if remesh:
        assert q.open_edges == 0 and q.volume > 0


def test_the_inner_shells_go_with_a_new_surface_only():
    raw = extracted("nested_shells")
    assert quality(finish_mesh(raw, 10**6)).components == 3
    skin = finish_mesh(raw, 10**6, remesh=True, resolution=RESOLUTION)
    assert quality(skin).components == 1
    assert skin.vertices.norm(dim=1).min() > 0.41


def test_a_closed_wall_thinner_than_a_voxel_survives():
    """Half a voxel thick: no corner of the grid is between its sides."""
    ball, _ = dual_mesh(sphere(0.36), RESOLUTION)
    mesh = Mesh(ball.vertices * torch.tensor([1.0, 1, 0]), ball.faces)  # a disc, seen from above and below
    upper = ball.vertices[:, 2] > 0
    bent = 0.05 * torch.sin(5 * mesh.vertices[:, 0]) + upper * (0.5 / RESOLUTION)
    mesh = Mesh(torch.cat([mesh.vertices[:, :2], bent[:, None]], 1), mesh.faces)
    assert quality(mesh).open_edges == 0
    out = finish_mesh(mesh, 10**6, remesh=True, resolution=RESOLUTION)
    assert quality(out).components == 1 and quality(out).open_edges == 0
    assert off(mesh, out).quantile(0.99) < 0.6 and off(out, mesh).quantile(0.99) < 0.3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solid", [sphere(), torus(), rounded_box(), thin_sheet(), nested_shells()], ids=lambda s: s.name)
def test_a_solid_is_watertight_however_torn_it_was(solid, seed):
    raw = extract_mesh(spoil(voxelize(solid, 40), missing=0.06 * (seed + 1), stray=0.01 * seed, seed=seed))
    for target in (10**6, 3000, 600):
        q = quality(finish_mesh(raw, target, solid=True, resolution=40))
        assert (q.open_edges, q.crowded_edges, q.clashing_edges, q.degenerate, q.duplicate) == (0, 0, 0, 0, 0)


def test_a_solid_gives_sheets_a_thickness():
    mesh = finish_mesh(extracted("leaves"), 10**6, solid=True, resolution=RESOLUTION)
    area = float(face_areas(mesh).sum()) / 2 * RESOLUTION**2  # of one side
    assert quality(mesh).volume * RESOLUTION**3 == pytest.approx(area, rel=0.25)  # one voxel


@pytest.mark.parametrize("target", [5000, 2000, 800, 100, 20])
def test_torn_surfaces_meet_every_target(target):
    raw = extract_mesh(spoil(voxelize(torus(), 48), missing=0.25, stray=0.05, seed=1))
    mesh = finish_mesh(raw, target)
    q = quality(mesh)
    assert 0.98 * target - 1 <= q.faces <= 1.02 * target
    assert (q.degenerate, q.duplicate, q.crowded_edges) == (0, 0, 0)
    assert (aspects(mesh) > 10).double().mean() < 0.03


def test_a_patch_that_lies_on_the_surface_twice_is_there_once():
    mesh, _ = dual_mesh(torus(), 40)
    patch = mesh.faces[mesh.vertices[mesh.faces.long()].mean(1)[:, 0] > 0.3]
    number = patch.unique().long()
    copy = torch.zeros(len(mesh.vertices), dtype=torch.int32)
    copy[number] = len(mesh.vertices) + torch.arange(len(number), dtype=torch.int32)
    double = Mesh(torch.cat([mesh.vertices, mesh.vertices[number]]), torch.cat([mesh.faces, copy[patch.long()]]))
    assert quality(double).duplicate == len(patch) > 500
    q = quality(finish_mesh(double, 10**6))
    assert (q.duplicate, q.crowded_edges, q.open_edges) == (0, 0, 0)
    assert q.faces == pytest.approx(len(mesh.faces), rel=0.01)  # without slivers


def test_solids_that_touch_face_to_face_stay_closed():
    """Both have the very same faces where they touch, wound the other way; none of them is a copy to be dropped."""
    ball, _ = dual_mesh(rounded_box(turn=0.0, rounding=0.0), 24)
    left = ball.vertices - torch.tensor([float(ball.vertices[:, 0].max()), 0, 0])
    mirrored = left * torch.tensor([-1.0, 1, 1])
    count = len(left)
    both = Mesh(torch.cat([left, mirrored]) / 2, torch.cat([ball.faces, ball.faces[:, [0, 2, 1]] + count]))
    assert quality(both).duplicate > 100
    q = quality(finish_mesh(both, 10**6))
    assert (q.open_edges, q.crowded_edges, q.duplicate, q.components) == (0, 0, 0, 2)


def test_a_strip_of_slivers_goes():
    """Two rows of vertices a hundredth of a cell apart, as where dual vertices lie at the border of their cells."""
    x, y = torch.arange(40.0), torch.tensor([*range(10), 9.01, *range(10, 20)])
    points = torch.stack(torch.meshgrid(x, y, indexing="ij"), -1)
    bumps = 0.3 * torch.sin(points[..., 0]) * torch.sin(points[..., 1])
    number = torch.arange(points[..., 0].numel(), dtype=torch.int32).view(len(x), len(y))
    a, b, c, d = (q.reshape(-1) for q in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    sheet = Mesh(torch.cat([points, bumps[..., None]], -1).reshape(-1, 3) / 64, faces)
    assert quality(sheet).slivers > 0.04
    mended = without_slivers(sheet)
    assert quality(mended).slivers < 0.01 and len(mended.faces) > 0.93 * len(faces)
