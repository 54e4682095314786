# SPDX-License-Identifier: Apache-2.0
"""From cutouts to the image tokens that the flow networks attend to (docs/spec/pipeline.md 6).

The tokens are the hidden states *before* DINOv3's own final norm, under a layer norm without parameters. They are caught at
that norm's input, which is the same place in transformers 4 and 5, while the layer list in between moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from genesis_server.pipeline.background import normalised
from genesis_server.protocol.errors import ErrorCode, GenesisError

NORM_EPS = 1e-5


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


class ImageEncoder(nn.Module):
    """A DINOv3 checkpoint in the Hugging Face layout, as an encoder of square pictures."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._hidden: Tensor | None = None
        backbone.norm.register_forward_pre_hook(self._catch)

    @classmethod
    def load(cls, folder: Path) -> ImageEncoder:
        """Encoder of a local folder with `config.json` and `model.safetensors`.

        Raises:
            GenesisError: BAD_MODEL when the folder holds something else, or a file of it is damaged.
        """
        from transformers import DINOv3ViTConfig, DINOv3ViTModel  # seconds to import, so only when a picture is encoded

        try:
            config = DINOv3ViTConfig.from_pretrained(folder, local_files_only=True)
            backbone, report = DINOv3ViTModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise _bad_encoder(folder, f"cannot be loaded: {error}") from error
        problems = {kind: sorted(map(str, keys)) for kind, keys in _problems(report).items() if keys}
        if problems:
            raise _bad_encoder(folder, f"does not fit its configuration: {problems}")
        return cls(backbone.eval().requires_grad_(False))

    def _catch(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._hidden = inputs[0]

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures float32 `[B, 3, S, S]`, S a multiple of 16, to tokens float32 `[B, L, D]`."""
        self.backbone(pixel_values=pictures)
        hidden, self._hidden = self._hidden, None
        return nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=NORM_EPS).float()


def encode(encoder: nn.Module, pictures: Sequence[Image.Image], size: int) -> Conditioning:
    """Tokens of every picture at `size` x `size` pixels.

    Args:
        encoder: an `ImageEncoder`, already on its device.
        pictures: the cutouts; another mode than RGB is resized in that mode first, then loses its alpha.
        size: a multiple of the encoder's patch size.
    """
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    resized = [picture.resize((size, size), Image.Resampling.LANCZOS).convert("RGB") for picture in pictures]
    with torch.inference_mode():
        # one by one: several views of one object are few, and a batch would cost memory at 1024 pixels
        views = tuple(encoder(normalised([picture]).to(device))[0] for picture in resized)
    return Conditioning(views, size)


def _problems(report: dict[str, Any]) -> dict[str, Any]:
    return {kind: report.get(kind) or () for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}


def _bad_encoder(folder: Path, what: str) -> GenesisError:
    return GenesisError(
        ErrorCode.BAD_MODEL, f"The image encoder in {folder} {what}.", "Download it again, or give a DINOv3 folder."
    )
