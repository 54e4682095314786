# SPDX-License-Identifier: Apache-2.0
"""The baked PBR material: two or three pictures and how transparency is meant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA_CUTOFF = 0.5  # of mask mode (docs/spec/geometry.md 18.7)


@dataclass(frozen=True, eq=False)
class Material:
    """Textures in the glTF metallic-roughness model; row 0 is the first row of the image file.

    Attributes:
        base_color: uint8 [H, W, 4], sRGB encoded colour and alpha; alpha is 255 everywhere in opaque mode.
        metallic_roughness: uint8 [H, W, 3], (255, roughness, metallic); the first channel would be read as "no occlusion".
        alpha_mode: "OPAQUE", "MASK" (cutoff `ALPHA_CUTOFF`) or "BLEND".
        double_sided: whether back faces are shown.
        normal: uint8 or uint16 [H, W, 3] in the MikkTSpace frame, (right, up, out) as `n / 2 + 1 / 2` of the type's largest
            value; None without a normal map.
    """

    base_color: np.ndarray
    metallic_roughness: np.ndarray
    alpha_mode: str = "OPAQUE"
    double_sided: bool = True
    normal: np.ndarray | None = None
