# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model, `pipeline.json` or `texturing_pipeline.json` (docs/spec/pipeline.md 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genesis_server.hub.catalog import TRELLIS
from genesis_server.hub.describe import SAMPLERS
from genesis_server.pipeline.conditioning import Framing
from genesis_server.pipeline.samplers import SamplerParameters
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

CONFIG_FILE, TEXTURING_CONFIG_FILE = "pipeline.json", "texturing_pipeline.json"
DEFAULT_TYPE = "1024_cascade"
_FAMILY = "Trellis2"  # with which the names of all pipelines of this kind begin


@dataclass(frozen=True)
class Normalisation:
    """Per-channel constants between a latent as the flow models see it and as the decoders do; float32 `[C]`."""

    mean: Tensor
    std: Tensor

    def apply(self, raw: Tensor) -> Tensor:
        """Raw `[T, C]` to normalised."""
        return (raw - self.mean.to(raw.device)) / self.std.to(raw.device)

    def undo(self, normalised: Tensor) -> Tensor:
        """Normalised `[T, C]` to raw."""
        return normalised * self.std.to(normalised.device) + self.mean.to(normalised.device)


@dataclass(frozen=True)
class ModelConfig:
    """What a model consists of.

    Attributes:
        models: checkpoint path of each role.
        samplers: published parameters of the stages structure, shape, texture (texture only in a texturing configuration).
        shape, texture: normalisation of the two latents.
        encoder: name or path of the DINOv3 checkpoint.
        image_size: pixels at which the encoder sees pictures, or None for the resolution of the flow model in use.
        framing: how the encoder is shown its pictures.
        remover: name of the background remover's repository; empty for none.
        low_vram: keep networks in host memory and move each to the device while it is used.
        default_type: pipeline type used when nothing else is asked for.
        structure_samples: structures sampled of each object; the one most like the others goes on, so that a small model's
            odd guess seldom does. The published one samples one.
    """

    models: Mapping[str, str]
    samplers: Mapping[str, SamplerParameters]
    shape: Normalisation
    texture: Normalisation
    encoder: str
    image_size: int | None = None
    framing: Framing = Framing()
    remover: str = ""
    low_vram: bool = True
    default_type: str = DEFAULT_TYPE
    structure_samples: int = 1

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """The configuration in a file.

        Raises:
            GenesisError: BAD_MODEL when it is damaged or not in the published schema.
        """
        try:
            values = json.loads(path.read_text("utf-8"))
            if (name := str(values.get("name", ""))) and not name.startswith(_FAMILY):
                raise GenesisError(
                    ErrorCode.BAD_MODEL,
                    f"{path} describes a {name}, a model of another kind.",
                    f"Genesis runs TRELLIS.2 and models built like it, such as {TRELLIS}.",
                )
            return cls.parse(values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GenesisError(
                ErrorCode.BAD_MODEL,
                f"{path} is not a model configuration: {type(error).__name__} {error}.",
                "Download the model again, or name the folder that holds its pipeline.json.",
                Remedy.DOWNLOAD_WEIGHTS,
            ) from error

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The configuration in plain values; anything missing or of a wrong kind raises KeyError, TypeError or ValueError."""
        args = values["args"]
        samplers = {
            stage: SamplerParameters.from_config(args[key]["name"], args[key].get("args", {}), args[key].get("params", {}))
            for stage, key in SAMPLERS.items()
            if key in args
        }
        encoder = args["image_cond_model"]
        if encoder["name"] != "DinoV3FeatureExtractor":
            raise ValueError(f"the image encoder {encoder['name']!r} is not known, only DinoV3FeatureExtractor")
        image_size = encoder["args"].get("image_size")
        return cls(
            models={str(role): str(path) for role, path in args["models"].items()},
            samplers=samplers,
            shape=_normalisation(args["shape_slat_normalization"]),
            texture=_normalisation(args["tex_slat_normalization"]),
            encoder=str(encoder["args"]["model_name"]),
            image_size=None if image_size is None else int(image_size),
            framing=_framing(encoder["args"]),
            remover=str((args.get("rembg_model") or {}).get("args", {}).get("model_name", "")),
            low_vram=bool(args.get("low_vram", True)),
            default_type=str(args.get("default_pipeline_type", DEFAULT_TYPE)),
            structure_samples=max(1, int(args.get("structure_samples", 1))),
        )


def _framing(args: Mapping[str, Any]) -> Framing:
    camera = args.get("camera")
    return Framing(float(args.get("border", 0.0)), camera and float(camera), bool(args.get("turntable", False)))


def _normalisation(values: Mapping[str, Any]) -> Normalisation:
    mean, std = (torch.tensor(values[key], dtype=torch.float32) for key in ("mean", "std"))
    if mean.ndim != 1 or mean.shape != std.shape or not bool((std > 0).all()):
        raise ValueError(f"a normalisation has {tuple(mean.shape)} means and {tuple(std.shape)} positive deviations")
    return Normalisation(mean, std)
