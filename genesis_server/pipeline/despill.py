# SPDX-License-Identifier: Apache-2.0
"""Takes the colour of a model's ground out of what it painted, as is done with pictures taken before a green screen.

Of parts thinner than a patch of the image encoder a small model sees more ground than object, and paints them like it. No
voxel stays more of the ground's hue than the pictures' own pixels are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline.conditioning import Framing

SHARE = 0.995  # of a picture's pixels that are no more of the ground's hue than is allowed
LIGHT = 1.3  # base colours are brighter than what is seen of them


def despilled(voxels: OVoxel, cutouts: Sequence[Image.Image], framing: Framing) -> OVoxel:
    """The voxels with the ground's hue limited in their base colours; as they are for a model without a ground.

    Args:
        voxels: with attributes, base colour first.
        cutouts: of all pictures, as `cut_out` makes them; those without alpha tell nothing.
        framing: of the model; its ground has one channel above the others.
    """
    pixels = [np.asarray(cutout).reshape(-1, 4) for cutout in cutouts if cutout.mode == "RGBA"]
    if framing.ground is None or not pixels:
        return voxels
    channel = int(np.argmax(framing.ground))
    pixels = np.concatenate(pixels)
    seen = torch.from_numpy(pixels[pixels[:, 3] > 127, :3].astype(np.float32) / 255)
    if not len(seen):
        return voxels
    limit = LIGHT * max(0.0, float(np.quantile(_excess(seen, channel).numpy(), SHARE)))
    attributes = voxels.attributes.clone()
    attributes[:, channel] -= (_excess(attributes, channel) - limit).clamp(min=0)
    return dataclasses.replace(voxels, attributes=attributes)


def _excess(colours: Tensor, channel: int) -> Tensor:
    """By how much one channel is above both others, `[N]`."""
    others = [other for other in range(3) if other != channel]
    return colours[:, channel] - colours[:, others].amax(1)
