# SPDX-License-Identifier: Apache-2.0
"""Image tokens from a DINOv3 vision transformer (docs/spec/networks.md 7).

The network is `transformers.DINOv3ViTModel`; only its own final norm is replaced by one without affine parameters.
Versions of transformers name the list of layers differently, which is the one thing adapted here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from genesis_server.networks.attention import fastest_attention
from genesis_server.networks.half_layer import HalfLayer, paired_phases
from genesis_server.networks.norms import FINAL_EPS, plain_layer_norm
from genesis_server.networks.registry import check_names, read_weights
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy
from native_ext.fast import infers_with_kernel

IMAGE_MEAN = (0.485, 0.456, 0.406, 0.5)  # the last one of alpha, where the network has a channel for it
IMAGE_STD = (0.229, 0.224, 0.225, 0.5)


class DinoV3FeatureExtractor(nn.Module):
    """Pictures to all tokens of the last layer: class, registers, patches row by row.

    A network of four channels (`num_channels`) sees the outline itself: colours multiplied by alpha, and alpha.

    Args:
        hf_config: fields of `DINOv3ViTConfig`; weights start random.
        image_size: default side pictures are resized to.
    """

    def __init__(self, hf_config: dict[str, Any], image_size: int = 512) -> None:
        super().__init__()
        self.image_size = image_size
        self.backbone = DINOv3ViTModel(DINOv3ViTConfig(**hf_config))
        self.patch_size = self.backbone.config.patch_size
        self.channels = self.backbone.config.num_channels
        self._half_layers = nn.ModuleList()

    def forward(self, images: list[Image.Image] | Tensor, image_size: int | None = None) -> Tensor:
        """Tokens `[B, 1 + registers + (h/16)(w/16), C]`.

        Args:
            images: Pillow pictures (resized; alpha is dropped, or becomes the fourth channel), or a float tensor
                `[B, channels, h, w]` in [0, 1] (not resized).
            image_size: side pictures are resized to, if not the default.

        Raises:
            GenesisError: BAD_PARAMETER when a side is no multiple of the patch size.
        """
        weight = self.backbone.embeddings.patch_embeddings.weight
        if not isinstance(images, Tensor):
            images = torch.stack([self._pixels(picture, image_size or self.image_size) for picture in images])
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise GenesisError(
                ErrorCode.BAD_PARAMETER,
                f"The image encoder got a picture of {width} x {height} pixels.",
                f"Both sides must be multiples of {self.patch_size}.",
            )
        mean, std = (torch.tensor(v[: self.channels], device=weight.device).view(-1, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
        pixels = ((images.to(weight.device) - mean) / std).to(weight.dtype)
        h = self.backbone.embeddings(pixels)
        phases = self.backbone.rope_embeddings(pixels)
        if h.is_cuda and infers_with_kernel(h):
            tokens = self.advance_in_half(h, phases)
            if bool(torch.isfinite(tokens).all()):
                return tokens
        else:
            self._half_layers = nn.ModuleList()  # whoever trains changes the weights
        for layer in _layers(self.backbone):
            h = layer(h, position_embeddings=phases)
        return plain_layer_norm(h, FINAL_EPS)

    def advance_in_half(self, h: Tensor, phases: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float16) -> Tensor:
        """All layers and the final norm on embedded pictures `[B, L, C]`, with products in half precision.

        The rounded weights are made by the first call and kept beside the exact ones, which a picture still needs whose
        products overflow.
        """
        if not self._half_layers:
            with torch.inference_mode(False), torch.no_grad():
                self._half_layers.extend(HalfLayer(layer, dtype) for layer in _layers(self.backbone))
        turned, branch = paired_phases(*phases, h.shape[1]), None
        with fastest_attention(h.device):
            for layer in self._half_layers:
                h, branch = layer(h, branch, turned)
        return plain_layer_norm(h + branch.scale * branch.values, FINAL_EPS)

    def _pixels(self, picture: Image.Image, size: int) -> Tensor:
        return picture_to_tensor(picture, size) if self.channels == 3 else cutout_to_tensor(picture, size)

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Parameters under the names of the public checkpoint (`layer.N....`)."""
        return {self._public_name(name): value for name, value in self.backbone.state_dict().items()}

    def load_checkpoint_state(self, state: dict[str, Tensor], source: str) -> None:
        """Inverse of `checkpoint_state`; `source` names the file in the error about a missing or unexpected name."""
        own = {self._public_name(name): name for name in self.backbone.state_dict()}
        check_names(own.keys() - state.keys(), state.keys() - own.keys(), source)
        self.backbone.load_state_dict({own[name]: value.float() for name, value in state.items()}, assign=True)
        self._half_layers = nn.ModuleList()

    def recompute_positions(self) -> None:
        """Make the frequencies of the positions, which no checkpoint carries, where weights have been put in place."""
        self.backbone.rope_embeddings = type(self.backbone.rope_embeddings)(self.backbone.config)

    @staticmethod
    def _public_name(name: str) -> str:
        return name.removeprefix("model.")


def load_image_encoder(folder: str | Path, image_size: int = 512, device: torch.device | str = "cpu") -> DinoV3FeatureExtractor:
    """The extractor with the weights of a checkpoint folder (`config.json`, `model.safetensors`), frozen, float32.

    Raises:
        GenesisError: MODEL_MISSING or BAD_MODEL, naming the file and what is wrong with it.
    """
    config_path, weights_path = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    if not config_path.is_file():
        raise GenesisError(
            ErrorCode.MODEL_MISSING,
            f"There is no image encoder in {folder}: config.json is not there.",
            "Point to a folder with DINOv3's config.json and model.safetensors, or download it.",
            Remedy.DOWNLOAD_WEIGHTS,
        )
    config = json.loads(config_path.read_text(encoding="utf-8"))
    if config.get("model_type", "dinov3_vit") != "dinov3_vit":
        raise GenesisError(
            ErrorCode.BAD_MODEL,
            f"The image encoder in {folder} is of type {config['model_type']!r}.",
            "A DINOv3 vision transformer (dinov3_vit) is needed.",
        )
    with torch.device("meta"):  # random initial values, which the weights replace, would take four seconds
        encoder = DinoV3FeatureExtractor(config, image_size)
    encoder.load_checkpoint_state(read_weights(weights_path, device), str(weights_path))
    encoder.recompute_positions()
    return encoder.to(device).eval().requires_grad_(False)


def picture_to_tensor(picture: Image.Image, size: int) -> Tensor:
    """float32 `[3, size, size]` in [0, 1]: Lanczos resize first, then alpha is dropped (the order matters for RGBA)."""
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def cutout_to_tensor(picture: Image.Image, size: int) -> Tensor:
    """float32 `[4, size, size]` in [0, 1]: colours multiplied by alpha, and alpha (1 where the picture has none)."""
    resized = picture.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)  # Pillow filters them multiplied
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    return torch.cat([pixels[:3] * pixels[3:], pixels[3:]])


def _layers(backbone: DINOv3ViTModel) -> nn.ModuleList:
    return backbone.layer if hasattr(backbone, "layer") else backbone.model.layer
