# SPDX-License-Identifier: Apache-2.0
"""Pictures of a GLB without a GPU or a display: views, thumbnails, contact sheets.

Model space is z up and the object's front looks towards -y; `front_camera` is the camera of genesis-mini's pictures
(docs/spec/mini.md 1), so that what the model saw can be compared with what it made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from genesis_server.bake.images import shallow
from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.bake.tangents import vertex_tangents
from genesis_server.protocol.errors import ErrorCode, GenesisError
from native_ext import trace
from native_ext.trace import Camera, Scene

MODES = {
    "shaded": trace.SHADED,
    "base_color": trace.BASE_COLOR,
    "normal": trace.NORMAL,
    "clay": trace.CLAY,
    "wire": trace.WIRE,
    "metallic": trace.METALLIC,
    "roughness": trace.ROUGHNESS,
}
FIELD_OF_VIEW = math.radians(30)
_FRAME_MARGIN = 1.04
SAMPLES = 2  # squared rays per pixel
_JOINED_MAX = 8192  # texels per side of the picture in which the textures of several materials stand
SHEET_BACKGROUND = (58, 60, 64)
_ALPHA_MODES = {"OPAQUE": trace.OPAQUE, "MASK": trace.MASK, "BLEND": trace.BLEND}
# towards the lights, in the camera's frame (right, up, back): key from the upper left, fill from the right, rim from behind
_LIGHTS = ((-0.55, 0.65, 0.55), (0.85, 0.1, 0.55), (0.45, 0.55, -0.75))


@dataclass(frozen=True)
class View:
    """A camera around the origin.

    Attributes:
        azimuth: degrees around z; 0 is the front (from -y), 90 looks from +x.
        elevation: degrees above the horizon.
        mode: one of `MODES`.
        distance: from the origin; None is the nearest at which the whole model is in the picture.
    """

    azimuth: float = 0.0
    elevation: float = 0.0
    mode: str = "shaded"
    distance: float | None = None


FRONT_DISTANCE = 0.5 / math.tan(FIELD_OF_VIEW / 2)  # the unit square through the origin just fills the picture
THREE_QUARTERS = View(azimuth=35, elevation=20)
SHEET_VIEWS = tuple(View(azimuth, 15) for azimuth in (0, 90, 180, 270))


def front_camera() -> Camera:
    """genesis-mini's input camera: on -y at 0.5 / tan 15 degrees, looking at the origin, 30 degrees wide."""
    return camera_at(View(distance=FRONT_DISTANCE), np.zeros((1, 3)))


def camera_at(view: View, vertices: np.ndarray) -> Camera:
    """The camera of a view of a model with these vertices [V, 3]; always upright."""
    tangent = math.tan(FIELD_OF_VIEW / 2)
    azimuth, elevation = math.radians(view.azimuth), math.radians(view.elevation)
    back = np.array([math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation)])
    right = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    up = np.cross(back, right)
    distance = view.distance
    if distance is None:
        reach = np.maximum(np.abs(vertices @ right), np.abs(vertices @ up)) / tangent + vertices @ back
        distance = float(reach.max()) * _FRAME_MARGIN
    return Camera(tuple(back * distance), tuple(right), tuple(up), tuple(-back), tangent)


