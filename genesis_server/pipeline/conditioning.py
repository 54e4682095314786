# SPDX-License-Identifier: Apache-2.0
"""From cutouts to the image tokens that the flow networks attend to (docs/spec/pipeline.md 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """Image tokens of one object.

    Attributes:
        views: float32 `[L, D]` of each picture: class token, register tokens, then patches row by row.
        size: side in pixels at which the pictures were seen.
    """

    views: tuple[Tensor, ...]
    size: int

    def batched(self, samples: int) -> tuple[list[Tensor], Tensor]:
        """Tokens `[samples, L, D]` of each view, and the all-zero tokens of the unconditional pass."""
        positive = [view.expand(samples, *view.shape).contiguous() for view in self.views]
        return positive, torch.zeros_like(positive[0])


def encode(encoder: nn.Module, pictures: Sequence[Image.Image], size: int) -> Conditioning:
    """Tokens of every picture at `size` x `size` pixels.

    Args:
        encoder: a `DinoV3FeatureExtractor`, already on its device.
        pictures: the cutouts; another mode than RGB is resized in that mode first, then loses its alpha.
        size: a multiple of the encoder's patch size.
    """
    with torch.inference_mode():
        # one by one: several views of one object are few, and a batch would cost memory at 1024 pixels
        return Conditioning(tuple(encoder([picture], image_size=size)[0] for picture in pictures), size)
