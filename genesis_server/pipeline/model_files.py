# SPDX-License-Identifier: Apache-2.0
"""The files of a model, found and looked at before any of them is used (docs/spec/pipeline.md 2, 3)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genesis_server.hub.catalog import IMAGE_ENCODER
from genesis_server.hub.locate import ENCODER_VARIABLE, Source, find_checkpoint, find_folder, missing
from genesis_server.networks.registry import read_shapes
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

ENCODER_FILES = ("config.json", "model.safetensors")
_ENCODER_TYPE = "dinov3_vit"


def load_encoder(folder: Path, device: torch.device) -> nn.Module:
    """The image encoder of a folder; brings transformers along."""
    from genesis_server.networks.image_encoder import load_image_encoder

    return load_image_encoder(folder, device=device)


def load_remover(weights: Path, device: torch.device) -> nn.Module:
    """A background remover; rarely needed."""
    from genesis_server.networks.birefnet import load_birefnet

    return load_birefnet(weights, device)


def find_pair(source: Source, value: str) -> tuple[Path, Path]:
    """JSON and weights of a checkpoint.

    Raises:
        GenesisError: MODEL_MISSING.
    """
    pair = find_checkpoint(source, value)
    if pair is None:
        raise missing(source.id, f"{value}.json or {value}.safetensors", source.folder)
    return pair


def find_encoder(source: Source, name: str) -> Path:
    """The folder of the image encoder.

    Raises:
        GenesisError: MODEL_MISSING.
    """
    chosen = os.environ.get(ENCODER_VARIABLE, "") or name
    folder = find_folder(source, chosen, ENCODER_FILES)
    if folder is None:
        raise GenesisError(
            ErrorCode.MODEL_MISSING,
            f"The image encoder {chosen!r} of the model {source.id} is not here.",
            f"Run: genesis models download {source.id}, or set {ENCODER_VARIABLE} to a folder with a DINOv3.",
            Remedy.DOWNLOAD_WEIGHTS,
        )
    return folder


def check_encoder(folder: Path, width: int | None) -> int:
    """Whether an image encoder is one that the model was trained with, as far as that shows without reading weights.

    Args:
        width: values of a token that the model takes; None where it does not say.

    Returns:
        How many values its weights have.

    Raises:
        GenesisError: BAD_MODEL.
    """
    values = sum(shape.numel() for shape in read_shapes(folder / ENCODER_FILES[1]).values())
    config = read_json(folder / ENCODER_FILES[0])
    kind, found = config.get("model_type", _ENCODER_TYPE), config.get("hidden_size")
    if kind != _ENCODER_TYPE:
        problem = f"is of type {kind!r}, not {_ENCODER_TYPE!r}"
    elif width is not None and found != width:
        problem = f"gives tokens of {found} values, and this model takes {width}"
    else:
        return values
    raise GenesisError(
        ErrorCode.BAD_MODEL, f"The image encoder in {folder} {problem}.", f"The published model uses {IMAGE_ENCODER}."
    )


def read_architecture(path: Path) -> Mapping[str, Any]:
    """Constructor arguments of a checkpoint's network.

    Raises:
        GenesisError: BAD_MODEL.
    """
    args = read_json(path).get("args")
    if not isinstance(args, dict):
        raise _no_description(path, "it has no arguments")
    return args


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a model says.

    Raises:
        GenesisError: BAD_MODEL for a file that is none.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _no_description(path, f"{type(error).__name__} {error}") from error
    if not isinstance(values, dict):
        raise _no_description(path, "it is no JSON object")
    return values


def _no_description(path: Path, reason: str) -> GenesisError:
    return GenesisError(
        ErrorCode.BAD_MODEL,
        f"{path} does not describe a network: {reason}.",
        "Download the model again.",
        Remedy.DOWNLOAD_WEIGHTS,
    )
