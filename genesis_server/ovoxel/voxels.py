# SPDX-License-Identifier: Apache-2.0
"""The O-Voxel: one sparse set of surface cells with dual vertices, edge flags and PBR attributes (docs/spec/geometry.md 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

ATTRIBUTE_CHANNELS = {"base_color": slice(0, 3), "metallic": slice(3, 4), "roughness": slice(4, 5), "alpha": slice(5, 6)}


@dataclass(frozen=True)
class OVoxel:
    """One object as N active cells of a cubic grid over the box [-0.5, 0.5]^3, z up.

    Attributes:
        coords: int32 [N, 3], cell indices x, y, z in [0, resolution).
        dual_vertices: float32 [N, 3], offset from the cell's low corner in voxel units; 0..1, predicted -0.5..1.5.
        intersected: bool [N, 3], the surface crosses the cell's owned edge of axis x, y, z.
        split_weight: float32 [N, 1] > 0, chooses the diagonal of quads; None where nothing predicted it.
        attributes: float32 [N, 6], base colour r g b (sRGB encoded), metallic, roughness, alpha; nominally 0..1, unclamped.
            None for a bare shape.
        resolution: cells per axis.
    """

    coords: torch.Tensor
    dual_vertices: torch.Tensor
    intersected: torch.Tensor
    resolution: int
    split_weight: torch.Tensor | None = None
    attributes: torch.Tensor | None = None
