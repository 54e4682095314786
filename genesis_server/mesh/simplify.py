# SPDX-License-Identifier: Apache-2.0
"""Fewer faces by quadric edge collapse (docs/spec/geometry.md 14), by the fast-simplification library on the CPU.

The library's thresholds are absolute, so the mesh is scaled to a unit box for it. Its guard against flipped faces refuses
collapses among vertices that lie exactly on a line, and so gets stuck on flat sides three times above the target; a
displacement far below the precision of an O-Voxel (1/255 of a voxel) frees it, and makes it three times as fast.
"""

from __future__ import annotations

import fast_simplification
import numpy as np
import torch

from genesis_server.mesh.mesh import Mesh

FACES_MIN = 4  # of the smallest closed surface
_AGGRESSIVENESS = (7.0, 10.0)  # the library's default; the second only where the target was missed
_DISPLACEMENT = 1e-5  # of the unit box, standard deviation


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
    unit = (points - low) / extent
    unit += np.random.default_rng(0).normal(scale=_DISPLACEMENT, size=unit.shape)
    best = mesh
    for aggressiveness in _AGGRESSIVENESS:
        out, triangles = fast_simplification.simplify(
            unit.astype(np.float32),
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
