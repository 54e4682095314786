# SPDX-License-Identifier: Apache-2.0
"""Taking the background out of a picture (docs/spec/pipeline.md 5): a segmentation network where its weights are at hand,
else plain image processing that needs none.

Without weights, a uniform border is keyed out by colour; anything else goes through GrabCut. Both are meant for single
objects on quiet backgrounds and say their name in the result, so that nobody takes them for the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETWORK_SIDE = 1024

BORDER_SHARE = 0.02  # of the shorter side: the ring whose colours decide whether the background is uniform
UNIFORM_SPREAD = 14  # grey levels; JPEG noise and soft vignettes stay below
KEY_MARGIN = 3  # grey levels beyond the border's own spread until a pixel counts as object: white cups stand on white tables
GRABCUT_SIDE = 320  # GrabCut takes 0.5 s there, 10 s at 1024, for the same outline
SPECK_SHARE = 0.02  # of the largest piece: anything smaller is dirt
HOLE_SHARE = 0.001  # of the picture: smaller background-coloured islands are highlights
HOLE_CONTRAST = 60  # grey levels around an island: blown-out highlights fade, holes have a rim


@dataclass(frozen=True)
class Removal:
    """A picture without its background: RGBA with the colours unchanged, and what removed it."""

    picture: Image.Image
    method: str


class BackgroundRemover(Protocol):
    """What `cut_out` asks for a mask."""

    def remove(self, picture: Image.Image) -> Removal:
        """RGB of any size to RGBA of the same size."""


class NetworkRemover:
    """A BiRefNet, in float32, with the published pre- and post-processing.

    Args:
        name: goes into the result.
        network: normalised picture `[1, 3, 1024, 1024]` to logits `[1, 1, 1024, 1024]`.
        device: where the network lives.
    """

    def __init__(self, name: str, network: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._name, self._network, self._device = name, network, device

    @torch.inference_mode()
    def remove(self, picture: Image.Image) -> Removal:
        """RGB to RGBA; no threshold, so the mask is soft."""
        small = picture.resize((NETWORK_SIDE, NETWORK_SIDE), Image.Resampling.BILINEAR)
        probability = self._network(normalised([small]).to(self._device)).sigmoid().cpu()
        mask = Image.fromarray((255 * probability[0, 0].float().numpy()).astype(np.uint8))
        return _masked(picture, mask.resize(picture.size, Image.Resampling.BICUBIC), self._name)


class PlainRemover:
    """Colour key for uniform backgrounds, GrabCut for the rest; deterministic."""

    def remove(self, picture: Image.Image) -> Removal:
        """RGB to RGBA; alpha 0 everywhere where no object is found."""
        pixels = np.ascontiguousarray(np.asarray(picture))
        border = _border_pixels(pixels)
        colour = np.median(border, axis=0)
        spread = float(np.percentile(_distance(border, colour), 97))
        if spread <= UNIFORM_SPREAD:
            return _masked(picture, Image.fromarray(_key_mask(pixels, colour, spread)), "flat-background key (no weights)")
        return _masked(picture, Image.fromarray(_grabcut_mask(pixels)), "GrabCut (no weights)")


def normalised(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures of one size as float32 `[B, 3, H, W]`, normalised with the ImageNet statistics."""
    values = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(constants).view(1, 3, 1, 1) for constants in (IMAGE_MEAN, IMAGE_STD))
    return (values - mean) / std


def _masked(picture: Image.Image, mask: Image.Image, method: str) -> Removal:
    result = picture.convert("RGBA")
    result.putalpha(mask)
    return Removal(result, method)


def _border_pixels(pixels: np.ndarray) -> np.ndarray:
    width = max(1, round(min(pixels.shape[:2]) * BORDER_SHARE))
    sides = (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:])
    return np.concatenate([side.reshape(-1, 3) for side in sides]).astype(np.float32)


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(pixels.astype(np.float32) - colour).max(axis=-1)


def _key_mask(pixels: np.ndarray, colour: np.ndarray, spread: float) -> np.ndarray:
    """uint8 alpha: everything but the background-coloured regions that touch the border or are holes in the object."""
    distance = _distance(pixels, colour)
    background = (distance <= spread + KEY_MARGIN).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    outside = np.zeros(count, bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[edge] = True
    outside[0] = False  # label 0 is the object
    for label in range(1, count):
        if not outside[label] and stats[label, cv2.CC_STAT_AREA] >= HOLE_SHARE * background.size:
            outside[label] = _rim_contrast(labels, stats[label], label, distance) >= HOLE_CONTRAST
    return _feathered(_without_specks(~outside[labels]))


def _rim_contrast(labels: np.ndarray, stats: np.ndarray, label: int, distance: np.ndarray) -> float:
    """Mean distance from the background's colour in a rim of three pixels around a region."""
    x, y, width, height = (int(value) for value in stats[:4])
    window = np.s_[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3]
    inside = (labels[window] == label).astype(np.uint8)
    rim = (cv2.dilate(inside, np.ones((7, 7), np.uint8)) > 0) & (inside == 0)
    return float(distance[window][rim].mean())


def _grabcut_mask(pixels: np.ndarray) -> np.ndarray:
    """uint8 alpha from GrabCut on a small copy, its outline pulled to the edges of the full picture."""
    height, width = pixels.shape[:2]
    scale = min(1.0, GRABCUT_SIDE / max(height, width))
    small = cv2.resize(pixels, (max(8, round(width * scale)), max(8, round(height * scale))), interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    inset_x, inset_y = max(1, columns // 25), max(1, rows // 25)
    labels = np.zeros((rows, columns), np.uint8)
    cv2.setRNGSeed(0)  # GrabCut's colour clusters start at random
    box = (inset_x, inset_y, columns - 2 * inset_x, rows - 2 * inset_y)
    cv2.grabCut(small, labels, box, np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_RECT)
    found = _without_specks((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
    coarse = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    alpha = _guided_filter(grey, coarse, radius=max(2, round(2 / scale)))
    return (np.clip((alpha - 0.2) / 0.6, 0, 1) * 255).astype(np.uint8)


def _guided_filter(guide: np.ndarray, mask: np.ndarray, radius: int, epsilon: float = 1e-3) -> np.ndarray:
    """Local linear fit of `mask` to `guide`, q = a I + b per window: the outline follows the picture's edges."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (2 * radius + 1, 2 * radius + 1))

    guide_mean, mask_mean = mean(guide), mean(mask)
    slope = (mean(guide * mask) - guide_mean * mask_mean) / (mean(guide * guide) - guide_mean**2 + epsilon)
    return mean(slope) * guide + mean(mask_mean - slope * guide_mean)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The pieces of a boolean mask that are not tiny beside the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= max(SPECK_SHARE * areas[1:].max(), 1)
    keep[0] = False
    return keep[labels]


def _feathered(mask: np.ndarray) -> np.ndarray:
    """One soft pixel inside the outline, nothing outside, where the background's colour would shine through."""
    solid = mask.astype(np.float32)
    return (solid * cv2.GaussianBlur(solid, (3, 3), 0.8) * 255).astype(np.uint8)
