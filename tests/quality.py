# SPDX-License-Identifier: Apache-2.0
"""What makes a mesh good, as numbers that tests hold it to; vertices of equal position count as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.mesh.connectivity import edges_of, link_components, manifold_links
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.orientation import clashing
from genesis_server.mesh.repair import first_of_duplicates, weld, with_area


def aspects(mesh: Mesh) -> Tensor:
    """float64 [F], longest edge over the height on it, 1 for an equilateral face."""
    corners = mesh.vertices.double()[mesh.faces.long()]
    longest = (corners.roll(-1, 1) - corners).norm(dim=2).amax(1)
    area2 = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    return longest**2 / area2.clamp(min=1e-300) * (3**0.5 / 2)


def signed_volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices.double()[mesh.faces.long()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


@dataclass(frozen=True)
class Quality:
    """Counts over a welded mesh; `slivers` is the share of faces with an aspect above 10."""

    faces: int
    degenerate: int
    duplicate: int
    open_edges: int
    crowded_edges: int
    clashing_edges: int
    components: int
    slivers: float
    worst_aspect: float
    volume: float


def quality(mesh: Mesh) -> Quality:
    """Measure a mesh."""
    joined = weld(mesh)
    edges = edges_of(joined.faces)
    links = manifold_links(edges)
    aspect = aspects(joined)
    return Quality(
        faces=len(joined.faces),
        degenerate=int((~with_area(joined)).sum()),
        duplicate=int((~first_of_duplicates(joined.faces)).sum()),
        open_edges=int((edges.faces == 1).sum()),
        crowded_edges=int((edges.faces > 2).sum()),
        clashing_edges=int(clashing(joined.faces, links).sum()),
        components=int(link_components(links, len(joined.faces)).max()) + 1,
        slivers=float((aspect > 10).double().mean()),
        worst_aspect=float(aspect.max()),
        volume=signed_volume(joined),
    )
