# SPDX-License-Identifier: Apache-2.0
"""Handles cut off a mesh with texture coordinates, where a level of detail would need more faces for them than it has.

Around the narrowest part of a handle, or in the mouth of a hole, three edges of a coarse mesh run in a ring that is no face: no
collapse can close it, as its faces would come to lie back to back. There the surface is cut along the ring, its two ends draw
apart a little, and each gets a face of its own, which shows the texture of a face beside it. Rings that would part a piece from
the rest are left alone: those vanish by collapses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from native_ext.collapse_wedges import Wedges

_APART = 0.2  # of the way to the vertices beside it, by which the end of a cut handle draws back
_FACES_MAX = 60_000  # rings are looked for one by one; a level of more faces has room for its handles


@dataclass(frozen=True)
class Cut:
    """A mesh without some of its handles; what of it is new comes last.

    Attributes:
        mesh: two faces more, three points and their wedges for every cut.
        wedge_source: int64 [W], the wedge before the cut whose texture each has.
        point_source: int64 [P], the point before the cut that each was.
    """

    mesh: Wedges
    wedge_source: Tensor
    point_source: Tensor


def cut_handles(mesh: Wedges, most: int) -> Cut | None:
    """Cuts the narrowest handles; None where none can be cut.

    Args:
        mesh: consistently wound.
        most: cuts.
    """
    if len(mesh.faces) > _FACES_MAX or most < 1:
        return None
    work = _Work(mesh)
    for ring in work.rings():
        if work.cuts == most:
            break
        work.cut(ring)
    return work.result(mesh) if work.cuts else None


@dataclass(frozen=True)
class _Sector:
    """The faces around a ring's vertex on one side of it, and the vertices beside it there that are not of the ring."""

    faces: list[int]
    beside: list[int]


