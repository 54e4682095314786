# SPDX-License-Identifier: Apache-2.0
"""What a GLB file holds, measured, with a verdict in plain words per line (docs/spec/geometry.md 18, 21)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genesis_server.bake.material import Material
from genesis_server.bake.read_gltf import GlbModel, read_glb
from genesis_server.report.atlas import THIN_TEXELS, measure_atlas
from genesis_server.report.geometry import measure_shape

GOOD, FAIR, BAD = "good", "fair", "bad"
HEAVY_FACES = 2_000_000


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        name: what was measured, in words.
        value: in words, with units.
        verdict: "good", "fair" or "bad".
        meaning: what it means for whoever uses the model.
    """

    name: str
    value: str
    verdict: str
    meaning: str


def inspect(glb: GlbModel | str | os.PathLike[str]) -> dict[str, Any]:
    """Counts and measures of a model.

    Args:
        glb: a path, or what `read_glb` returned.

    Returns:
        Plain JSON values: vertices, faces, levels, level_faces, materials, textures (name to [width, height]), alpha_mode (of
        several materials every one), double_sided, tangents, and everything of `measure_shape` and `measure_atlas`. Edges and
        components are those of the surface with vertices of equal position taken as one.

    Raises:
        GenesisError: BAD_MESH for an unreadable file.
    """
    model = glb if isinstance(glb, GlbModel) else read_glb(glb)
    materials = (model.material, *model.others)
    return {
        "vertices": len(model.vertices),
        "faces": len(model.faces),
        "levels": model.levels,
        "level_faces": list(model.level_faces) or [len(model.faces)],
        "materials": len(materials),
        "textures": _sizes(materials),
        "alpha_mode": ", ".join(sorted({material.alpha_mode for material in materials})),
        "double_sided": all(material.double_sided for material in materials),
        "tangents": model.tangents is not None,
        **measure_shape(model.vertices, model.faces),
        **measure_atlas(model),
    }


def _sizes(materials: Sequence[Material]) -> dict[str, list[int]]:
    """Width and height of every texture, by its name; by name and number from the second material on."""
    sizes = {}
    for number, material in enumerate(materials):
        pictures = {"base_color": material.base_color, "metallic_roughness": material.metallic_roughness}
        if material.normal is not None:
            pictures["normal"] = material.normal
        ending = f"_{number + 1}" if number else ""
        sizes |= {name + ending: list(picture.shape[1::-1]) for name, picture in pictures.items()}
    return sizes


def findings(found: Mapping[str, Any]) -> list[Finding]:
    """The report of `inspect`'s measures, line by line."""
    faces = max(found["faces"], 1)
    worst = f"the worst of aspect {found['worst_aspect']:.0f}"
    charts = max(found["charts"], 1)
    thin = f"{found['thin_charts']} of them thinner than {THIN_TEXELS:.0f} texels"
    faults = found["zero_uv_faces"] + found["mirrored_faces"] + found["uv_outside"]
    faulty = f"{found['zero_uv_faces']} faces without texels, {found['mirrored_faces']} mirrored, "
    faulty += f"{found['uv_outside']} vertices outside the texture"
    crowded = "edges where sheets meet: subdivision, booleans and printing stumble over them"
    used, unused = "of the texture is on the surface", "of the texture is on the surface; the rest is wasted"
    black = "of the covered texels are pure black: colours are missing there, or the object is black"
    lines = [
        *_overview(found),
        _surface(found),
        _judge("non-manifold edges", found["non_manifold_edges"], (0, 0), "no edge has more than two faces", crowded),
        _judge("degenerate faces", found["degenerate_faces"], (0, 0), "every face has an area", "black spots in renders"),
        _judge("duplicate faces", found["duplicate_faces"], (0, 0), "no face is there twice", "they flicker"),
        _judge(
            "slivers",
            max(found["sliver_faces"] / faces, 0.02 * (found["needle_faces"] > 0)),
            (0.01, 0.05),
            f"few long thin faces, {worst}",
            f"long thin faces, {worst}: streaks in the shading",
            _share(found["sliver_faces"], faces),
        ),
        _judge(
            "components",
            found["components"],
            (20, 200),
            "in one piece" if found["components"] == 1 else "separate pieces",
            "many loose pieces: crumbs or torn parts",
        ),
        _winding(found),
        _judge("UV use", -found["uv_use"], (-0.65, -0.45), used, unused, f"{found['uv_use']:.1%}"),
        _judge(
            "UV overlap",
            found["uv_overlap"],
            (0, 1e-3),
            "no two faces share a texel",
            "of the texture belongs to two faces: paint shows up twice",
            f"{found['uv_overlap']:.3%}",
        ),
        _judge("UV faults", faults, (0, 0), "no face is without texels, mirrored or outside", faulty),
        _judge(
            "charts",
            max(charts / max(100, faces / 200), found["thin_charts"] / max(0.05 * charts, 1)),
            (1, 4),
            thin,
            f"{thin}: many seams to paint across",
            str(found["charts"]),
        ),
        _judge(
            "texel density",
            found["density_spread"],
            (0.1, 0.5),
            "texels per unit, the same in all charts",
            "texels per unit, and a chart that is off by that: parts are blurred",
            f"{found['texel_density']:.0f}, {found['density_spread']:.1%} spread",
        ),
        _judge(
            "seams",
            found["seam_error"],
            (4, 10),
            "levels of 255 between both sides at mip level 3: not seen",
            "levels of 255 between both sides at mip level 3: lines from afar",
            f"{found['seam_error']:.2f}",
        ),
        _judge(
            "black texels",
            found["black_texels"],
            (1e-4, 1e-2),
            "of the covered texels are pure black",
            black,
            f"{found['black_texels']:.3%}",
        ),
        _judge(
            "texels without data",
            found["unfilled_texels"],
            (1e-4, 1e-2),
            "of those beside the charts: filtering finds colour there",
            "of those beside the charts are black: dark lines along the seams",
            f"{found['unfilled_texels']:.3%}",
        ),
        _pbr(found),
        _alpha(found),
    ]
    return lines


