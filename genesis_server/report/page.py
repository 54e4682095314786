# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML file that needs nothing else: pictures inside, no scripts, readable on paper."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np

from genesis_server.bake.images import encode_image
from genesis_server.report.compare import ANGLE, VIEWS, Comparison
from genesis_server.report.inspect import findings
from genesis_server.report.render import SHEET_BACKGROUND, over

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem;
  color: #1d2126; background: #fafafa }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2.2rem }
small, .how { color: #667 }
table { border-collapse: collapse; width: 100% }
td, th { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: #dde; height: .7rem; width: 10rem; border-radius: 3px }
.bar div { background: #3465a4; height: 100%; border-radius: 3px }
.good { color: #2a7f3e }
.fair { color: #a06a00 }
.bad { color: #b3261e; font-weight: 600 }
.strip { margin: .2rem 0 }
.strip img { width: 100%; height: auto; display: block }
.pair { display: flex; gap: 1rem }
.name { font-weight: 600 }
"""
_MODES = {
    "shaded": "Lit, with all textures",
    "base_color": "Base colour alone",
    "metallic": "Metallic, white is metal",
    "roughness": "Roughness, white is rough",
    "clay": "Shape alone",
    "normal": "Shading normals",
    "wire": "Faces",
}
_MEASURES = {
    "chamfer": "Chamfer distance, mean of both ways, of the diagonal",
    "hausdorff": "Largest distance between the surfaces, of the diagonal",
    "f_score": "Points that meet the other surface (mean F1)",
    "parallel": f"Points whose face is parallel to the nearest one within {ANGLE} degrees",
    "silhouette_iou": "Overlap of the silhouettes",
    "rendered_difference": "Difference of lit renders, levels of 255",
    "local_colour": "Difference of the colours around the same places, levels of 255",
    "colour_distance": "Distance of the colour distributions, wherever the colours are, levels of 255",
    "histogram_overlap": "Overlap of the colour histograms, red green blue",
    "local_metallic": "Difference of metallic around the same places",
    "local_roughness": "Difference of roughness around the same places",
    "metallic_difference": "Distance of the distributions of metallic",
    "roughness_difference": "Distance of the distributions of roughness",
    "detail": "Change of colour over a texel of A, of the spread of all colours, A and B",
    "extents": "Extents x y z, A and B",
    "areas": "Surface area, A and B",
}


def comparison_page(result: Comparison, name_a: str, name_b: str) -> str:
    """The HTML of a comparison."""
    a, b = escape(name_a), escape(name_b)
    scores = "".join(
        f"<tr><td class=name>{escape(score.name)}</td><td class=number>{score.value:.0f}</td>"
        f'<td><div class=bar><div style="width:{score.value:.0f}%"></div></div></td><td class=how>{escape(score.how)}</td></tr>'
        for score in result.scores
    )
    measures = "".join(
        f"<tr><td>{escape(words)}</td><td class=number>{escape(_in_words(result.measures[key]))}</td></tr>"
        for key, words in _MEASURES.items()
    )
    pictures = "".join(f"<h2>{words}</h2>{_strips(result, mode)}" for mode, words in _MODES.items())
    views = ", ".join(f"{view.azimuth:.0f} degrees around and {view.elevation:.0f} up" for view in VIEWS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{a} and {b}</title><style>{_STYLE}</style></head><body>
<h1>A: {a}<br>B: {b}</h1>
<p>B is held against A. Made by Genesis on the CPU; cameras at {views}.</p>
<h2>Score sheet</h2><table>{scores}</table>
<h2>Differences</h2><table>{measures}</table>
{pictures}
<h2>Textures with the borders of their charts</h2>{_layouts(result)}
<h2>Each on its own</h2><table><tr><th></th><th>A</th><th></th><th>B</th><th></th></tr>{_findings(result)}</table>
</body></html>
"""


def _layouts(result: Comparison) -> str:
    if not result.layouts:
        return ""
    return "<div class=pair>" + "".join(_image(label, one) for label, one in zip("AB", result.layouts, strict=True)) + "</div>"


def _strips(result: Comparison, mode: str) -> str:
    rows = zip(("A", "B", "difference"), result.pictures[mode], strict=True)
    return "".join(_strip(label, views) for label, views in rows)


def _strip(label: str, views: list[np.ndarray]) -> str:
    return _image(label, np.concatenate([over(view, SHEET_BACKGROUND) for view in views], 1))


def _image(label: str, picture: np.ndarray) -> str:
    data = base64.b64encode(encode_image(picture, "jpeg", True)[0]).decode()
    height, width = picture.shape[:2]
    return (
        f'<div class=strip><small>{label}</small><img width="{width}" height="{height}" alt="{label}" '
        f'src="data:image/jpeg;base64,{data}"></div>'
    )


def _findings(result: Comparison) -> str:
    rows = []
    for one, two in zip(*(findings(found) for found in result.found), strict=True):
        cells = "".join(
            f"<td>{escape(line.value)}</td><td class={line.verdict or 'how'}>{line.verdict}</td>" for line in (one, two)
        )
        rows.append(f"<tr><td class=name>{escape(one.name)}</td>{cells}</tr>")
    return "".join(rows)


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_in_words(part) if not isinstance(part, list) else f"({_in_words(part)})" for part in value)
    return f"{value:g}"
