# SPDX-License-Identifier: Apache-2.0
"""Latents as safetensors files; the only part of this room that needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genesis_server.assets.asset import damaged


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors of any device, and notes about them."""
    # written by Python, so that a full disk is an OSError as everywhere else
    path.write_bytes(save({name: value.cpu().contiguous() for name, value in tensors.items()}, dict(metadata)))


def load_tensors(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of a file, on the CPU, and its notes.

    Raises:
        GenesisError: BAD_ASSET when it is damaged or lacks one of them.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"is damaged ({error})") from error