def _overview(found: Mapping[str, Any]) -> list[Finding]:
    low, high = found["bounds"]
    sides = [b - a for a, b in zip(low, high, strict=True)]
    aside = max(abs(a + b) / 2 for a, b in zip(low, high, strict=True))
    where = f"from ({_numbers(low)}) to ({_numbers(high)}), z up"
    longest = max(sides)
    size = " x ".join(f"{side:.3f}" if longest >= 0.1 else f"{side:.3g}" for side in sides)
    placed = FAIR if not 0.01 <= longest <= 100 or aside > 10 * longest else GOOD
    if placed == FAIR:
        where += "; " + ("far from the origin" if aside > 10 * longest else "are these the units that were meant?")
    heavy = found["faces"] > HEAVY_FACES
    return [
        Finding(
            "mesh", f"{found['faces']} faces, {found['vertices']} vertices", FAIR if heavy else GOOD, _levels(found, heavy)
        ),
        Finding("bounds", f"{size} units", placed, where),
        _textures(found),
    ]


def _textures(found: Mapping[str, Any]) -> Finding:
    sizes = found["textures"]
    words = ", ".join(f"{name.replace('_', ' ')} {w} x {h}" for name, (w, h) in sizes.items())
    plain = [name for name, size in sizes.items() if name.startswith("base_color") and size == [1, 1]]
    many = f"of {found['materials']} materials, each looked at with its own faces" if found["materials"] > 1 else ""
    if plain:
        note = "it has no colour texture" if len(plain) == found["materials"] else "some materials have no colour texture"
        return Finding("textures", words, BAD if len(plain) == found["materials"] else FAIR, note)
    if any(side % 4 for size in sizes.values() if size != [1, 1] for side in size):
        return Finding("textures", words, FAIR, "sides that are no multiple of 4: GPUs cannot compress them")
    note = "with tangents for the normal map" if found["tangents"] else "for all that glTF's standard material shows"
    return Finding("textures", words, GOOD, many or note)


def _judge(name: str, value: float, limits: tuple[float, float], well: str, ill: str, words: str | None = None) -> Finding:
    """A line whose value is good up to the first limit and fair up to the second."""
    verdict = GOOD if value <= limits[0] else FAIR if value <= limits[1] else BAD
    return Finding(name, words if words is not None else str(value), verdict, well if verdict == GOOD else ill)


def _surface(found: Mapping[str, Any]) -> Finding:
    if found["watertight"]:
        return Finding(
            "surface", f"closed, volume {abs(found['volume']):.4f}", GOOD, "watertight: fit for printing and booleans"
        )
    verdict = FAIR if found["boundary_edges"] < 0.05 * found["faces"] else BAD
    return Finding(
        "surface", f"open, {found['boundary_edges']} border edges", verdict, "not watertight: it has holes or open sheets"
    )


def _winding(found: Mapping[str, Any]) -> Finding:
    turned, inside_out = found["turned_edges"], found["inside_out_components"]
    if turned == inside_out == 0:
        return Finding("winding", "consistent", GOOD, "all faces show their front outward")
    verdict = FAIR if turned < 0.001 * found["faces"] and inside_out == 0 else BAD
    what = f"{turned} edges between front and back, {inside_out} pieces inside out"
    return Finding("winding", what, verdict, "faces vanish where back faces are not drawn")


def _pbr(found: Mapping[str, Any]) -> Finding:
    metal, rough = found["metallic"], found["roughness"]
    words = f"metallic {_span(metal)}, roughness {_span(rough)}"
    if rough[2] == 0:
        return Finding("PBR ranges", words, BAD, "roughness is 0 everywhere: a perfect mirror")
    if metal[0] == metal[2] and 0.1 < metal[1] < 0.9:
        return Finding("PBR ranges", words, FAIR, "half metallic everywhere: real materials are one or the other")
    return Finding("PBR ranges", words, GOOD, "least, mean and most under the faces")


def _alpha(found: Mapping[str, Any]) -> Finding:
    least, mode = found["alpha"][0], found["alpha_mode"]
    words = f"{mode.lower()}, {_span(found['alpha'])}"
    if found["materials"] > 1:
        return Finding("transparency", words, GOOD, "of several materials together: not judged one by one")
    if mode == "OPAQUE" and least < 0.98:
        return Finding("transparency", words, FAIR, "the texture has transparency, which the mode ignores")
    if mode != "OPAQUE" and least >= 0.98:
        return Finding("transparency", words, FAIR, "nothing is transparent: the mode costs time in renders and shows nothing")
    return Finding("transparency", words, GOOD, "the mode fits the texture")


def _levels(found: Mapping[str, Any], heavy: bool) -> str:
    note = "more than most tools edit with ease; " if heavy else ""
    if found["levels"] == 1:
        return f"{note}one level of detail"
    return f"{note}the finest of {found['levels']} levels of detail ({', '.join(map(str, found['level_faces']))} faces)"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _span(values: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.2%})"
