# SPDX-License-Identifier: Apache-2.0
"""Contact sheet of pictures with their albedo and normals: the world must be looked at, not only measured."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from .render import Pictures


def save_sheet(pictures: Pictures, path: Path | str, columns: int = 8) -> None:
    """Write a PNG with, per object, picture, albedo and normals stacked; `columns` objects per row."""
    shown = (pictures.depth > 0)[..., None]
    maps = (pictures.albedo, (0.5 + 0.5 * pictures.normal) * shown)
    layers = [pictures.rgb] + [(255.0 * layer).round().to(torch.uint8) for layer in maps]
    tiles = torch.cat(layers, dim=1).cpu()
    missing = -len(tiles) % columns
    tiles = torch.cat([tiles, tiles.new_zeros((missing, *tiles.shape[1:]))])
    rows, (height, width) = len(tiles) // columns, tiles.shape[1:3]
    sheet = tiles.view(rows, columns, height, width, 3).transpose(1, 2).reshape(rows * height, columns * width, 3)
    Image.fromarray(sheet.numpy()).save(path)
