# SPDX-License-Identifier: Apache-2.0
"""Which points lie inside an oriented, possibly torn surface: generalised winding numbers (Jacobson et al., 2013).

Formula: `w(p) = 1 / 4 pi * sum of the signed solid angles of the faces seen from p`; inside where w > 1/2. Warp's hierarchy
sums far faces in groups (Barill et al., 2018). A hole is spanned by the surface on which w is one half.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

_ACCURACY = wp.constant(2.0)  # distance beyond which faces are summed in groups, in sizes of the group


class WindingNumber:
    """The winding number of one surface, for any number of questions.

    Args:
        vertices: float32 [V, 3]; faces: int [F, 3], wound outward; F = 0 has no inside.
    """

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        wp.init()
        self._mesh: wp.Mesh | None = None
        if len(faces) == 0:
            return
        self._extent = float(vertices.abs().max())
        with _stream(vertices.device):
            self._mesh = wp.Mesh(
                points=wp.from_torch(vertices.float().contiguous(), dtype=wp.vec3),
                indices=wp.from_torch(faces.int().contiguous().view(-1)),
                support_winding_number=True,
            )

    def inside(self, points: Tensor) -> Tensor:
        """bool [P], points float32 [P, 3] with a winding number above one half."""
        inside = torch.zeros(len(points), dtype=torch.int32, device=points.device)
        if self._mesh is None or len(points) == 0:
            return inside.bool()
        reach = 4.0 * (self._extent + float(points.abs().max())) + 1.0
        with _stream(points.device):
            wp.launch(
                _inside,
                dim=len(points),
                inputs=[self._mesh.id, wp.from_torch(points.float().contiguous(), dtype=wp.vec3), reach, wp.from_torch(inside)],
                device=wp.device_from_torch(points.device),
            )
        return inside.bool()


def _stream(device: torch.device) -> wp.ScopedStream:
    return wp.ScopedStream(wp.stream_from_torch(device) if device.type == "cuda" else None)


@wp.kernel
def _inside(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), reach: float, inside: wp.array(dtype=int)):
    i = wp.tid()
    nearest = wp.mesh_query_point_sign_winding_number(mesh, points[i], reach, _ACCURACY, 0.5)
    if nearest.result and nearest.sign < 0.0:
        inside[i] = 1
