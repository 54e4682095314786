# SPDX-License-Identifier: Apache-2.0
"""Objects whose surface and colour are known in closed form, as O-Voxels and as meshes: the truth that tests measure against.

A `Solid` is a signed distance function with a colour field; `voxelize` follows docs/spec/geometry.md 2 (cells whose corners
disagree in sign, owned edges, dual vertices on the surface), `dual_mesh` is the oriented quad mesh of section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.voxels import OVoxel

BLOCK = 8  # cells per axis of the blocks that are tested against the surface before their corners are evaluated


def smooth_colour(points: np.ndarray) -> np.ndarray:
    """Base colour, metallic, roughness, alpha [n, 6] of points [n, 3]: slow waves, so that sampling is nearly exact."""
    x, y, z = points.T
    waves = [np.sin(7 * x + 2 * y), np.sin(6 * y - 3 * z + 1), np.cos(8 * z + 2 * x), np.sin(5 * x), np.cos(5 * (y + z))]
    values = np.stack([0.5 + 0.4 * wave for wave in waves] + [np.ones(len(points))], 1)
    return values


@dataclass(frozen=True)
class Solid:
    """A closed form object: signed distance (negative inside, slope at most about 1) and attributes of points [n, 3]."""

    name: str
    distance: Callable[[np.ndarray], np.ndarray]
    colour: Callable[[np.ndarray], np.ndarray] = smooth_colour


def sphere(radius: float = 0.4) -> Solid:
    return Solid("sphere", lambda p: np.linalg.norm(p, axis=1) - radius)


def rounded_box(half: tuple[float, float, float] = (0.36, 0.28, 0.32), rounding: float = 0.03, turn: float = 0.4) -> Solid:
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])

    def distance(points: np.ndarray) -> np.ndarray:
        q = np.abs(points @ rotation) - (np.array(half) - rounding)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0) - rounding

    return Solid("rounded_box", distance)


def torus(major: float = 0.3, minor: float = 0.12) -> Solid:
    def distance(points: np.ndarray) -> np.ndarray:
        return np.hypot(np.hypot(points[:, 0], points[:, 1]) - major, points[:, 2]) - minor

    return Solid("torus", distance)


def thin_sheet(thickness: float = 0.03) -> Solid:
    """A wavy sheet; thickness in world units, at least two voxels to have two sides."""

    def distance(points: np.ndarray) -> np.ndarray:
        bend = points[:, 2] - 0.08 * np.sin(8 * points[:, 0]) * np.cos(6 * points[:, 1])
        slab = 0.8 * (np.abs(bend) - thickness / 2)
        return np.maximum(slab, np.abs(points[:, :2]).max(1) - 0.4)

    return Solid("thin_sheet", distance)


def torus_knot(tube: float = 0.05, turns: tuple[int, int] = (2, 3)) -> Solid:
    """A (2, 3) knot; distances to a polyline so fine that its corners are below any voxel."""
    t = np.linspace(0, 2 * np.pi, 6000, endpoint=False)
    p, q = turns
    ring = 0.26 + 0.12 * np.cos(q * t)
    tree = cKDTree(np.stack([ring * np.cos(p * t), ring * np.sin(p * t), 0.16 * np.sin(q * t)], 1))
    return Solid("torus_knot", lambda points: tree.query(points)[0] - tube)


def nested_shells() -> Solid:
    """A ball in a hollow ball: from outside only the outer sphere, of radius 0.42, can be seen."""

    def distance(points: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(points, axis=1)
        return np.minimum(np.maximum(r - 0.42, 0.32 - r), r - 0.2)

    return Solid("nested_shells", distance)


def lattice(bar: float = 0.035, period: float = 0.27) -> Solid:
    """Square bars along all three axes, four each way."""

    def distance(points: np.ndarray) -> np.ndarray:
        u = np.abs(points - period * (np.clip(np.round(points / period - 0.5), -2, 1) + 0.5))
        bars = np.minimum.reduce([np.maximum(u[:, i], u[:, j]) for i, j in ((0, 1), (1, 2), (2, 0))]) - bar
        return np.maximum(bars, np.abs(points).max(1) - 0.45)

    return Solid("lattice", distance)


def text(depth: float = 0.06) -> Solid:
    """Three letters of square strokes, upright, deep as given."""
    rows = ["#### #### #  #", "#    #    ## #", "# ## ###  # ##", "#  # #    #  #", "#### #### #  #"]
    pixel = 0.06
    cells = np.array([(x, z) for z, row in enumerate(rows) for x, mark in enumerate(row) if mark == "#"], float)
    centres = (cells - [len(rows[0]) / 2 - 0.5, len(rows) / 2 - 0.5]) * [pixel, -1.4 * pixel]
    half = np.array([pixel / 2, 0.7 * pixel]) + 1e-4  # strokes overlap

    def distance(points: np.ndarray) -> np.ndarray:
        flat = np.full(len(points), np.inf)
        for centre in centres:
            q = np.abs(points[:, [0, 2]] - centre) - half
            flat = np.minimum(flat, np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0))
        return np.maximum(flat, np.abs(points[:, 1]) - depth)

    return Solid("text", distance)


def leaves(count: int = 5, rings: int = 24) -> Mesh:
    """Open, curved, pointed sheets of no thickness around the z axis; they do not touch."""
    vertices, faces = [], []
    u, v = np.meshgrid(np.linspace(-1, 1, rings), np.linspace(0, 1, rings), indexing="ij")
    width = 0.11 * np.sin(np.pi * np.clip(v, 0.02, 0.98)) ** 0.7
    blade = np.stack([u * width, 0.08 + 0.36 * v, 0.25 * v * (1 - v) + 0.3 * (u * width) ** 2 / 0.11], -1).reshape(-1, 3)
    a = (np.arange(rings - 1)[:, None] * rings + np.arange(rings - 1)).reshape(-1)
    quads = np.concatenate([np.stack([a, a + rings, a + rings + 1], 1), np.stack([a, a + rings + 1, a + 1], 1)])
    for number in range(count):
        c, s = np.cos(2 * np.pi * number / count + 0.1), np.sin(2 * np.pi * number / count + 0.1)
        faces.append(quads + len(blade) * number)
        vertices.append(blade @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [0, 0, 0.05 * number - 0.15])
    return Mesh(torch.from_numpy(np.concatenate(vertices)).float(), torch.from_numpy(np.concatenate(faces)).int())


def solids() -> tuple[Solid, ...]:
    """The closed assets on which quality is measured."""
    return (sphere(), rounded_box(), torus_knot(), nested_shells(), thin_sheet(), lattice(), text())


def noisy_blob(seed: int = 0, amplitude: float = 0.02) -> Solid:
    """A sphere with bumps of several sizes, as rough as what a small network predicts."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(24, 3)) * np.linspace(6, 60, 24)[:, None]
    phase = rng.uniform(0, 2 * np.pi, 24)
    weight = amplitude / np.sqrt(np.linspace(1, 30, 24))

    def distance(points: np.ndarray) -> np.ndarray:
        bumps = np.sin(points @ waves.T + phase) @ weight
        return 0.6 * (np.linalg.norm(points, axis=1) - 0.36 - bumps)

    return Solid("noisy_blob", distance)


