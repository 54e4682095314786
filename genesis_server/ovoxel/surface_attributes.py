# SPDX-License-Identifier: Apache-2.0
"""Colours and materials of a textured surface in the cells it passes (docs/spec/geometry.md 4).

A triangle speaks for the cells that its crossings touch: there the cell's centre is dropped on the triangle's plane, and what
the material says at that point counts with weight `1 - signed distance`, that is, all nearly alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genesis_server.mesh.normals import face_normals
from genesis_server.ovoxel.surface import AlphaMode, SurfaceMaterial, TexturedSurface
from genesis_server.ovoxel.texture import Texture
from native_ext.grid_crossings import grid_crossings
from native_ext.segment_sum import run_starts, segment_sum

CHANNELS = {"base_color": 3, "metallic": 1, "roughness": 1, "emissive": 3, "alpha": 1, "normal": 3}
_FLAT_UV = 1e-9  # of the product of a triangle's UV edges: below, it has no direction of u and v


@dataclass(frozen=True)
class Pairs:
    """P pairs of a cell and a triangle that passes it, by cell, with what the triangle knows there.

    Attributes:
        row, triangle: int64 [P].
        bary: float64 [P, 3], of the cell's centre dropped on the triangle's plane; negative outside.
        distance: float64 [P], signed, in world units.
        uv: float64 [P, 2]; footprint: float64 [P], extent of a cell in UV.
    """

    row: Tensor
    triangle: Tensor
    bary: Tensor
    distance: Tensor
    uv: Tensor
    footprint: Tensor


def surface_attributes(
    surface: TexturedSurface, low: Tensor, high: Tensor, size: tuple[int, int, int], level_offset: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Attributes of every cell that the surface passes.

    Args:
        surface: F triangles.
        low, high: float32 [3], the grid's box.
        size: cells per axis.
        level_offset: added to the mip level of every sample.

    Returns:
        coords int32 [N, 3] ascending, the cells of `mesh_to_dual_grid`; float32 [N, C] by the names of `CHANNELS`.
    """
    cell_size = ((high - low) / torch.tensor(size, device=low.device)).float()
    local = (surface.mesh.vertices - low).float()
    crossings = grid_crossings(local, surface.mesh.faces, size, cell_size)
    cells = crossings.touched().reshape(-1, 3)
    keys, row = torch.unique((cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2], return_inverse=True)
    coords = torch.stack([keys // (size[1] * size[2]), keys // size[2] % size[1], keys % size[2]], 1)
    count = max(len(surface.mesh.faces), 1)
    pair = torch.unique(row * count + crossings.triangle.repeat_interleave(4))
    row, triangle = pair // count, pair % count
    corners = local.double()[surface.mesh.faces.long()]
    bary, distance = _drop((coords[row] + 0.5) * cell_size.double(), corners[triangle])
    uv = torch.zeros_like(corners[:, :, :2]) if surface.corner_uv is None else surface.corner_uv.double()
    frames, footprint = _tangents(corners, uv, float(cell_size.max()))
    pairs = Pairs(row, triangle, bary, distance, _blend(bary, uv[triangle]), footprint[triangle])
    normals = (
        face_normals(surface.mesh)[:, None].expand(-1, 3, -1) if surface.corner_normals is None else surface.corner_normals
    )
    normal = _blend(bary, normals.double()[triangle])
    starts = run_starts(row, len(coords))
    weight = 1 - distance[:, None]
    total = segment_sum(weight, starts)
    out = {}
    for name, channels in CHANNELS.items():
        values = torch.empty(len(pair), channels, dtype=torch.float64, device=pair.device)
        for number, material in enumerate(surface.materials):
            mine = torch.nonzero(surface.material_of_face[triangle] == number)[:, 0]
            if name == "normal":
                values[mine] = _normals(material, normal[mine], frames[triangle[mine]], pairs, mine, level_offset)
            else:
                values[mine] = _values(material, name, channels, pairs, mine, level_offset)
        out[name] = (segment_sum(values * weight, starts) / total).float()
    return coords.int(), out


def _drop(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentric weights of the foot points, and signed distances; the first corner's for triangles without area."""
    a, b, c = corners.unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    area2 = (cross * cross).sum(1)
    solid = area2 > 0
    area2 = torch.where(solid, area2, torch.ones_like(area2))
    w = (torch.linalg.cross(b - a, points - a) * cross).sum(1) / area2
    v = (torch.linalg.cross(points - a, c - a) * cross).sum(1) / area2
    bary = torch.stack([1 - v - w, v, w], 1)
    first = torch.tensor([1.0, 0, 0], dtype=torch.float64, device=points.device)
    distance = ((points - a) * cross).sum(1) / area2.sqrt()
    return torch.where(solid[:, None], bary, first), torch.where(solid, distance, torch.zeros_like(distance))


def _blend(bary: Tensor, corner_values: Tensor) -> Tensor:
    return (bary[..., None] * corner_values).sum(1)


def _tangents(corners: Tensor, uv: Tensor, cell: float) -> tuple[Tensor, Tensor]:
    """Unit tangent and bitangent float64 [F, 2, 3] of every triangle, and the extent of a cell in its UV, float64 [F]."""
    e1, e2 = (corners[:, 1:] - corners[:, :1]).unbind(1)
    d1, d2 = (uv[:, 1:] - uv[:, :1]).unbind(1)
    area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    flat = area.abs() <= _FLAT_UV * d1.norm(dim=1) * d2.norm(dim=1)
    tangent = d2[:, 1:] * e1 - d1[:, 1:] * e2
    bitangent = d1[:, :1] * e2 - d2[:, :1] * e1
    stretch = (tangent.norm(dim=1) * bitangent.norm(dim=1)).sqrt() / area.abs()
    footprint = torch.where(flat, torch.full_like(stretch, cell / 1e6), cell / stretch)
    frame = torch.nn.functional.normalize(torch.stack([tangent, bitangent], 1), dim=2) * area.sign()[:, None, None]
    fixed = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64, device=uv.device)
    return torch.where(flat[:, None, None], fixed, frame), footprint


def _values(material: SurfaceMaterial, name: str, channels: int, pairs: Pairs, mine: Tensor, level_offset: float) -> Tensor:
    if name == "alpha" and material.alpha_mode is AlphaMode.OPAQUE:
        return torch.ones(len(mine), 1, dtype=torch.float64, device=mine.device)
    factor = torch.tensor(getattr(material, name), dtype=torch.float64, device=mine.device).view(1, channels)
    texture: Texture | None = getattr(material, f"{name}_texture")
    values = factor.expand(len(mine), -1)
    if texture is not None:
        values = texture.sample(pairs.uv[mine], pairs.footprint[mine], level_offset) * factor
    if name == "alpha" and material.alpha_mode is AlphaMode.MASK:
        values = (values >= material.alpha_cutoff).double()
    return values


def _normals(
    material: SurfaceMaterial, normal: Tensor, frames: Tensor, pairs: Pairs, mine: Tensor, level_offset: float
) -> Tensor:
    if material.normal_texture is None:
        return normal
    s = 2 * material.normal_texture.sample(pairs.uv[mine], pairs.footprint[mine], level_offset) - 1
    turned = s[:, :1] * frames[:, 0] + s[:, 1:2] * frames[:, 1] + s[:, 2:] * normal
    return torch.nn.functional.normalize(turned, dim=1)
