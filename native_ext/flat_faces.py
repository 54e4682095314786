# SPDX-License-Identifier: Apache-2.0
"""Faces without an area, in one pass over millions: `area <= flat * longest^2`, or an edge without length.

In double precision; what the formula says in torch is in the test beside it.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})


def flat_faces(vertices: Tensor, faces: Tensor, flat: float) -> Tensor:
    """bool [F].

    Args:
        vertices: float32 [V, 3]; faces: int32 [F, 3].
        flat: area over squared longest edge up to which a face has none.
    """
    wp.init()
    found = torch.zeros(len(faces), dtype=torch.uint8, device=faces.device)
    if len(faces):
        with wp.ScopedStream(wp.stream_from_torch(faces.device) if faces.is_cuda else None):
            points = wp.from_torch(vertices.float().contiguous(), dtype=wp.vec3)
            corners = wp.from_torch(faces.int().contiguous(), dtype=wp.vec3i)
            inputs = [points, corners, wp.float64(flat), wp.from_torch(found)]
            wp.launch(_find_flat, dim=len(faces), inputs=inputs, device=wp.device_from_torch(faces.device))
    return found.bool()


@wp.kernel
def _find_flat(
    points: wp.array(dtype=wp.vec3), corners: wp.array(dtype=wp.vec3i), flat: wp.float64, found: wp.array(dtype=wp.uint8)
):
    f = wp.tid()
    face = corners[f]
    a = wp.vec3d(points[face[0]])
    b = wp.vec3d(points[face[1]])
    c = wp.vec3d(points[face[2]])
    one = wp.length_sq(b - a)
    two = wp.length_sq(c - b)
    three = wp.length_sq(a - c)
    area = wp.float64(0.5) * wp.length(wp.cross(b - a, c - a))
    if wp.min(one, wp.min(two, three)) == wp.float64(0.0) or not (area > flat * wp.max(one, wp.max(two, three))):
        found[f] = wp.uint8(1)
