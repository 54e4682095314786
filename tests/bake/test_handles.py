# SPDX-License-Identifier: Apache-2.0
"""Handles are cut where they are narrowest; what comes out is closed, and in one piece."""

from __future__ import annotations

import math

import numpy as np
import torch

from genesis_server.bake.handles import cut_handles
from genesis_server.bake.levels import coarser_level
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel
from genesis_server.bake.unwrap import unwrap
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.report.inspect import inspect
from native_ext.collapse_wedges import Wedges
from tests import analytic
from tests.mesh.noise import spoil
from tests.quality import quality


def ring_of(sides: int, around: int) -> Wedges:
    """A torus of so many sections, thinner from section to section, each a ring of so many vertices; one wedge per point."""
    turn = torch.arange(sides, dtype=torch.float64) / sides * 2 * math.pi
    roll = torch.arange(around, dtype=torch.float64) / around * 2 * math.pi
    thick = torch.linspace(0.3, 0.1, sides)[:, None]
    radius = 1 + thick * roll.cos()
    points = torch.stack(
        [radius * turn.cos()[:, None], radius * turn.sin()[:, None], (thick * roll.sin()).expand(-1, around)], -1
    )
    number = torch.arange(sides * around).view(sides, around)
    a, b = number, number.roll(-1, 0)
    c, d = b.roll(-1, 1), a.roll(-1, 1)
    faces = torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([a, c, d], -1).view(-1, 3)]).int()
    points = points.view(-1, 3).float().contiguous()
    count = len(points)
    return Wedges(
        points, torch.rand(count, 2), points, torch.arange(count).int(), faces, torch.zeros(count, 10), torch.zeros(count)
    )


def test_a_torus_is_cut_once_where_it_is_thinnest() -> None:
    torus = ring_of(8, 3)
    cut = cut_handles(torus, 5)
    q = quality(Mesh(cut.mesh.positions, cut.mesh.point[cut.mesh.faces.long()]))
    assert (q.open_edges, q.crowded_edges, q.clashing_edges, q.degenerate, q.duplicate, q.components) == (0, 0, 0, 0, 0, 1)
    assert len(cut.mesh.positions) - q.faces // 2 == 2 and q.faces == len(torus.faces) + 2  # a ball has Euler number 2
    assert set(cut.point_source[-3:].tolist()) == {21, 22, 23}  # the last section
    apart = (cut.mesh.positions[-3:] - cut.mesh.positions[21:24]).norm(dim=1)
    assert (apart > 0.05).all()
    assert torch.equal(cut.mesh.uvs, torus.uvs[cut.wedge_source])


def test_without_a_handle_nothing_is_cut() -> None:
    ball = cut_handles(ring_of(8, 3), 1).mesh
    assert cut_handles(ball, 5) is None
    assert cut_handles(ring_of(8, 5), 5) is None  # no ring of three edges


def test_a_lattice_comes_to_five_per_cent_of_its_faces() -> None:
    raw = extract_mesh(spoil(analytic.voxelize(analytic.lattice(), 40), missing=0.02, stray=0.0))
    finest = unwrap(finish_mesh(raw, 4000, solid=True, resolution=40), 512)
    levels = [finest]
    for share in (0.25, 0.05):
        levels.append(coarser_level(levels[-1], round(share * len(finest.faces)), 512))
    assert abs(len(levels[1].faces) / 1000 - 1) < 0.02 and abs(len(levels[2].faces) / 200 - 1) <= 0.02
    white = Material(np.full((64, 64, 4), 255, np.uint8), np.full((64, 64, 3), 255, np.uint8))
    for level in levels[1:]:
        values = (getattr(level, name).numpy() for name in ("vertices", "normals", "faces", "uvs"))
        found = inspect(GlbModel(*values, white))
        assert found["watertight"] and found["turned_edges"] == 0 and found["components"] == 1
        assert found["mirrored_faces"] == found["zero_uv_faces"] == found["degenerate_faces"] == found["duplicate_faces"] == 0