class _Work:
    """A mesh in lists, as rings are cut one after the other."""

    def __init__(self, mesh: Wedges) -> None:
        self.faces: list[list[int]] = mesh.faces.tolist()
        self.point: list[int] = mesh.point.tolist()
        self.positions = list(mesh.positions.double().cpu().numpy())
        self.parent_wedge: list[int] = list(range(len(self.point)))  # whose texture a wedge shows
        self.parent_point: list[int] = list(range(len(self.positions)))
        self.cuts = 0
        self._touched: set[int] = set()
        # directed edges between points, and the face on the left of each
        self._left: dict[tuple[int, int], int] = {}
        for number, face in enumerate(self._by_point()):
            for k in range(3):
                self._left[face[k], face[(k + 1) % 3]] = number
        self._links = [(a, b) for a, b in self._left if a < b and (b, a) in self._left]
        pairs = np.array([(self._left[a, b], self._left[b, a]) for a, b in self._links]).reshape(-1, 2)
        self._pairs, self._joined, self._count = pairs, np.ones(len(pairs), bool), len(self.faces)
        self._link_number = {edge: number for number, edge in enumerate(self._links)}
        self._parts = self._count_parts(self._joined)

    def _by_point(self) -> list[list[int]]:
        return [[self.point[wedge] for wedge in face] for face in self.faces]

    def rings(self) -> list[tuple[int, int, int]]:
        """Three points, each joined to the others, without a face between them; shortest first."""
        beside: dict[int, set[int]] = {}
        for a, b in self._left:
            beside.setdefault(a, set()).add(b)
            beside.setdefault(b, set()).add(a)
        faces = {tuple(sorted(face)) for face in self._by_point()}
        found = []
        for a, b in self._links:
            for c in beside[a] & beside[b]:
                if c > b and (a, b, c) not in faces:
                    x, y, z = (self.positions[p] for p in (a, b, c))
                    found.append((float(sum(np.linalg.norm(s - t) for s, t in ((x, y), (y, z), (z, x)))), (a, b, c)))
        return [ring for _, ring in sorted(found)]

    def cut(self, ring: tuple[int, int, int]) -> None:
        """Along a ring, if that parts nothing from the rest and no cut before has changed what is around it."""
        if self._touched & set(ring):
            return
        edges = [self._link_number.get((min(p, q), max(p, q)), -1) for p, q in zip(ring, (*ring[1:], ring[0]), strict=True)]
        if min(edges) < 0:
            return
        sides = [self._sectors(ring, k) for k in range(3)]
        if None in sides:
            return
        joined = self._joined.copy()
        joined[edges] = False
        if self._count_parts(joined) > self._parts:
            return
        self._joined = joined
        before = ring[:2]
        left_face, right_face = self.faces[self._left[before]], self.faces[self._left[before[::-1]]]
        caps = [self._texture(left_face, before[0]), self._texture(right_face, before[1])]
        points = self._parted(ring, sides)
        a, b, c = ring
        d, e, f = points
        for wedges, corners in zip(caps, ((b, a, c), (d, e, f)), strict=True):
            self.faces.append([self._new_wedge(wedge, corner) for wedge, corner in zip(wedges, corners, strict=True)])
        self._touched |= set(ring) | set(points)
        self.cuts += 1

    def _texture(self, face: list[int], first: int) -> list[int]:
        """The wedges of a face, beginning at a point; the end of a handle shows what the face beside it does, turned round."""
        k = [self.point[wedge] for wedge in face].index(first)
        return face[k:] + face[:k]

    def _new_wedge(self, wedge: int, point: int) -> int:
        self.parent_wedge.append(self.parent_wedge[wedge])
        self.point.append(point)
        return len(self.point) - 1

    def _sectors(self, ring: tuple[int, int, int], k: int) -> tuple[_Sector, _Sector] | None:
        """Left and right of the ring at its vertex k; None where the surface ends there."""
        v, after, ahead = ring[k], ring[(k + 1) % 3], ring[(k + 2) % 3]
        sectors = []
        for start, end in ((after, ahead), (ahead, after)):
            faces, beside, at = [], [], start
            while at != end:
                face = self._left.get((v, at))
                if face is None or len(faces) > len(self.faces):
                    return None
                corners = [self.point[wedge] for wedge in self.faces[face]]
                at = corners[(corners.index(v) + 2) % 3]
                faces.append(face)
                beside.append(at)
            sectors.append(_Sector(faces, beside[:-1]))
        return sectors[0], sectors[1]

    def _parted(self, ring: tuple[int, int, int], sides: list[tuple[_Sector, _Sector]]) -> list[int]:
        """Gives what is right of the ring points of its own, and draws both sides apart; returns those points."""
        points = []
        for v, (left, right) in zip(ring, sides, strict=True):
            here = self.positions[v]
            middle = [np.mean([self.positions[p] for p in side.beside], 0) for side in (left, right)]
            points.append(len(self.positions))
            self.positions.append(here + _APART * (middle[1] - here))
            self.positions[v] = here + _APART * (middle[0] - here)
            self.parent_point.append(self.parent_point[v])
        for v, point, (_, right) in zip(ring, points, sides, strict=True):
            copies: dict[int, int] = {}
            for face in right.faces:
                k = [self.point[wedge] for wedge in self.faces[face]].index(v)
                wedge = self.faces[face][k]
                if wedge not in copies:
                    copies[wedge] = self._new_wedge(wedge, point)
                self.faces[face][k] = copies[wedge]
        return points

    def _count_parts(self, joined: np.ndarray) -> int:
        one, two = self._pairs[joined].T
        graph = coo_matrix((np.ones(len(one), bool), (one, two)), (self._count, self._count))
        return connected_components(graph, directed=False)[0]

    def result(self, mesh: Wedges) -> Cut:
        device = mesh.faces.device
        wedge, point = (torch.tensor(source, device=device) for source in (self.parent_wedge, self.parent_point))
        cut = replace(
            mesh,
            positions=torch.from_numpy(np.array(self.positions)).float().to(device),
            uvs=mesh.uvs[wedge].contiguous(),
            home=mesh.home[wedge].contiguous(),
            point=torch.tensor(self.point, dtype=torch.int32, device=device),
            faces=torch.tensor(self.faces, dtype=torch.int32, device=device),
            quadrics=mesh.quadrics[point].contiguous(),
            drift=mesh.drift[wedge].contiguous(),
        )
        return Cut(cut, wedge, point)
