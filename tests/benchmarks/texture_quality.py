# SPDX-License-Identifier: Apache-2.0
"""How good baked textures are, measured from the exported GLB against closed forms.

    python -m tests.benchmarks.texture_quality --solids torus --json torus.json

Each row has its aim beside it (docs/spec/geometry.md 21). Prints a table and, with --json, the numbers with machine and commit.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genesis_server.bake.read_gltf import read_glb
from genesis_server.mesh.finish import repair
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.vxz import read_vxz, write_vxz
from genesis_server.pipeline.bake import BAKE_STAGES, bake_voxels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.report.inspect import inspect
from tests import analytic
from tests.texture_truth import SurfacePoints, angles, colour_error, dense_normals, shading_normals, true_normals

SOLIDS = {
    "sphere": analytic.sphere,
    "rounded_box": analytic.rounded_box,
    "torus": analytic.torus,
    "thin_sheet": analytic.thin_sheet,
    "noisy_blob": analytic.noisy_blob,
    "torus_knot": analytic.torus_knot,
    "nested_shells": analytic.nested_shells,
    "lattice": analytic.lattice,
    "text": analytic.text,
}
SIZE = 2048  # texels, for which the aims below are stated


def measure(name: str, resolution: int, faces: int, size: int, lods: int = 3) -> dict[str, Any]:
    """Bakes a solid, writes it, reads it back and measures every level."""
    solid = SOLIDS[name]()
    settings = GenerateSettings().with_values(
        {"bake.faces": faces, "bake.texture_size": size, "bake.normal_map": True, "bake.lods": lods}
    )
    with tempfile.TemporaryDirectory() as folder:
        write_vxz(Path(folder) / "a.vxz", analytic.voxelize(solid, resolution))
        voxels = read_vxz(Path(folder) / "a.vxz")
        progress = Progress(BAKE_STAGES, lambda event: None, lambda: False)
        progress.started("mesh")
        began, used = time.perf_counter(), time.process_time()
        baked = bake_voxels(voxels, settings.bake, progress)
        write_baked(Path(folder) / "a.glb", baked, settings.bake)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
        models = [read_glb(Path(folder) / "a.glb", level) for level in range(lods)]
    dense = repair(extract_mesh(voxels))
    found = inspect(models[0])
    result: dict[str, Any] = {"solid": name, "resolution": resolution, "texture_size": size, "seconds": round(seconds, 2)}
    result["cpu_seconds"] = round(cpu_seconds, 2)
    for level, model in enumerate(models):
        points = SurfacePoints(model)
        error = colour_error(model, solid, points)
        wanted = dense_normals(dense, points)
        plain, mapped = (angles(shading_normals(model, points, use), wanted) for use in (False, True))
        truth = true_normals(solid, points.position)
        true_plain, true_mapped = (angles(shading_normals(model, points, use), truth) for use in (False, True))
        result[f"level {level}"] = {
            "faces": len(model.faces),
            "colour_mean": float(error.mean()),
            "colour_p99": float(np.quantile(error, 0.99)),
            "colour_max": float(error.max()),
            "seam_error": inspect(model)["seam_error"] if level else found["seam_error"],
            "normal_plain": float(plain.mean()),
            "normal_mapped": float(mapped.mean()),
            "normal_gain": float(1 - mapped.mean() / max(plain.mean(), 1e-9)),
            "true_normal_plain": float(true_plain.mean()),
            "true_normal_mapped": float(true_mapped.mean()),
        }
    for key in ("uv_use", "uv_overlap", "charts", "thin_charts", "density_spread", "mirrored_faces", "zero_uv_faces"):
        result[key] = found[key]
    result["no_data"] = found["black_texels"] + found["unfilled_texels"]
    return result


def rows(result: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """(what, measured, aim, met)."""
    charts, faces = result["charts"], result["level 0"]["faces"]
    thin = result["thin_charts"] / charts
    allowed = 1500 * faces / 300_000
    table = []
    for level in (name for name in result if name.startswith("level")):
        found = result[level]
        table += [
            (f"{level}: faces", found["faces"], "", True),
            (f"{level}: colour error, mean", found["colour_mean"], "<= 2", found["colour_mean"] <= 2),
            (f"{level}: colour error, p99", found["colour_p99"], "<= 12", found["colour_p99"] <= 12),
            (f"{level}: colour error, max", found["colour_max"], "", True),
            (f"{level}: seam difference at mip 3", found["seam_error"], "<= 4", found["seam_error"] <= 4),
            (f"{level}: normal error, without map", found["normal_plain"], "degrees", True),
            (f"{level}: normal error, with map", found["normal_mapped"], "degrees", True),
            (f"{level}: normal error lowered by", found["normal_gain"], *gain_aim(level, found["normal_gain"])),
            (f"{level}: against the true normal, without", found["true_normal_plain"], "degrees", True),
            (f"{level}: against the true normal, with", found["true_normal_mapped"], "degrees", True),
        ]  # fmt: skip
    return [
        *table,
        ("texel density, spread", result["density_spread"], "<= 0.1", result["density_spread"] <= 0.1),
        ("UV use", result["uv_use"], ">= 0.65", result["uv_use"] >= 0.65),
        ("charts", charts, f"<= {allowed:.0f}", charts <= allowed),
        ("charts thinner than 8 texels", thin, "<= 0.05", thin <= 0.05),
        ("overlap", result["uv_overlap"], "0", result["uv_overlap"] == 0),
        ("mirrored faces", result["mirrored_faces"], "0", result["mirrored_faces"] == 0),
        ("faces without texels", result["zero_uv_faces"], "0", result["zero_uv_faces"] == 0),
        ("texels without data", result["no_data"], "0", result["no_data"] == 0),
    ]


def gain_aim(level: str, gain: float) -> tuple[str, bool]:
    """The normal map belongs to the finest level; the others only share it."""
    return (">= 0.6", gain >= 0.6) if level == "level 0" else ("", True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--solids", nargs="*", default=list(SOLIDS), choices=list(SOLIDS))
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--faces", type=int, default=50_000)
    parser.add_argument("--texture-size", type=int, default=SIZE)
    parser.add_argument("--lods", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    results = []
    for name in options.solids:
        result = measure(name, options.resolution, options.faces, options.texture_size, options.lods)
        results.append(result)
        print(f"\n{name}, resolution {options.resolution}, {options.faces} faces, {options.texture_size} px")
        print(f"  bake {result['seconds']} s, {result['cpu_seconds']} s of processor time")
        for what, value, aim, met in rows(result):
            print(f"  {what:45} {value:10.4g}  {aim:12} {'' if met else 'MISSED'}", flush=True)
    if options.json:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10).stdout
        machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "commit": commit.strip()}
        options.json.write_text(json.dumps({**machine, "seed": 0, "results": results}, indent=1))


if __name__ == "__main__":
    main()
