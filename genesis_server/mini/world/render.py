# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: UP018 - float(0.0) tells Warp that a loop may change the variable
"""Pictures of objects and exact maps of what they show (docs/spec/mini.md 1).

Per pixel one cone march with the pixel's footprint finds where its samples start; every sample marches on alone, takes
its own normal and material; shadow and ambient occlusion vary slowly and are taken once per pixel. Colours are
multiplied in linear light, encoded to sRGB, and averaged with black for misses: premultiplied on black, which is
what the pipeline makes of a cut-out picture. Exposure: fully lit white is about 0.9 encoded.
"""

from dataclasses import dataclass

import torch
import warp as wp

from .frame import CAMERA, TANGENT
from .launch import OPTIONS, launch
from .material import SLOT_METALLIC, SLOT_ROUGHNESS, base_colour
from .sdf import distance, field, gradient, to_object

wp.set_module_options(OPTIONS)

LIGHT_WIDTH = 8  # direction to the key light (3), key, sky, ground, penumbra sharpness, warmth
HIT = wp.constant(3.0e-4)  # model units; 0.07 pixels of 224
WALL = wp.constant(0.52)  # half size of the box that rays are clipped to


@dataclass(frozen=True)
class Pictures:
    """What the camera sees of B objects; every map is at the picture's size.

    Attributes:
        rgb: uint8 [B, H, W, 3], sRGB, premultiplied on black.
        alpha: uint8 [B, H, W], coverage.
        albedo: float32 [B, H, W, 3], sRGB-encoded base colour of the nearest sample, not blended; 0 where alpha is 0.
        metallic_roughness: float32 [B, H, W, 2], 0..1, likewise.
        normal: float32 [B, H, W, 3], unit, model space, likewise.
        depth: float32 [B, H, W], distance from the camera plane (y + 0.5 / tan 15), 0 where alpha is 0.
    """

    rgb: torch.Tensor
    alpha: torch.Tensor
    albedo: torch.Tensor
    metallic_roughness: torch.Tensor
    normal: torch.Tensor
    depth: torch.Tensor


@wp.func
def enter(ray: wp.vec3) -> wp.vec2:
    """(first, last) parameter of the camera ray inside the box, by slabs; empty if first > last."""
    first = (CAMERA - WALL) / ray[1]
    last = (CAMERA + WALL) / ray[1]
    last = wp.min(last, WALL / wp.max(wp.abs(ray[0]), 1.0e-6))
    last = wp.min(last, WALL / wp.max(wp.abs(ray[2]), 1.0e-6))
    return wp.vec2(first, last)


@wp.func
def march(
    primitives: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    b: int,
    ray: wp.vec3,
    start: float,
    last: float,
    cone: float,
) -> float:
    """Parameter where the distance falls below max(HIT, cone t), or -1 beyond `last`."""
    t = start
    eye = wp.vec3(0.0, -CAMERA, 0.0)
    for _step in range(160):
        d = distance(primitives, frame, b, eye + t * ray)
        if d < wp.max(HIT, cone * t):
            return t
        t += d
        if t > last:
            return -1.0
    return -1.0


@wp.func
def shadow(
    primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), b: int, p: wp.vec3, to_light: wp.vec3, sharp: float
) -> float:
    """Soft shadow: smallest sharp * distance / t along the ray to the light, smoothed."""
    lit = float(1.0)
    t = float(0.015)
    for _step in range(24):
        d = distance(primitives, frame, b, p + t * to_light)
        lit = wp.min(lit, sharp * d / t)
        if lit < 0.01 or t > 0.9:
            break
        t += wp.clamp(d, 0.012, 0.12)
    lit = wp.clamp(lit, 0.0, 1.0)
    return lit * lit * (3.0 - 2.0 * lit)


