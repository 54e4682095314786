# SPDX-License-Identifier: Apache-2.0
"""Bake the O-Voxel's attributes into textures (docs/spec/geometry.md 17.4-9, without the defects 18.1, 18.4, 18.7-9).

texel -> point on the unwrapped mesh -> nearest point of the detailed mesh that faces the same way -> trilinear sample -> uint8;
then everything between the charts takes the value of the nearest texel that has one.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from genesis_server.bake.material import Material
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.ovoxel.voxels import ATTRIBUTE_CHANNELS, OVoxel
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BakeSettings
from native_ext.closest_point import closest_point
from native_ext.grid_sample import sample_grid_or_nearest
from native_ext.rasterize import rasterize

REACH = 1.5  # texels: every bilinear tap at a chart's border is then a true surface value (19.1)
SAME_SIDE = 0.5  # cosine between texel normal and face normal (18.1)
SEARCH_VOXELS = 2.0  # how far a compatible face is looked for (18.1)
TRANSPARENT = 0.98  # alpha below this counts as transparent (18.7)
FEW_TRANSPARENT = 1e-3  # ... a smaller share of the texels is noise
CLEAR_CUT = 0.95  # of the transparent texels being nearly 0 or nearly 1 makes a mask
_TEXELS_AT_ONCE = 1 << 18  # progress and cancellation between parts; each part rebuilds the search tree, so not smaller
_MAX_PARTS = 8


def bake_textures(
    unwrapped: UnwrappedMesh,
    detailed: Mesh,
    voxels: OVoxel,
    settings: BakeSettings,
    on_step: Callable[[int, int], None] | None = None,
) -> Material:
    """The material of an unwrapped mesh.

    Args:
        unwrapped: the mesh that the textures belong to.
        detailed: the surface that the voxels describe, before simplification.
        voxels: O-Voxel with attributes.
        settings: texture size and alpha mode.
        on_step: called with (parts done, parts) before each part and at the end; what it raises ends the bake.

    Returns:
        The material; every texel has a value.

    Raises:
        GenesisError: BAD_MESH when the voxels carry no attributes.
    """
    if voxels.attributes is None or voxels.coords.shape[0] == 0:
        raise GenesisError(ErrorCode.BAD_MESH, "The O-Voxel carries no colours to bake.", "Run the texture stage.")
    size = settings.texture_size
    faces = unwrapped.faces.long()
    raster = rasterize(unwrapped.uvs[faces] * size, size, size, REACH)
    covered = raster.face >= 0
    face, weights = raster.face[covered].long(), raster.barycentric[covered]
    count = face.shape[0]
    part = max(_TEXELS_AT_ONCE, -(-count // _MAX_PARTS))
    starts = range(0, count, part)
    values = torch.empty(count, 6, device=face.device)
    for step, start in enumerate(starts):
        if on_step is not None:
            on_step(step, len(starts))
        here = slice(start, start + part)
        corner = faces[face[here]]
        position = (unwrapped.vertices[corner] * weights[here, :, None]).sum(1)
        normal = torch.nn.functional.normalize((unwrapped.normals[corner] * weights[here, :, None]).sum(1), dim=1)
        values[here] = surface_values(position, normal, detailed, voxels)
    if on_step is not None:
        on_step(len(starts), len(starts))
    texels = (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    picture = torch.zeros(size, size, 6, dtype=torch.uint8, device=face.device)
    picture[covered] = texels
    return _material(fill_gutters(picture.cpu().numpy(), covered.cpu().numpy()), values, settings.alpha)


def surface_values(position: Tensor, normal: Tensor, detailed: Mesh, voxels: OVoxel) -> Tensor:
    """Attributes of the detailed surface next to points.

    Args:
        position, normal: float32 [P, 3], normals unit.
        detailed: the mesh that the points are moved onto: to the nearest face that faces the same way or the opposite way,
            and to the nearest of all faces where no such face is near.
        voxels: what is sampled there; the nearest voxel where none is around.

    Returns:
        float32 [P, 6], in the order of `ATTRIBUTE_CHANNELS`, unclamped.
    """
    reach = SEARCH_VOXELS / voxels.resolution
    _, face, weights = closest_point(detailed.vertices, detailed.faces, position, reach, normal, SAME_SIDE)
    lost = (face < 0).nonzero()[:, 0]
    if lost.numel():
        _, face[lost], weights[lost] = closest_point(detailed.vertices, detailed.faces, position[lost])
    corners = detailed.vertices[detailed.faces[face].long()]
    point = (corners * weights[:, :, None]).sum(1)
    cells = (point + 0.5) * voxels.resolution
    values, _ = sample_grid_or_nearest(voxels.attributes, voxels.coords, voxels.resolution, cells)
    return values


def fill_gutters(picture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Gives every uncovered texel the value of the nearest covered one.

    Args:
        picture: uint8 [H, W, C].
        covered: bool [H, W].

    Returns:
        uint8 [H, W, C]; the picture itself where nothing is covered.
    """
    if not covered.any():
        return picture
    _, label = cv2.distanceTransformWithLabels(
        (~covered).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    flat = picture.reshape(-1, picture.shape[2])
    source = np.zeros(int(label.max()) + 1, np.int64)
    source[label[covered]] = np.flatnonzero(covered)
    return flat[source[label]]


def alpha_mode(alpha: Tensor) -> str:
    """OPAQUE, MASK or BLEND from the alpha values of the covered texels, float [P] (18.7)."""
    clear = alpha[alpha < TRANSPARENT]
    if clear.numel() <= FEW_TRANSPARENT * alpha.numel():
        return "OPAQUE"
    extreme = ((clear < 0.1) | (clear > 0.9)).float().mean()
    return "MASK" if float(extreme) >= CLEAR_CUT else "BLEND"


def _material(picture: np.ndarray, values: Tensor, wanted: str) -> Material:
    mode = alpha_mode(values[:, ATTRIBUTE_CHANNELS["alpha"]][:, 0]) if wanted == "auto" else wanted.upper()
    rgb, metallic, roughness, alpha = (picture[..., ATTRIBUTE_CHANNELS[name]] for name in ATTRIBUTE_CHANNELS)
    opaque = np.full_like(alpha, 255)
    return Material(
        base_color=np.concatenate([rgb, opaque if mode == "OPAQUE" else alpha], 2),
        metallic_roughness=np.concatenate([opaque, roughness, metallic], 2),
        alpha_mode=mode,
    )
