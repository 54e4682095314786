# SPDX-License-Identifier: Apache-2.0
"""Ray casting of a textured mesh: what a camera sees of it, lit by a small studio. One source for CPU and CUDA.

Shading of a surface point with base colour b (linear), metallic m, roughness r, normal n, view v: for every light l with
half vector h, `(kd b / pi + D G F) (n.l) L`, D = GGX with `a = r^2`, G = Smith's height-correlated visibility, F = Schlick with
`F0 = mix(0.04, b, m)`, `kd = (1 - m)(1 - F)`; plus ambient light from a sky gradient, its mirror part seen at the reflected
direction, both dimmed by the share of short rays around n that escape. The result goes through a filmic curve to sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import warp as wp
from torch import Tensor

wp.config.log_level = wp.LOG_ERROR
wp.set_module_options({"enable_backward": False})

SHADED, BASE_COLOR, NORMAL, CLAY, WIRE, METALLIC, ROUGHNESS = range(7)
OPAQUE, MASK, BLEND = range(3)

_LAYERS = 12  # surfaces looked through at most before a ray counts as stopped
_OCCLUSION_RAYS = 2  # per camera ray, so eight per pixel: grain is just visible in deep folds
_OCCLUSION_REACH = 0.18  # model units: contact shadows, not caves
_BIAS = 1.0e-3  # secondary rays start this far off the surface
_PI = wp.constant(3.14159265)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in model space (z up).

    Attributes:
        eye: position.
        right, up, forward: orthonormal axes; `forward` looks at the object.
        tangent: tangent of half the field of view, the same across and down.
    """

    eye: tuple[float, float, float]
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    forward: tuple[float, float, float]
    tangent: float


@wp.func
def _linear(c: float) -> float:
    if c <= 0.04045:
        return c / 12.92
    return wp.pow((c + 0.055) / 1.055, 2.4)


@wp.func
def _encoded(c: float) -> float:
    if c <= 0.0031308:
        return 12.92 * wp.max(c, 0.0)
    return 1.055 * wp.pow(c, 1.0 / 2.4) - 0.055


@wp.func
def _texel(texture: wp.array2d(dtype=wp.vec4ub), row: int, col: int) -> wp.vec4:
    t = texture[wp.clamp(row, 0, texture.shape[0] - 1), wp.clamp(col, 0, texture.shape[1] - 1)]
    return wp.vec4(float(t[0]), float(t[1]), float(t[2]), float(t[3])) / 255.0


@wp.func
def _sample(texture: wp.array2d(dtype=wp.vec4ub), uv: wp.vec2) -> wp.vec4:
    """Bilinear, clamped; stored values are filtered as they are."""
    x = uv[0] * float(texture.shape[1]) - 0.5
    y = uv[1] * float(texture.shape[0]) - 0.5
    col = int(wp.floor(x))
    row = int(wp.floor(y))
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    above = (1.0 - fx) * _texel(texture, row, col) + fx * _texel(texture, row, col + 1)
    below = (1.0 - fx) * _texel(texture, row + 1, col) + fx * _texel(texture, row + 1, col + 1)
    return (1.0 - fy) * above + fy * below


@wp.func
def _placed(uv: wp.vec2, place: wp.vec4) -> wp.vec2:
    """Where texture coordinates lie in the joined picture; outside of 0..1 a texture repeats."""
    u = uv[0]
    v = uv[1]
    if u < 0.0 or u > 1.0:
        u -= wp.floor(u)
    if v < 0.0 or v > 1.0:
        v -= wp.floor(v)
    return wp.vec2(place[0] + u * place[2], place[1] + v * place[3])


@wp.func
def _sky(d: wp.vec3) -> wp.vec3:
    """Ambient light from direction d: a soft grey room, brighter above, with a warm floor."""
    t = 0.5 + 0.5 * d[2]
    return wp.vec3(0.34, 0.32, 0.30) * (1.0 - t) + wp.vec3(0.92, 0.96, 1.02) * t


