# SPDX-License-Identifier: Apache-2.0
"""From cutouts to the image tokens that the flow networks attend to (docs/spec/pipeline.md 6).

A model whose output is aligned with the first picture, as genesis-mini's, cannot take further pictures one by one: it must
know from where each was taken. Such a model is trained to attend to the tokens of all pictures at once, each marked
with its turn; the pictures are then those of a turntable, evenly spaced. Those from behind are mirrored, so that one place
of the object lies behind one place of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from genesis_server.pipeline.cutout import on_black

TURN_MARK = 0.5  # size of the mark of a turned picture; tokens have unit variance


@dataclass(frozen=True)
class Framing:
    """How a model was shown its pictures in training; the published one as they are cut out, one by one.

    Attributes:
        border: margin on each side of a cutout, as a share of the framed picture's side.
        camera: of a model whose output is aligned with the first picture: distance from the cube's middle, in its sides, of
            the camera that looks along +y and whose picture the middle just fills.
        turntable: several pictures were taken around the object, evenly spaced, and are looked at together.
    """

    border: float = 0.0
    camera: float | None = None
    turntable: bool = False


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


def encode(encoder: nn.Module, cutouts: Sequence[Image.Image], size: int, framing: Framing | None = None) -> Conditioning:
    """Tokens of every picture at `size` x `size` pixels.

    Args:
        encoder: a `DinoV3FeatureExtractor`, already on its device.
        cutouts: as `cut_out` makes them.
        size: a multiple of the encoder's patch size.
        framing: of the model. On a turntable all pictures become one view `[n L, D]`, picture i of n marked as taken after
            a turn of i / n.
    """
    framing = framing or Framing()
    pictures = [framed(cutout, framing.border) for cutout in cutouts]
    if encoder.channels == 3:
        pictures = [on_black(picture) for picture in pictures]
    turns = 2 * math.pi * torch.arange(len(pictures)) / len(pictures)
    if framing.turntable:
        behind = from_behind(turns).tolist()
        pictures = [ImageOps.mirror(picture) if back else picture for picture, back in zip(pictures, behind, strict=True)]
    with torch.inference_mode():
        # one by one: several views of one object are few, and a batch would cost memory at 1024 pixels
        views = [encoder([picture], image_size=size)[0] for picture in pictures]
        if framing.turntable and len(views) > 1:
            turns = turns.to(views[0].device)
            views = [torch.cat([mark_turn(view, turn) for view, turn in zip(views, turns, strict=True)])]
        return Conditioning(tuple(views), size)


def from_behind(turn: Tensor) -> Tensor:
    """bool: whether a picture after this turn (radians) shows the back, and so is mirrored before it is encoded."""
    return turn.cos() < -0.1


def mark_turn(tokens: Tensor, turn: Tensor) -> Tensor:
    """Add (1 - cos turn) a + sin turn b, with a and b fixed patterns of signs over the channels: nothing for the front.

    Args:
        tokens: `[..., L, D]`.
        turn: radians `[...]` by which the object was turned counter-clockwise, seen from above, since the first picture.
    """
    channel = torch.arange(tokens.shape[-1], device=tokens.device)
    a, b = (1.0 - 2.0 * (channel // period % 2) for period in (1, 2))
    turn = turn[..., None, None].float()
    return tokens + TURN_MARK * ((1 - turn.cos()) * a + turn.sin() * b).to(tokens.dtype)


def framed(cutout: Image.Image, border: float) -> Image.Image:
    """A cutout with a transparent margin on all sides, of a share `border` of the new side each; as it is without one."""
    if border == 0:
        return cutout
    side = round(cutout.width / (1 - 2 * border))
    picture = Image.new("RGBA", (side, side))
    picture.paste(cutout.convert("RGBA"), ((side - cutout.width) // 2,) * 2)
    return picture