def render_views(
    model: GlbModel | str | os.PathLike[str], views: Sequence[View], size: int, device: str = "cpu"
) -> list[np.ndarray]:
    """Pictures of a model.

    Args:
        model: what `read_glb` returned, or a path for it.
        views: cameras and modes.
        size: pixels per side.
        device: "cpu" or "cuda".

    Returns:
        Per view uint8 [size, size, 4], straight alpha, transparent where nothing is.

    Raises:
        GenesisError: BAD_MESH for an unreadable file, BAD_PARAMETER for an unknown mode.
    """
    for view in views:
        if view.mode not in MODES:
            raise GenesisError(ErrorCode.BAD_PARAMETER, f"There is no mode {view.mode!r}.", f"Use one of {', '.join(MODES)}.")
    model = model if isinstance(model, GlbModel) else read_glb(model)
    scene = _scene(model, device)
    pictures = []
    for view in views:
        camera = camera_at(view, model.vertices)
        frame = np.stack([camera.right, camera.up, -np.array(camera.forward)], 1)
        lights = [tuple(frame @ (np.array(light) / np.linalg.norm(light))) for light in _LIGHTS]
        raw = scene.picture(camera, size, MODES[view.mode], SAMPLES, lights).cpu().numpy()
        straight = np.concatenate([raw[..., :3] / np.maximum(raw[..., 3:], 1e-6), raw[..., 3:]], 2)
        pictures.append((straight.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return pictures


def render_thumbnail(glb_path: str | os.PathLike[str], png_path: str | os.PathLike[str], size: int = 256) -> None:
    """Writes a square picture with transparent background, seen from the front right and a little above.

    Raises:
        GenesisError: BAD_MESH for an unreadable GLB.
        OSError: when the picture cannot be written.
    """
    write_png(png_path, render_views(glb_path, [THREE_QUARTERS], size)[0])


def contact_sheet(model: GlbModel | str | os.PathLike[str], views: Sequence[View] = SHEET_VIEWS, size: int = 512) -> np.ndarray:
    """Several views side by side on grey, uint8 [size, size * views, 3]."""
    return np.concatenate([over(picture, SHEET_BACKGROUND) for picture in render_views(model, views, size)], 1)


def over(picture: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """A picture with straight alpha on a plain colour, uint8 [H, W, 3]."""
    alpha = picture[..., 3:].astype(np.float32) / 255
    return (picture[..., :3] * alpha + np.array(background, np.float32) * (1 - alpha) + 0.5).astype(np.uint8)


def write_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes uint8 RGB or RGBA; in place, so hand in a temporary name where a crash must not matter."""
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, code))
    Path(path).write_bytes(data.tobytes())


def _scene(model: GlbModel, device: str) -> Scene:
    base, surface, bumps, places = _joined_textures((model.material, *model.others))
    tangents = np.zeros((1, 4), np.float32)
    if any(material.normal is not None for material in (model.material, *model.others)):
        tangents = model.tangents if model.tangents is not None else _tangents(model)
    number = np.zeros(len(model.faces), np.int32) if model.surface is None else model.surface
    arrays = (model.vertices, model.faces, model.normals, model.uvs, base, surface, tangents, bumps, number, places)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
    vertices, faces, normals, uvs, base, surface, tangents, bumps, number, places = tensors
    mode = _ALPHA_MODES.get(model.material.alpha_mode, trace.OPAQUE) if not model.others else trace.BLEND
    return Scene(vertices, faces, normals, uvs, base, surface, mode, tangents, bumps, number, places)


def _joined_textures(materials: Sequence[Material]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Colour, surface and bumps as uint8 [H, W, 4], and float32 [M, 4], where the textures of each material lie in them.

    Those of one material are as they are. Those of several stand in a square of equal cells, and the alpha of each means there
    what its material's mode makes of it.
    """
    if len(materials) == 1:
        return (*_pictures_of(materials[0]), np.array([[0, 0, 1, 1]], np.float32))
    rows = math.ceil(len(materials) ** 0.5)
    largest = max(max(material.base_color.shape[:2]) for material in materials)
    cell = max(4, min(largest, _JOINED_MAX // rows))
    sheets = [np.full((rows * cell, rows * cell, 4), 255, np.uint8) for _ in range(3)]
    places = []
    for number, material in enumerate(materials):
        row, col = divmod(number, rows)
        colour, surface, bumps = (np.array(_resized(picture, cell)) for picture in _pictures_of(material))
        if material.alpha_mode != "BLEND":
            colour[..., 3] = np.where(colour[..., 3] >= 128, 255, 0) if material.alpha_mode == "MASK" else 255
        if material.normal is None:
            bumps[..., :3] = (128, 128, 255)
        for sheet, picture in zip(sheets, (colour, surface, bumps), strict=True):
            sheet[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell] = picture
        inset = 0.5 / cell  # filtering stays within a cell
        places.append([(col + inset) / rows, (row + inset) / rows, (1 - 2 * inset) / rows, (1 - 2 * inset) / rows])
    return (*sheets, np.array(places, np.float32))


def _pictures_of(material: Material) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, surface and bumps, uint8 [H, W, 4]; one texel of bumps where there are none."""
    surface = np.concatenate([material.metallic_roughness, np.zeros_like(material.metallic_roughness[..., :1])], 2)
    bumps = material.normal
    if bumps is None:
        return material.base_color, surface, np.full((1, 1, 4), 255, np.uint8)
    bumps = shallow(bumps) if bumps.dtype == np.uint16 else bumps
    return material.base_color, surface, np.dstack([bumps, np.zeros_like(bumps[..., :1])])


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    shrinks = max(picture.shape[:2]) > side
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _tangents(model: GlbModel) -> np.ndarray:
    """float32 [V, 4] for a model with a normal map but without tangents, as viewers make them for unmirrored charts."""
    arrays = (model.vertices, model.normals, model.uvs, model.faces)
    tangents = vertex_tangents(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)).numpy()
    return np.pad(tangents, ((0, 0), (0, 1)), constant_values=1)
