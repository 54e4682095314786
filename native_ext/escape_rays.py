# SPDX-License-Identifier: Apache-2.0
"""Which side of a surface sees the sky: rays that leave the mesh without a hit (docs/spec/geometry.md 13.6, 19.9).

Per point: escapes of the directions around +n minus escapes of the same directions around -n. Integers, so the same on
every run.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})


def escape_votes(vertices: Tensor, faces: Tensor, points: Tensor, normals: Tensor, rays: int, lift: float) -> Tensor:
    """Escaped rays in front minus escaped rays behind.

    Args:
        vertices, faces: the mesh that stops rays, float32 [V, 3] and int [F, 3].
        points: float32 [P, 3] on the surface.
        normals: unit float32 [P, 3].
        rays: directions per side, spread over the hemisphere by its cosine.
        lift: distance from the surface at which rays start.

    Returns:
        int32 [P], -rays to rays.
    """
    wp.init()
    device = points.device
    votes = torch.zeros(len(points), dtype=torch.int32, device=device)
    if len(points) == 0 or len(faces) == 0:
        return votes
    with wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None):
        mesh = wp.Mesh(
            points=wp.from_torch(vertices.float().contiguous(), dtype=wp.vec3),
            indices=wp.from_torch(faces.int().contiguous().view(-1)),
        )
        wp.launch(
            _vote,
            dim=len(points),
            inputs=[
                mesh.id,
                wp.from_torch(points.float().contiguous(), dtype=wp.vec3),
                wp.from_torch(normals.float().contiguous(), dtype=wp.vec3),
                rays,
                float(lift),
                wp.from_torch(votes),
            ],
            device=wp.device_from_torch(device),
        )
    return votes


@wp.kernel
def _vote(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    rays: int,
    lift: float,
    votes: wp.array(dtype=int),
):
    i = wp.tid()
    n = normals[i]
    other = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(n[0]) > 0.7:
        other = wp.vec3(0.0, 1.0, 0.0)
    u = wp.normalize(wp.cross(n, other))
    v = wp.cross(n, u)
    total = int(0)
    for k in range(rays):
        share = (float(k) + 0.5) / float(rays)
        turn = 2.399963 * float(k)  # golden angle
        flat = wp.sqrt(share) * (wp.cos(turn) * u + wp.sin(turn) * v)
        up = wp.sqrt(1.0 - share) * n
        if not wp.mesh_query_ray_anyhit(mesh, points[i] + lift * n, flat + up, 1.0e6):
            total += 1
        if not wp.mesh_query_ray_anyhit(mesh, points[i] - lift * n, flat - up, 1.0e6):
            total -= 1
    votes[i] = total