@wp.func
def occlusion(
    primitives: wp.array3d(dtype=float), frame: wp.array2d(dtype=float), b: int, p: wp.vec3, normal: wp.vec3
) -> float:
    """Ambient light that gets in: 1 - sum of the missing distance at three heights."""
    missing = float(0.0)
    for k in range(3):
        height = 0.02 + 0.045 * float(k)
        d = distance(primitives, frame, b, p + height * normal)
        missing += wp.max(height - d, 0.0) * wp.pow(0.6, float(k))
    return wp.clamp(1.0 - 4.5 * missing, 0.25, 1.0)


@wp.func
def decode(x: float) -> float:
    """sRGB to linear."""
    if x <= 0.04045:
        return x / 12.92
    return wp.pow((x + 0.055) / 1.055, 2.4)


@wp.func
def encode(x: float) -> float:
    """Linear to sRGB, clipped to 0..1."""
    if x <= 0.0031308:
        return 12.92 * wp.max(x, 0.0)
    return wp.min(1.055 * wp.pow(x, 1.0 / 2.4) - 0.055, 1.0)


@wp.func
def highlight(normal: wp.vec3, view: wp.vec3, to_light: wp.vec3, roughness: float) -> float:
    """GGX lobe D G / 4 without Fresnel, Schlick-Smith visibility."""
    half = wp.normalize(view + to_light)
    a = wp.max(roughness * roughness, 0.02)
    nh = wp.max(wp.dot(normal, half), 0.0)
    nv = wp.max(wp.dot(normal, view), 0.05)
    nl = wp.max(wp.dot(normal, to_light), 0.05)
    q = nh * nh * (a * a - 1.0) + 1.0
    k = 0.5 * a
    return a * a / (wp.PI * q * q * 4.0 * (nv * (1.0 - k) + k) * (nl * (1.0 - k) + k))


@wp.func
def shade(
    light: wp.array2d(dtype=float),
    b: int,
    colour: wp.vec3,
    metallic: float,
    roughness: float,
    normal: wp.vec3,
    view: wp.vec3,
    lit: float,
    open_sky: float,
) -> wp.vec3:
    """Encoded radiance: Lambert and GGX under the key light, hemispheric light, sky gradient mirrored by metals."""
    to_light = wp.vec3(light[b, 0], light[b, 1], light[b, 2])
    linear = wp.vec3(decode(colour[0]), decode(colour[1]), decode(colour[2]))
    facing = wp.max(wp.dot(normal, to_light), 0.0) * lit
    key = light[b, 3]
    hemisphere = open_sky * (light[b, 5] + (light[b, 4] - light[b, 5]) * (0.5 + 0.5 * normal[2]))
    mirrored = 2.0 * wp.dot(normal, view) * normal - view
    rise = wp.clamp(0.5 + (mirrored[2] + 0.1) / (0.4 + 1.6 * roughness), 0.0, 1.0)
    sky = open_sky * (0.22 + 0.75 * rise * rise * (3.0 - 2.0 * rise))
    glint = wp.min(highlight(normal, view, to_light, roughness), 3.0) * facing * key
    grazing = wp.pow(1.0 - wp.clamp(wp.dot(normal, view), 0.0, 1.0), 5.0)
    fresnel = 0.04 + 0.5 * (1.0 - roughness) * grazing
    result = wp.vec3(0.0, 0.0, 0.0)
    for c in range(3):
        warm = 1.0 + light[b, 7] * float(1 - c)
        diffuse = linear[c] * (key * warm * facing + hemisphere)
        plain = diffuse * (1.0 - fresnel) + fresnel * (sky + glint)
        metal = linear[c] * (0.9 * sky + 0.25 * key * warm * facing + glint)
        result[c] = encode((1.0 - metallic) * plain + metallic * metal)
    return result