def _active_cells(solid: Solid, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells [n, 3] with corners on both sides, and the distance at their corners [n, 2, 2, 2]."""
    side = resolution // BLOCK
    blocks = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    near = np.abs(solid.distance((blocks + 0.5) / side - 0.5)) < 1.5 / side
    corner = np.stack(np.meshgrid(*[np.arange(BLOCK + 1)] * 3, indexing="ij"), -1)
    cells, values = [], []
    for block in blocks[near]:
        grid = block * BLOCK + corner
        d = solid.distance(grid.reshape(-1, 3) / resolution - 0.5).reshape(corner.shape[:3])
        eight = np.stack([d[i : i + BLOCK, j : j + BLOCK, k : k + BLOCK] for i in (0, 1) for j in (0, 1) for k in (0, 1)], -1)
        inside = (eight < 0).sum(-1)
        local = np.argwhere((inside > 0) & (inside < 8))
        cells.append(block * BLOCK + local)
        values.append(eight[tuple(local.T)].reshape(-1, 2, 2, 2))
    return np.concatenate(cells), np.concatenate(values)


def _dual_points(solid: Solid, cells: np.ndarray, corners: np.ndarray, resolution: int) -> np.ndarray:
    """World positions: the mean of the edge crossings, moved onto the surface by Newton steps, kept in its cell."""
    total, count = np.zeros((len(cells), 3)), np.zeros(len(cells))
    for axis in range(3):
        rolled = np.moveaxis(corners, axis + 1, 1)
        for j in (0, 1):
            for k in (0, 1):
                d0, d1 = rolled[:, 0, j, k], rolled[:, 1, j, k]
                crosses = (d0 < 0) != (d1 < 0)
                t = np.where(crosses, d0 / np.where(crosses, d0 - d1, 1), 0)
                others = [a for a in range(3) if a != axis]
                point = np.zeros((len(cells), 3))
                point[:, axis], point[:, others[0]], point[:, others[1]] = t, j, k
                total += crosses[:, None] * point
                count += crosses
    low = cells / resolution - 0.5
    points = low + total / count[:, None] / resolution
    for _ in range(3):
        d = solid.distance(points)
        gradient = np.stack([solid.distance(points + e) - solid.distance(points - e) for e in np.eye(3) * 1e-5], 1) / 2e-5
        points = points - d[:, None] * gradient / np.maximum((gradient**2).sum(1), 1e-9)[:, None]
        points = np.clip(points, low, low + 1 / resolution)
    return points


def voxelize(solid: Solid, resolution: int) -> OVoxel:
    """The solid's O-Voxel; resolution a multiple of 8."""
    voxels, _ = _voxelize(solid, resolution)
    return voxels


def _voxelize(solid: Solid, resolution: int) -> tuple[OVoxel, np.ndarray]:
    cells, corners = _active_cells(solid, resolution)
    points = _dual_points(solid, cells, corners, resolution)
    rising = np.zeros((len(cells), 3), int)  # +1 where the distance grows along the owned edge, -1 where it falls
    for axis in range(3):
        low, high = [1, 1, 1], [1, 1, 1]
        low[axis] = 0
        d0, d1 = corners[(slice(None), *low)], corners[(slice(None), *high)]
        rising[:, axis] = ((d0 < 0) & (d1 >= 0)).astype(int) - ((d0 >= 0) & (d1 < 0)).astype(int)
    voxels = OVoxel(
        coords=torch.from_numpy(cells).int(),
        dual_vertices=torch.from_numpy((points + 0.5) * resolution - cells).float(),
        intersected=torch.from_numpy(rising != 0),
        resolution=resolution,
        attributes=torch.from_numpy(solid.colour(points)).float(),
    )
    return voxels, rising


def dual_mesh(solid: Solid, resolution: int) -> tuple[Mesh, OVoxel]:
    """The solid's O-Voxel and its surface, closed and wound outward."""
    voxels, rising = _voxelize(solid, resolution)
    cells = voxels.coords.numpy().astype(np.int64)
    keys = (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]
    order = np.argsort(keys)
    quads = []
    for axis in range(3):
        b, d = (axis + 1) % 3, (axis + 2) % 3
        own = np.flatnonzero(rising[:, axis])
        ring = []
        for step in ((0, 0), (1, 0), (1, 1), (0, 1)):  # counter-clockwise around the axis: normal along +axis
            cell = cells[own].copy()
            cell[:, b] += step[0]
            cell[:, d] += step[1]
            wanted = (cell[:, 0] * resolution + cell[:, 1]) * resolution + cell[:, 2]
            ring.append(order[np.searchsorted(keys, wanted, sorter=order)])
        quad = np.stack(ring, 1)
        quads.append(np.where(rising[own, axis][:, None] > 0, quad, quad[:, ::-1]))
    q = np.concatenate(quads)
    vertices = (voxels.coords.numpy() + voxels.dual_vertices.numpy()) / np.float32(resolution) - np.float32(0.5)
    faces = np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]])
    return Mesh(torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces).int()), voxels
