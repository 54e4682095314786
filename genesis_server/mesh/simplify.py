# SPDX-License-Identifier: Apache-2.0
"""Fewer faces by quadric edge collapse (docs/spec/geometry.md 14), by the fast-simplification library on the CPU.

The library's thresholds are absolute, so the mesh is scaled to a unit box for it.
"""

from __future__ import annotations

import fast_simplification
import numpy as np
import torch

from genesis_server.mesh.mesh import Mesh

FACES_MIN = 4  # of the smallest closed surface
_AGGRESSIVENESS = (5.0, 7.0, 10.0)  # gentle first: better shaped faces; the rest only where the target was missed


def simplify(mesh: Mesh, faces: int) -> Mesh:
    """At most `faces` faces where that is possible; the mesh itself where it is small enough, or where nothing would be left.

    Args:
        mesh: any mesh without duplicate or degenerate faces.
        faces: target, at least 4.
    """
    if len(mesh.faces) <= faces:
        return mesh
    points = mesh.vertices.cpu().double().numpy()
    low, extent = points.min(0), max(float(np.ptp(points, axis=0).max()), 1e-30)
    best = mesh
    for aggressiveness in _AGGRESSIVENESS:
        out, triangles = fast_simplification.simplify(
            ((points - low) / extent).astype(np.float32),
            mesh.faces.cpu().numpy(),
            target_count=max(faces, FACES_MIN),
            agg=aggressiveness,
        )
        if FACES_MIN <= len(triangles) < len(best.faces):
            device = mesh.faces.device
            vertices = torch.from_numpy((np.asarray(out, np.float64) * extent + low).astype(np.float32)).to(device)
            best = Mesh(vertices, torch.from_numpy(np.asarray(triangles)).to(device, torch.int32))
        if len(best.faces) <= faces:
            break
    return best