@wp.kernel
def picture_kernel(
    primitives: wp.array3d(dtype=float),
    materials: wp.array3d(dtype=float),
    frame: wp.array2d(dtype=float),
    light: wp.array2d(dtype=float),
    samples: int,
    rgb: wp.array4d(dtype=wp.uint8),
    alpha: wp.array3d(dtype=wp.uint8),
    albedo: wp.array4d(dtype=float),
    surface: wp.array4d(dtype=float),
    normals: wp.array4d(dtype=float),
    depth: wp.array3d(dtype=float),
):
    """One pixel: cone march, then samples x samples rays; the maps describe the nearest of them."""
    b, row, column = wp.tid()
    size = float(alpha.shape[1])
    pixel = 2.0 * TANGENT / size
    centre = wp.vec3((float(column) + 0.5) * pixel - TANGENT, 1.0, TANGENT - (float(row) + 0.5) * pixel)
    length = wp.length(centre)
    span = enter(centre / length)
    start = march(primitives, frame, b, centre / length, span[0], span[1] + 0.01, 0.75 * pixel)
    if start < 0.0:
        return
    eye = wp.vec3(0.0, -CAMERA, 0.0)
    total = wp.vec3(0.0, 0.0, 0.0)
    hits = int(0)
    nearest = float(1.0e3)
    lit = float(1.0)
    open_sky = float(1.0)
    for s in range(samples * samples):
        u = (float(s % samples) + 0.5) / float(samples) - 0.5
        v = (float(s / samples) + 0.5) / float(samples) - 0.5
        slope = centre + wp.vec3(u * pixel, 0.0, -v * pixel)
        ray = wp.normalize(slope)
        t = march(primitives, frame, b, ray, start - pixel, span[1] + 0.01, 0.0)
        if t > 0.0:
            p = eye + t * ray
            q = to_object(frame, b, p)
            m = int(field(primitives, b, q)[1])
            n = gradient(primitives, frame, b, p, 8.0e-4)
            colour = base_colour(materials, b, m, q)
            metallic = materials[b, m, SLOT_METALLIC]
            roughness = materials[b, m, SLOT_ROUGHNESS]
            if hits == 0:
                lit = shadow(primitives, frame, b, p + 0.003 * n, wp.vec3(light[b, 0], light[b, 1], light[b, 2]), light[b, 6])
                open_sky = occlusion(primitives, frame, b, p, n)
            total += shade(light, b, colour, metallic, roughness, n, -ray, lit, open_sky)
            hits += 1
            if p[1] + CAMERA < nearest:
                nearest = p[1] + CAMERA
                depth[b, row, column] = nearest
                surface[b, row, column, 0] = metallic
                surface[b, row, column, 1] = roughness
                for c in range(3):
                    albedo[b, row, column, c] = colour[c]
                    normals[b, row, column, c] = n[c]
    share = 255.0 / float(samples * samples)
    alpha[b, row, column] = wp.uint8(share * float(hits) + 0.5)
    for c in range(3):
        rgb[b, row, column, c] = wp.uint8(share * total[c] + 0.5)


def take_pictures(
    primitives: torch.Tensor, materials: torch.Tensor, frame: torch.Tensor, light: torch.Tensor, size: int, supersample: int
) -> Pictures:
    """Square pictures of `size` pixels with supersample x supersample rays per pixel."""
    shape = (len(frame), size, size)
    device = frame.device
    pictures = Pictures(
        rgb=torch.zeros((*shape, 3), dtype=torch.uint8, device=device),
        alpha=torch.zeros(shape, dtype=torch.uint8, device=device),
        albedo=torch.zeros((*shape, 3), device=device),
        metallic_roughness=torch.zeros((*shape, 2), device=device),
        normal=torch.zeros((*shape, 3), device=device),
        depth=torch.zeros(shape, device=device),
    )
    outputs = (
        pictures.rgb,
        pictures.alpha,
        pictures.albedo,
        pictures.metallic_roughness,
        pictures.normal,
        pictures.depth,
    )
    launch(picture_kernel, shape, (primitives, materials, frame, light, supersample, *outputs))
    return pictures
