# SPDX-License-Identifier: Apache-2.0
"""What an object's surface looks like at a point: base colour, metallic, roughness (docs/spec/mini.md 1).

Base colours are sRGB encoded, as in O-Voxel and glTF (docs/spec/geometry.md 1.5). Patterns live in object
coordinates (the object spans about 2 units) and are coarse enough to be resolved by 128 voxels.
"""

import warp as wp

MATERIALS = 5
WIDTH = 16

SLOT_COLOUR = wp.constant(0)  # three floats, sRGB encoded
SLOT_SECOND = wp.constant(3)  # the pattern's other colour
SLOT_PATTERN = wp.constant(6)
SLOT_FREQUENCY = wp.constant(7)  # periods per object unit
SLOT_DIRECTION = wp.constant(8)  # unit vector of stripes and gradients
SLOT_PHASE = wp.constant(11)  # in periods
SLOT_METALLIC = wp.constant(12)
SLOT_ROUGHNESS = wp.constant(13)

SOLID = wp.constant(0)
STRIPES = wp.constant(1)
CHECKS = wp.constant(2)
GRADIENT = wp.constant(3)
NOISE = wp.constant(4)
SPOTS = wp.constant(5)


@wp.func
def fraction(x: float) -> float:
    return x - wp.floor(x)


@wp.func
def mixture(materials: wp.array3d(dtype=float), b: int, m: int, p: wp.vec3) -> float:
    """Share of the second colour, 0..1, at object point p."""
    pattern = int(materials[b, m, SLOT_PATTERN])
    if pattern == SOLID:
        return 0.0
    f = materials[b, m, SLOT_FREQUENCY]
    phase = materials[b, m, SLOT_PHASE]
    d = SLOT_DIRECTION
    along = f * (materials[b, m, d] * p[0] + materials[b, m, d + 1] * p[1] + materials[b, m, d + 2] * p[2]) + phase
    if pattern == STRIPES:
        return wp.where(fraction(along) < 0.5, 1.0, 0.0)
    if pattern == GRADIENT:
        t = wp.clamp(0.5 + 0.6 * along / f, 0.0, 1.0)
        return t * t * (3.0 - 2.0 * t)
    x = f * p[0] + phase
    y = f * p[1] + phase
    z = f * p[2] + phase
    if pattern == CHECKS:
        return wp.where(fraction(0.5 * (wp.floor(x) + wp.floor(y) + wp.floor(z))) < 0.25, 1.0, 0.0)
    if pattern == NOISE:
        return wp.clamp(0.5 + 1.2 * wp.noise(wp.uint32(7), wp.vec3(x, y, z)), 0.0, 1.0)
    x = fraction(x) - 0.5
    y = fraction(y) - 0.5
    z = fraction(z) - 0.5
    return wp.where(x * x + y * y + z * z < 0.11, 1.0, 0.0)


@wp.func
def base_colour(materials: wp.array3d(dtype=float), b: int, m: int, p: wp.vec3) -> wp.vec3:
    """sRGB-encoded base colour of material m at object point p."""
    t = mixture(materials, b, m, p)
    return (1.0 - t) * wp.vec3(materials[b, m, 0], materials[b, m, 1], materials[b, m, 2]) + t * wp.vec3(
        materials[b, m, 3], materials[b, m, 4], materials[b, m, 5]
    )
