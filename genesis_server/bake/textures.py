# SPDX-License-Identifier: Apache-2.0
"""Bake the O-Voxel's attributes into textures (docs/spec/geometry.md 17.4-9, without the defects 18.1, 18.4, 18.7-9).

texel -> point on the unwrapped mesh -> nearest point of the detailed mesh that faces the same way -> trilinear sample of the
attributes, and the shading normal there in the tangent frame -> uint8; then everything between the charts takes the value of
the nearest texel that has one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from genesis_server.bake.material import Material
from genesis_server.bake.seams import fill_gutters
from genesis_server.bake.surface import DetailedSurface
from genesis_server.bake.tangents import encode_normals
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.voxels import ATTRIBUTE_CHANNELS, OVoxel
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BakeSettings
from native_ext.fill_gutters import nearest_covered
from native_ext.rasterize import rasterize

REACH = 1.5  # texels: every bilinear tap at a chart's border is then a true surface value (19.1)
TRANSPARENT = 0.98  # alpha below this counts as transparent (18.7)
FEW_TRANSPARENT = 1e-3  # ... a smaller share of the voxels is noise
CLEAR_CUT = 0.95  # of the transparent texels being nearly 0 or nearly 1 makes a mask
FAINT = 0.0175  # radians, one degree: a step of 8 bits is 0.45 degrees, of which sampling sees a quarter
_STEP = 16  # of 65536
_TEXELS_AT_ONCE = 1 << 17  # progress and cancellation between parts, and work for every core
_MAX_PARTS = 16
_WORKERS = os.cpu_count() or 1


def bake_textures(
    unwrapped: UnwrappedMesh,
    detailed: Mesh,
    voxels: OVoxel,
    settings: BakeSettings,
    on_step: Callable[[int, int], None] | None = None,
    outward: bool = False,
) -> Material:
    """The material of an unwrapped mesh.

    Args:
        unwrapped: the mesh that the textures belong to.
        detailed: the surface that the voxels describe, before simplification.
        voxels: O-Voxel with attributes.
        settings: texture size, alpha mode, and whether there is a normal map.
        outward: the detailed surface's faces are wound outward.
        on_step: called with (parts done, parts) before each part and at the end; what it raises ends the bake.

    Returns:
        The material; every texel has a value.

    Raises:
        GenesisError: BAD_MESH when the voxels carry no attributes.
    """
    if voxels.attributes is None or voxels.coords.shape[0] == 0:
        raise GenesisError(ErrorCode.BAD_MESH, "The O-Voxel carries no colours to bake.", "Run the texture stage.")
    size = settings.texture_size
    surface = DetailedSurface(detailed, voxels, outward)
    raster = rasterize(unwrapped.uvs[unwrapped.faces.long()] * size, size, size, REACH)
    covered = raster.face >= 0
    face, weights = raster.face[covered], raster.barycentric[covered]
    part = max(_TEXELS_AT_ONCE, -(-face.shape[0] // _MAX_PARTS))
    jobs = list(zip(face.split(part), weights.split(part), strict=True))
    values = torch.empty(face.shape[0], 6, device=face.device)
    normals = torch.empty(face.shape[0], 3, device=face.device) if settings.normal_map else None
    work = partial(_bake_texels, unwrapped, surface, settings.normal_map)
    with ThreadPoolExecutor(_WORKERS if face.device.type == "cpu" else 1) as pool:  # Warp's CPU kernels use one core each
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for step, future in enumerate(futures):
                if on_step is not None:
                    on_step(step, len(jobs))
                here = slice(step * part, (step + 1) * part)
                values[here], shading = future.result()
                if normals is not None:
                    normals[here] = shading
        finally:
            for future in futures:
                future.cancel()
    if on_step is not None:
        on_step(len(jobs), len(jobs))
    return _material(unwrapped, covered, values, normals, settings, voxels)


def _bake_texels(
    unwrapped: UnwrappedMesh, surface: DetailedSurface, with_normals: bool, face: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Attributes [P, 6] and, where asked for, normal map texels [P, 3] 0..1 of points of the unwrapped mesh."""
    corner, weights = unwrapped.faces[face.long()].long(), weights[:, :, None]
    position = (unwrapped.vertices[corner] * weights).sum(1)
    shown = (unwrapped.normals[corner] * weights).sum(1)
    normal = normalize(shown, dim=1)
    near, place = surface.locate(position, normal)
    values = surface.values(near, place)
    if not with_normals:
        return values, None
    tangent = (unwrapped.tangents[corner] * weights).sum(1)
    return values, encode_normals(surface.normals(near, place, normal), shown, tangent)


def alpha_mode(alpha: Tensor) -> str:
    """OPAQUE, MASK or BLEND from the alpha values of the voxels, float [P] (18.7).

    Not of the texels: sampled between voxels, every rim of a hole is half clear.
    """
    clear = alpha[alpha < TRANSPARENT]
    if clear.numel() <= FEW_TRANSPARENT * alpha.numel():
        return "OPAQUE"
    extreme = ((clear < 0.1) | (clear > 0.9)).float().mean()
    if float(extreme) < CLEAR_CUT:
        return "BLEND"
    return "MASK" if int((clear < 0.5).sum()) > FEW_TRANSPARENT * alpha.numel() else "OPAQUE"  # nearly opaque, with some noise


def _material(
    unwrapped: UnwrappedMesh,
    covered: Tensor,
    values: Tensor,
    normals: Tensor | None,
    settings: BakeSettings,
    voxels: OVoxel,
) -> Material:
    source = nearest_covered(covered).long()
    place = torch.cumsum(covered.reshape(-1), 0)[source.clamp(min=0)] - 1  # row of `values` for every texel
    shading = None if normals is None else _normal_map(normals, place)
    mode = settings.alpha.upper()
    if settings.alpha == "auto":
        mode = alpha_mode(voxels.attributes[:, ATTRIBUTE_CHANNELS["alpha"]][:, 0])
    values, place = fill_gutters(values.clamp(0, 1), place, covered, unwrapped)
    texels = _bytes(values)
    rgb, metallic, roughness, alpha = (texels[:, ATTRIBUTE_CHANNELS[name]] for name in ATTRIBUTE_CHANNELS)
    opaque = torch.full_like(alpha, 255)
    base = torch.cat([rgb, opaque if mode == "OPAQUE" else alpha], 1)
    surface = torch.cat([opaque, roughness, metallic], 1)
    return Material(
        base_color=base[place].cpu().numpy(),
        metallic_roughness=surface[place].cpu().numpy(),
        alpha_mode=mode,
        normal=shading,
    )


def _normal_map(normals: Tensor, place: Tensor) -> np.ndarray:
    """uint8 or, where 8 bits would be too coarse for what the map shows, uint16 [H, W, 3] of 12 bits, which pack well."""
    shown = torch.linalg.vector_norm(normals[:, :2] * 2 - 1, dim=1).mean()  # sine of the mean angle to the mesh's own normal
    if float(shown) >= FAINT:
        return _bytes(normals)[place].cpu().numpy()
    steps = (normals.clamp(0, 1) * (65535 / _STEP) + 0.5).int() * _STEP
    return steps.clamp_max(65535).to(torch.int16)[place].cpu().numpy().view(np.uint16)  # torch indexes no uint16


def _bytes(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