@wp.func
def _lobe(n: wp.vec3, v: wp.vec3, to_light: wp.vec3, base: wp.vec3, metallic: float, roughness: float) -> wp.vec3:
    """Reflected radiance for a light of unit irradiance, times pi."""
    nl = wp.dot(n, to_light)
    nv = wp.max(wp.dot(n, v), 1.0e-3)
    if nl <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    h = wp.normalize(to_light + v)
    nh = wp.max(wp.dot(n, h), 0.0)
    a = wp.max(roughness * roughness, 2.0e-3)
    a2 = a * a
    d = nh * nh * (a2 - 1.0) + 1.0
    spread = a2 / (d * d)
    visible = 0.5 / (nl * wp.sqrt(nv * nv * (1.0 - a2) + a2) + nv * wp.sqrt(nl * nl * (1.0 - a2) + a2))
    f0 = wp.vec3(0.04, 0.04, 0.04) * (1.0 - metallic) + base * metallic
    grazing = wp.pow(1.0 - wp.max(wp.dot(v, h), 0.0), 5.0)
    fresnel = f0 + (wp.vec3(1.0, 1.0, 1.0) - f0) * grazing
    diffuse = wp.cw_mul(wp.vec3(1.0, 1.0, 1.0) - fresnel, base) * (1.0 - metallic)
    return (diffuse + fresnel * wp.min(spread * visible, 40.0)) * nl


@wp.func
def _any_hit(mesh: wp.uint64, origin: wp.vec3, direction: wp.vec3, reach: float) -> bool:
    return wp.mesh_query_ray_anyhit(mesh, origin, direction, reach)


@wp.func
def _openness(mesh: wp.uint64, p: wp.vec3, n: wp.vec3, turn: float) -> float:
    """Share of cosine-distributed short rays that escape; the spiral is turned from pixel to pixel."""
    helper = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(n[0]) > 0.7:
        helper = wp.vec3(0.0, 1.0, 0.0)
    t = wp.normalize(wp.cross(helper, n))
    b = wp.cross(n, t)
    free = float(0.0)
    for i in range(_OCCLUSION_RAYS):
        height = (float(i) + 0.5) / float(_OCCLUSION_RAYS)
        angle = 2.399963 * float(i) + turn
        radius = wp.sqrt(height)
        d = radius * wp.cos(angle) * t + radius * wp.sin(angle) * b + wp.sqrt(1.0 - height) * n
        if not _any_hit(mesh, p + n * _BIAS, d, _OCCLUSION_REACH):
            free += 1.0
    return free / float(_OCCLUSION_RAYS)


@wp.func
def _studio(
    mesh: wp.uint64,
    p: wp.vec3,
    n: wp.vec3,
    v: wp.vec3,
    base: wp.vec3,
    metallic: float,
    roughness: float,
    turn: float,
    key: wp.vec3,
    fill: wp.vec3,
    rim: wp.vec3,
) -> wp.vec3:
    shadow = float(1.0)
    if wp.dot(n, key) > 0.0 and _any_hit(mesh, p + n * _BIAS, key, 4.0):
        shadow = 0.0
    light = _lobe(n, v, key, base, metallic, roughness) * (1.35 * shadow)
    light += wp.cw_mul(_lobe(n, v, fill, base, metallic, roughness), wp.vec3(0.24, 0.27, 0.32))
    light += _lobe(n, v, rim, base, metallic, roughness) * 0.6
    f0 = wp.vec3(0.04, 0.04, 0.04) * (1.0 - metallic) + base * metallic
    grazing = wp.pow(1.0 - wp.max(wp.dot(n, v), 0.0), 5.0) * (1.0 - roughness) * (1.0 - roughness)
    mirror = f0 + (wp.vec3(1.0, 1.0, 1.0) - f0) * grazing
    reflected = 2.0 * wp.dot(n, v) * n - v
    ambient = wp.cw_mul(base, _sky(n)) * ((1.0 - metallic) * 0.40) + wp.cw_mul(mirror, _sky(reflected)) * 0.75
    return light + ambient * _openness(mesh, p, n, turn)


@wp.func
def _curve(c: float) -> float:
    """Linear light to display: straight up to middle tones, a soft shoulder above."""
    x = wp.max(c, 0.0)
    if x > 0.6:
        x = 0.6 + 0.4 * (1.0 - wp.exp(-(x - 0.6) / 0.4))
    return _encoded(x)


