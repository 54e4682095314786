# SPDX-License-Identifier: Apache-2.0
"""`from_pretrained`: a whole model or one network by name, brought here first where it is not (docs/spec/pipeline.md 3)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from genesis_server.hub.download import OnProgress, download, download_checkpoint, status
from genesis_server.hub.locate import HUB_ID, find_checkpoint, open_repository
from genesis_server.networks.registry import load_checkpoint
from genesis_server.pipeline.config import CONFIG_FILE
from genesis_server.pipeline.device import choose_device
from genesis_server.pipeline.model import Model


def from_pretrained(
    name: str | Path,
    device: torch.device | str | None = None,
    config_file: str = CONFIG_FILE,
    on_progress: OnProgress | None = None,
) -> Model | nn.Module:
    """A model, whose networks are read when first used, or a single network.

    Args:
        name: of a model: `mini`, a folder in the published layout, or a Hub id `owner/name`; of a network: the path of its
            checkpoint with or without suffix, or `owner/name/path` on the Hub.
        device: default the GPU where there is one that can be used.
        config_file: of a model: `pipeline.json` or `texturing_pipeline.json`.
        on_progress: told of a download: file, bytes here, bytes of all.

    Raises:
        GenesisError: MODEL_MISSING, BAD_MODEL, and whatever stops a download.
    """
    text = str(name)
    stem = Path(text.removesuffix(".safetensors").removesuffix(".json")).expanduser()
    if not Path(f"{stem}.safetensors").is_file():
        if not _on_hub(text):
            if HUB_ID.fullmatch(text) and status((text,))[0].state in ("absent", "incomplete"):
                download(text, on_progress)
            return Model.load(text, device, config_file)
        owner = "/".join(text.split("/")[:2])
        pair = find_checkpoint(open_repository(owner), str(stem)[len(owner) + 1 :])
        stem = pair[1].with_suffix("") if pair else download_checkpoint(str(stem), on_progress)
    size = Path(f"{stem}.safetensors").stat().st_size
    return load_checkpoint(stem, choose_device(size, text) if device is None else device)


def _on_hub(text: str) -> bool:
    """Whether this can only be a network in a Hub repository: three parts or more, and no place on this machine."""
    parts = text.split("/")
    return len(parts) > 2 and all(parts) and not text.startswith((".", "~")) and not Path(parts[0]).exists()
