# SPDX-License-Identifier: Apache-2.0
"""Seconds per stage from an O-Voxel to a GLB, on CPU or GPU, for the large analytic asset.

    python -m tests.benchmarks.bake --device cuda --resolution 1024 --case 1000000:4096 --case 300000:2048 --json bake.json
    python -m tests.benchmarks.bake --device cuda --scaling 256 512 1024 1536 --case 300000:2048

First the same small asset is baked on CPU and on the GPU, and both must agree; then every case is run `--repeats` times after
one run that compiles, and the fastest is shown. Stages inside others are indented. `re-bake` has the meshes of the bake before.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genesis_server.bake import layout, textures, unwrap
from genesis_server.bake.read_gltf import read_glb
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline import bake
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.inspect import inspect
from tests.bumpy import bumpy_voxels, colour
from tests.texture_truth import SurfacePoints, sample

# (module, function, depth): what is timed; the module is the one that calls it
TIMED = [
    (bake, "extract_mesh", 0),
    (bake, "finish_mesh", 0),
    (bake, "unwrap", 0),
    (unwrap, "face_adjacency", 1),
    (unwrap, "cluster_faces", 1),
    (unwrap, "_separate_overlaps", 1),
    (unwrap, "_compact", 1),
    (unwrap, "_absorb", 1),
    (unwrap, "_lay_flat", 1),
    (unwrap, "join_charts", 2),
    (unwrap, "pack_atlas", 1),
    (layout, "place_bitmaps", 2),
    (unwrap, "_split_vertices", 1),
    (bake, "coarser_level", 0),
    (bake, "bake_textures", 0),
    (textures, "DetailedSurface", 1),
    (textures, "rasterize", 1),
    (textures, "_bake_texels", 1),
    (textures, "_material", 1),
    (bake, "write_glb", 0),
]
CHECK = {"resolution": 128, "faces": 20_000, "texture_size": 1024}
Watch = dict[str, float]


def settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def watched(device: str) -> Watch:
    """Times every function of TIMED from now on; the returned seconds are filled as they run."""
    seconds: Watch = {}
    for module, name, depth in TIMED:
        original = getattr(module, name)
        original = getattr(original, "__wrapped__", original) if hasattr(original, "watched") else original
        label = f"{'  ' * depth}{name.lstrip('_')}"

        def timed(*args: Any, _call: Callable[..., Any] = original, _label: str = label, **kwargs: Any) -> Any:
            settle(device)
            began = time.perf_counter()
            result = _call(*args, **kwargs)
            settle(device)
            seconds[_label] = seconds.get(_label, 0.0) + time.perf_counter() - began
            return result

        functools.update_wrapper(timed, original, updated=())
        timed.watched = True
        setattr(module, name, timed)
    return seconds


def run(
    voxels: OVoxel, settings: BakeSettings, device: str, path: Path, levels: list | None = None
) -> tuple[float, bake.Baked]:
    """Seconds of one bake, from voxels on the device to the file."""
    progress = Progress(bake.BAKE_STAGES, lambda event: None, lambda: False)
    settle(device)
    began = time.perf_counter()
    progress.started("mesh")
    baked = bake.bake_voxels(voxels, settings, progress, device, levels=levels or ())
    bake.write_baked(path, baked, settings)
    settle(device)
    return time.perf_counter() - began, baked


def moved(voxels: OVoxel, device: str) -> OVoxel:
    values = {item.name: getattr(voxels, item.name) for item in fields(voxels)}
    return OVoxel(**{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in values.items()})


def agreement(device: str, folder: Path) -> dict[str, Any]:
    """Both devices on the same small asset: the same mesh in, so that textures can be compared texel by texel."""
    settings = BakeSettings(faces=CHECK["faces"], texture_size=CHECK["texture_size"])
    voxels = bumpy_voxels(CHECK["resolution"])
    _, here = run(voxels, settings, "cpu", folder / "cpu.glb")
    found: dict[str, Any] = {}
    _, there = run(moved(voxels, device), settings, device, folder / "there.glb")
    _, twice = run(moved(voxels, device), settings, device, folder / "twice.glb")
    found["same bytes on a second run"] = (folder / "there.glb").read_bytes() == (folder / "twice.glb").read_bytes()
    found["faces CPU, device"] = [len(here.levels[0].faces), len(there.levels[0].faces)]
    found["charts CPU, device"] = [int(part.levels[0].chart.max()) + 1 for part in (here, there)]
    _, same = run(moved(voxels, device), settings, device, folder / "same.glb", list(here.levels))
    for name in ("base_color", "metallic_roughness", "normal"):
        gap = np.abs(getattr(here.material, name).astype(int) - getattr(same.material, name))
        found[f"{name}: texels that differ by more than 2, on the same mesh"] = float((gap > 2).any(2).mean())
    unwrapped = unwrap.unwrap(_mesh_of(here, device), settings.texture_size)
    flat = unwrapped.uvs.cpu()
    same_layout = flat.shape == here.levels[0].uvs.shape
    found["charts of the same mesh CPU, device"] = [int(here.levels[0].chart.max()) + 1, int(unwrapped.chart.max()) + 1]
    found["largest difference of uvs on the same mesh"] = (
        float((flat - here.levels[0].uvs).abs().max()) if same_layout else "other split"
    )
    del twice
    return found


def _mesh_of(baked: bake.Baked, device: str) -> Any:
    from genesis_server.mesh.mesh import Mesh

    level = baked.levels[0]
    names, index = torch.unique(level.source_vertex, return_inverse=True)
    vertices = torch.zeros(len(names), 3)
    vertices[index] = level.vertices
    return Mesh(vertices.to(device), index[level.faces.long()].int().to(device))


def quality(path: Path) -> dict[str, float]:
    """Of the exported file: colour error at random points, and what the atlas is like."""
    model = read_glb(path)
    points = SurfacePoints(model)
    truth = colour(torch.from_numpy(points.position)).numpy()[:, :3] * 255
    error = np.abs(sample(model.material.base_color[..., :3].astype(np.float32), points.uv) - truth)
    found = inspect(model)
    names = ("charts", "thin_charts", "uv_use", "uv_overlap", "density_spread", "seam_error", "mirrored_faces", "zero_uv_faces")
    shape = ("degenerate_faces", "non_manifold_edges", "sliver_faces", "watertight", "components", "worst_aspect")
    return {
        "colour_mean": float(error.mean()),
        "colour_p99": float(np.quantile(error, 0.99)),
        "colour_max": float(error.max()),
        **{name: found[name] for name in (*names, *shape)},
    }


def case(voxels: OVoxel, faces: int, size: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row: the fastest of the repeats, its stages, peak memory, the re-bake, quality."""
    device = options.device
    settings = BakeSettings(faces=faces, texture_size=size, lods=options.lods, normal_map=not options.no_normal_map)
    runs = []
    for _ in range(options.repeats + 1):
        stages = watched(device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, baked = run(voxels, settings, device, folder / "a.glb")
        runs.append((seconds, dict(stages)))
    first, (best, stages) = runs[0][0], min(runs[1:] or runs, key=lambda item: item[0])
    other = replace(settings, texture_size=max(size // 2, layout.PACK_SIZE))
    again = []
    for _ in range(options.repeats):
        began = time.perf_counter()
        levels = bake.read_levels(folder / "a.glb", options.lods)
        again.append(time.perf_counter() - began + run(voxels, other, device, folder / "b.glb", levels)[0])
    result: dict[str, Any] = {
        "resolution": voxels.resolution,
        "voxels": len(voxels.coords),
        "faces_before": baked.faces_before,
        "faces": [len(level.faces) for level in baked.levels],
        "texture_size": size,
        "seconds_first": round(first, 3),
        "seconds": round(best, 3),
        "stages": {name: round(value, 4) for name, value in stages.items()},
        "rebake_size": other.texture_size,
        "rebake_seconds": round(min(again), 3),
        "megabytes": round((folder / "a.glb").stat().st_size / 1e6, 1),
    }
    if device == "cuda":
        result["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    if not options.no_quality:
        result["quality"] = quality(folder / "a.glb")
    return result


def show(result: dict[str, Any]) -> None:
    head = f"resolution {result['resolution']}, {result['voxels']} voxels, {result['faces_before']} faces"
    print(f"\n{head} -> {result['faces']} faces, {result['texture_size']} px")
    for name, seconds in result["stages"].items():
        print(f"  {name:26} {seconds:9.4f} s")
    memory = f", peak {result['peak_gib']} GiB" if "peak_gib" in result else ""
    print(f"  {'total':26} {result['seconds']:9.4f} s   (first run {result['seconds_first']:.2f} s{memory})")
    rebake = f"re-bake at {result['rebake_size']}"
    print(f"  {rebake:26} {result['rebake_seconds']:9.4f} s   {result['megabytes']} MB written")
    for name, value in result.get("quality", {}).items():
        print(f"  {name:26} {value:9.4g}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--scaling", type=int, nargs="*", default=[], help="resolutions for the first case, after the cases")
    parser.add_argument("--case", action="append", metavar="FACES:SIZE", help="may be given several times")
    parser.add_argument("--lods", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-normal-map", action="store_true")
    parser.add_argument("--no-quality", action="store_true")
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    cases = [tuple(int(part) for part in text.split(":")) for text in options.case or ["300000:2048"]]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    ).stdout.strip()
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    report: dict[str, Any] = {"machine": name, "torch": torch.__version__, "commit": commit, "seed": 0, "cases": []}
    print(f"{name}, torch {torch.__version__}, commit {commit[:10]}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.device == "cuda" and not options.no_check:
            report["agreement"] = attempt("agreement", lambda: agreement(options.device, folder))
            for what, value in (report["agreement"] or {}).items():
                print(f"  {what}: {value}")
        plan = [(options.resolution, *sizes) for sizes in cases] + [(side, *cases[0]) for side in options.scaling]
        known: tuple[int, OVoxel] | None = None
        for side, faces, size in plan:
            if known is None or known[0] != side:
                known = (side, bumpy_voxels(side, options.device))
            voxels = known[1]
            result = attempt(f"{side} {faces} {size}", functools.partial(case, voxels, faces, size, options, folder))
            if result:
                report["cases"].append(result)
                show(result)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))


def attempt(what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A failed row is told and does not cost the others."""
    try:
        return work()
    except Exception:  # noqa: BLE001
        print(f"FAILED: {what}")
        traceback.print_exc()
        return None


if __name__ == "__main__":
    main()
