# SPDX-License-Identifier: Apache-2.0
"""The materials of a GLB file as pictures (docs/spec/geometry.md 1.2): factors are worked into the textures they scale."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from genesis_server.bake.images import decode_image
from genesis_server.bake.material import ALPHA_CUTOFF, Material

_TRANSFORM = "KHR_texture_transform"
_DATA = "base64,"  # ends the head of an image inside the description


def read_material(document: dict[str, Any], binary: bytes, number: int | None) -> Material:
    """A material; white and rough where the file has none. Another cutoff than ours is worked into the alpha.

    Raises:
        ValueError, KeyError, IndexError, TypeError: for a damaged file.
    """
    surface = document["materials"][number] if number is not None else {}
    pbr = surface.get("pbrMetallicRoughness", {})
    base = _texture(document, binary, pbr.get("baseColorTexture"))
    base = _tinted(base, pbr.get("baseColorFactor", [1, 1, 1, 1]))
    orm = _texture(document, binary, pbr.get("metallicRoughnessTexture"))[..., :3]
    orm = _scaled(orm, [1, pbr.get("roughnessFactor", 1), pbr.get("metallicFactor", 1)])
    mode = surface.get("alphaMode", "OPAQUE")
    cutoff = surface.get("alphaCutoff", ALPHA_CUTOFF)
    if mode == "MASK" and cutoff != ALPHA_CUTOFF:
        base = np.dstack([base[..., :3], np.where(base[..., 3] >= 255 * cutoff, 255, 0).astype(np.uint8)])
    normal = None
    if "normalTexture" in surface:
        normal = _texture(document, binary, surface["normalTexture"], deep=True)[..., :3]
    return Material(base, orm, mode, surface.get("doubleSided", False), normal)


def coordinates_of(document: dict[str, Any], number: int | None) -> tuple[int, np.ndarray]:
    """Which set of texture coordinates a material's colour uses (of its roughness where it has none), and their transform.

    Returns:
        The number of the set, and float64 [3, 3]: a point (u, v, 1) times its transpose is where the texture is read.
    """
    surface = document["materials"][number] if number is not None else {}
    pbr = surface.get("pbrMetallicRoughness", {})
    reference = pbr.get("baseColorTexture", pbr.get("metallicRoughnessTexture", surface.get("normalTexture", {})))
    moved = reference.get("extensions", {}).get(_TRANSFORM, {})
    turn = moved.get("rotation", 0.0)
    (x, y), (width, height) = moved.get("offset", (0, 0)), moved.get("scale", (1, 1))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos * width, sin * height, x], [-sin * width, cos * height, y], [0, 0, 1]])
    return moved.get("texCoord", reference.get("texCoord", 0)), matrix


def _texture(document: dict[str, Any], binary: bytes, reference: dict[str, Any] | None, deep: bool = False) -> np.ndarray:
    """uint8 [H, W, 4] of a texture; one white texel where there is none."""
    if reference is None:
        return np.full((1, 1, 4), 255, np.uint8)
    texture = document["textures"][reference["index"]]
    source = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source", texture.get("source"))
    image = document["images"][source]
    if "bufferView" in image:
        view = document["bufferViews"][image["bufferView"]]
        start = view.get("byteOffset", 0)
        return decode_image(binary[start : start + view["byteLength"]], deep)
    head, found, data = image.get("uri", "").partition(_DATA)
    if not (head.startswith("data:") and found):
        raise ValueError(f"its image {image.get('name', image.get('uri', ''))!r} lies in another file")
    return decode_image(base64.b64decode(data), deep)


def _tinted(picture: np.ndarray, factors: list[float]) -> np.ndarray:
    """sRGB encoded colour with alpha, times linear factors."""
    if all(factor == 1 for factor in factors):
        return picture
    stored = np.arange(256) / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    tables = []
    for factor in factors[:3]:
        light = (linear * factor).clip(0, 1)
        tables.append(np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))
    tables.append(stored * factors[3])
    return np.dstack([(table * 255 + 0.5).clip(0, 255).astype(np.uint8)[picture[..., c]] for c, table in enumerate(tables)])


def _scaled(picture: np.ndarray, factors: list[float]) -> np.ndarray:
    if all(factor == 1 for factor in factors):
        return picture
    return (picture * np.asarray(factors) + 0.5).clip(0, 255).astype(np.uint8)
