# SPDX-License-Identifier: Apache-2.0
"""Tangents as MikkTSpace makes them: the frame in which viewers and Blender read a normal map (docs/spec/geometry.md 19.4).

Per corner: the face's direction of growing u, `T = (dv2 e1 - dv1 e2) sign(D)`, is laid into the plane of the vertex normal and
normalised; the corners of a vertex are added, each weighted by its angle in that plane (Mikkelsen 2008). The bitangent is
`w N x T`, up in the picture; charts are never mirrored here, so `w` is 1 everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from native_ext.exact_sum import exact_sum


def vertex_tangents(vertices: Tensor, normals: Tensor, uvs: Tensor, faces: Tensor) -> Tensor:
    """Tangent of every vertex.

    Args:
        vertices, normals: float32 [V, 3], normals unit.
        uvs: float32 [V, 2], v downward (glTF).
        faces: int [F, 3], unmirrored in the texture.

    Returns:
        float32 [V, 3], unit and perpendicular to the normal; any such direction for a vertex without a face.
    """
    corner = faces.long()
    p, uv, n = vertices[corner].double(), uvs[corner].double(), normals[corner].double()
    e1, e2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    along = d2[:, 1:] * e1 - d1[:, 1:] * e2
    turned = d1[:, :1] * d2[:, 1:] - d1[:, 1:] * d2[:, :1]
    along = normalize(along * torch.where(turned < 0, -1.0, 1.0), dim=1, eps=1e-300)
    tangent = normalize(_into_plane(along[:, None].expand(-1, 3, -1), n), dim=2, eps=1e-300)
    back = normalize(_into_plane(p.roll(1, 1) - p, n), dim=2, eps=1e-300)
    ahead = normalize(_into_plane(p.roll(-1, 1) - p, n), dim=2, eps=1e-300)
    angle = torch.arccos((back * ahead).sum(2).clamp(-1, 1))
    total = exact_sum(corner.reshape(-1), (tangent * angle[..., None]).reshape(-1, 3), len(vertices))
    n = normalize(normals.double(), dim=1)
    total = total - n * (total * n).sum(1, keepdim=True)  # where they nearly cancel, a rounding would lean out of the plane
    helper = torch.zeros_like(total).scatter_(1, normals.abs().argmin(1, keepdim=True), 1.0)
    fallback = torch.linalg.cross(helper, normals.double())
    lost = total.norm(dim=1, keepdim=True) < 1e-9
    return normalize(torch.where(lost, fallback, total), dim=1).float()


def _into_plane(vectors: Tensor, normals: Tensor) -> Tensor:
    return vectors - normals * (vectors * normals).sum(2, keepdim=True)


def encode_normals(wanted: Tensor, normal: Tensor, tangent: Tensor) -> Tensor:
    """Texels of a normal map.

    Args:
        wanted: float32 [P, 3], unit normals that the shading shall show.
        normal, tangent: float32 [P, 3], interpolated over the face as a renderer does, not normalised again.

    Returns:
        float32 [P, 3] in 0..1: right, up and out of the surface, `n / 2 + 1 / 2`.
    """
    bitangent = torch.linalg.cross(normal, tangent)
    a, b, c = (tangent * tangent).sum(1), (tangent * normal).sum(1), (normal * normal).sum(1)
    s, u = (wanted * tangent).sum(1), (wanted * normal).sum(1)
    scale = (a * c - b * b).clamp_min(1e-12)
    x, z = (c * s - b * u) / scale, (a * u - b * s) / scale
    y = (wanted * bitangent).sum(1) / (bitangent * bitangent).sum(1).clamp_min(1e-12)
    local = normalize(torch.stack([x, y, z], 1), dim=1)
    local = torch.cat([local[:, :2], local[:, 2:].clamp_min(LOWEST)], 1)
    return normalize(local, dim=1) / 2 + 0.5


LOWEST = 0.05  # a normal from behind the surface has no meaning in a normal map