@wp.kernel
def _trace(
    mesh: wp.uint64,
    faces: wp.array(dtype=wp.vec3i),
    normals: wp.array(dtype=wp.vec3),
    uvs: wp.array(dtype=wp.vec2),
    tangents: wp.array(dtype=wp.vec4),
    texture: wp.array(dtype=int),
    places: wp.array(dtype=wp.vec4),
    base_color: wp.array2d(dtype=wp.vec4ub),
    surface: wp.array2d(dtype=wp.vec4ub),
    bumps: wp.array2d(dtype=wp.vec4ub),
    mode: int,
    alpha_mode: int,
    samples: int,
    eye: wp.vec3,
    right: wp.vec3,
    up: wp.vec3,
    forward: wp.vec3,
    tangent: float,
    key: wp.vec3,
    fill: wp.vec3,
    rim: wp.vec3,
    picture: wp.array2d(dtype=wp.vec4),
):
    row, col = wp.tid()
    size = float(picture.shape[0])
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    for sub in range(samples * samples):
        px = (float(col) + (float(sub % samples) + 0.5) / float(samples)) / size
        py = (float(row) + (float(sub // samples) + 0.5) / float(samples)) / size
        d = wp.normalize(forward + ((2.0 * px - 1.0) * right + (1.0 - 2.0 * py) * up) * tangent)
        turn = 6.2831853 * wp.randf(wp.rand_init(row * 4096 + col, sub))
        origin = eye
        through = float(1.0)
        seen = wp.vec3(0.0, 0.0, 0.0)
        for _layer in range(_LAYERS):
            hit = wp.mesh_query_ray(mesh, origin, d, 100.0)
            if not hit.result or through < 0.01:
                break
            p = origin + d * hit.t
            w = wp.vec3(hit.u, hit.v, 1.0 - hit.u - hit.v)
            f = faces[hit.face]
            uv = w[0] * uvs[f[0]] + w[1] * uvs[f[1]] + w[2] * uvs[f[2]]
            uv = _placed(uv, places[texture[hit.face]])
            stored = _sample(base_color, uv)
            alpha = float(1.0)
            if alpha_mode == BLEND:
                alpha = stored[3]
            if alpha_mode == MASK and stored[3] < 0.5:
                alpha = 0.0
            if alpha > 0.0:
                flat = wp.normalize(hit.normal)
                n = w[0] * normals[f[0]] + w[1] * normals[f[1]] + w[2] * normals[f[2]]
                if wp.length(n) < 1.0e-6:
                    n = flat
                if tangents.shape[0] > 1 and mode != CLAY and mode != WIRE:
                    t4 = w[0] * tangents[f[0]] + w[1] * tangents[f[1]] + w[2] * tangents[f[2]]
                    t = wp.vec3(t4[0], t4[1], t4[2])
                    bump = _sample(bumps, uv) * 2.0 - wp.vec4(1.0, 1.0, 1.0, 1.0)
                    n = bump[0] * t + bump[1] * wp.sign(t4[3]) * wp.cross(n, t) + bump[2] * n
                n = wp.normalize(n)
                if wp.dot(flat, d) > 0.0:
                    n = -n
                    flat = -flat
                if wp.dot(n, d) > 0.0:
                    n = wp.normalize(n - d * (wp.dot(n, d) * 1.02))
                base = wp.vec3(stored[0], stored[1], stored[2])
                colour = base
                orm = _sample(surface, uv)
                if mode == NORMAL:
                    toward = wp.vec3(wp.dot(n, right), wp.dot(n, up), -wp.dot(n, forward))
                    colour = toward * 0.5 + wp.vec3(0.5, 0.5, 0.5)
                elif mode == METALLIC:
                    colour = wp.vec3(orm[2], orm[2], orm[2])
                elif mode == ROUGHNESS:
                    colour = wp.vec3(orm[1], orm[1], orm[1])
                elif mode != BASE_COLOR:
                    linear = wp.vec3(_linear(base[0]), _linear(base[1]), _linear(base[2]))
                    metallic = orm[2]
                    roughness = orm[1]
                    if mode == CLAY or mode == WIRE:
                        linear = wp.vec3(0.42, 0.42, 0.42)
                        metallic = 0.0
                        roughness = 0.7
                    if mode == WIRE:
                        n = flat
                        a = wp.mesh_get_point(mesh, 3 * hit.face)
                        b = wp.mesh_get_point(mesh, 3 * hit.face + 1)
                        c = wp.mesh_get_point(mesh, 3 * hit.face + 2)
                        doubled = wp.length(wp.cross(b - a, c - a))
                        near = wp.min(
                            wp.min(w[0] * doubled / wp.length(c - b), w[1] * doubled / wp.length(a - c)),
                            w[2] * doubled / wp.length(b - a),
                        )
                        if near < 0.9 * tangent * wp.length(p - eye) / size:
                            linear = wp.vec3(0.05, 0.07, 0.10)
                    light = _studio(mesh, p, n, -d, linear, metallic, roughness, turn, key, fill, rim)
                    colour = wp.vec3(_curve(light[0]), _curve(light[1]), _curve(light[2]))
                seen += colour * (through * alpha)
                through *= 1.0 - alpha
            origin = p + d * (1.0e-5 + 1.0e-5 * hit.t)
        total += wp.vec4(seen[0], seen[1], seen[2], 1.0 - through)
    picture[row, col] = total / float(samples * samples)


class Scene:
    """A textured mesh ready to be looked at from many sides.

    Args:
        vertices: float32 [V, 3] in model space.
        faces: int32 [F, 3], at least one.
        normals: float32 [V, 3]; zeros where the face's own normal is to be used.
        uvs: float32 [V, 2], bake space.
        base_color: uint8 [H, W, 4], sRGB encoded and alpha.
        surface: uint8 [H, W, 4], roughness in channel 1, metallic in channel 2.
        alpha_mode: OPAQUE, MASK or BLEND.
        tangents: float32 [V, 4] with the bitangent's sign, or [1, 4] where no normal map is to be used.
        bumps: uint8 [H, W, 4], the normal map.
        texture: int32 [F], which of the textures that share the pictures each face shows.
        places: float32 [T, 4], corner and size (u, v, width, height) of each of them in the pictures, all in 0..1.
    """

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        normals: Tensor,
        uvs: Tensor,
        base_color: Tensor,
        surface: Tensor,
        alpha_mode: int,
        tangents: Tensor,
        bumps: Tensor,
        texture: Tensor,
        places: Tensor,
    ) -> None:
        wp.init()
        given = (vertices, faces.int(), normals, uvs, base_color, surface, tangents, bumps, texture.int(), places)
        self._tensors = [tensor.contiguous() for tensor in given]
        points, indices, normals, uvs, base_color, surface, tangents, bumps, texture, places = self._tensors
        self._device = points.device
        self._mesh = wp.Mesh(points=wp.from_torch(points, dtype=wp.vec3), indices=wp.from_torch(indices.view(-1)))
        self._inputs = [
            self._mesh.id,
            wp.from_torch(indices, dtype=wp.vec3i),
            wp.from_torch(normals, dtype=wp.vec3),
            wp.from_torch(uvs, dtype=wp.vec2),
            wp.from_torch(tangents, dtype=wp.vec4),
            wp.from_torch(texture),
            wp.from_torch(places, dtype=wp.vec4),
            wp.from_torch(base_color, dtype=wp.vec4ub),
            wp.from_torch(surface, dtype=wp.vec4ub),
            wp.from_torch(bumps, dtype=wp.vec4ub),
        ]
        self._alpha_mode = alpha_mode

    def picture(self, camera: Camera, size: int, mode: int, samples: int, lights: list[tuple[float, float, float]]) -> Tensor:
        """float32 [size, size, 4]: premultiplied display colour 0..1 and coverage; `samples` squared rays per pixel.

        `lights` are the directions towards the key, fill and rim light, unit vectors in model space.
        """
        result = torch.zeros(size, size, 4, dtype=torch.float32, device=self._device)
        view = [wp.vec3(*camera.eye), wp.vec3(*camera.right), wp.vec3(*camera.up), wp.vec3(*camera.forward), camera.tangent]
        stream = wp.stream_from_torch(self._device) if self._device.type == "cuda" else None
        with wp.ScopedStream(stream):
            wp.launch(
                _trace,
                dim=(size, size),
                inputs=[
                    *self._inputs,
                    mode,
                    self._alpha_mode,
                    samples,
                    *view,
                    *[wp.vec3(*light) for light in lights],
                    wp.from_torch(result, dtype=wp.vec4),
                ],
                device=wp.device_from_torch(self._device),
            )
        return result
