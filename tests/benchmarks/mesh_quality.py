# SPDX-License-Identifier: Apache-2.0
"""What exported meshes are like, line by line beside their aims: `python -m tests.benchmarks.mesh_quality --json FILE`.

Every analytic asset, and every O-Voxel file that is named, is baked into a GLB as extracted, with a new surface and solid; the
GLB is read back and measured against the O-Voxel's own surface. Then one dense surface is brought to targets from 5,000 to
2,000,000 faces, and torn solids of many seeds are closed. Columns: faces, degenerate and duplicate faces, faces without texels,
non-manifold, turned and open edges, parts, slivers, distance from the O-Voxel's surface and of what was lost of it (mean and
p99 in voxels), levels of detail against 25 and 5 %. A row that misses an aim says which.

An O-Voxel whose flags contradict each other has no surface but a torn one. There the distance is to the closed surface through
its dual vertices that all flags together ask for (`enclosed_surface`, not smoothed). A further column has the distance to the
quads of the flags, of the points in the O-Voxel's cells that do not lie beyond the quads' ends, and the share of the area in no
cell at all: walls across gaps, made where the O-Voxel says nothing and there is no surface to be near to.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from genesis_server.bake.read_gltf import read_glb
from genesis_server.mesh.finish import finish_mesh
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.normals import face_areas
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.ovoxel.vxz import read_vxz, write_vxz
from genesis_server.pipeline.bake import BAKE_STAGES, bake_voxels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.parameters import BakeSettings
from genesis_server.report.atlas import measure_atlas
from genesis_server.report.geometry import measure_shape
from native_ext.closest_point import closest_point
from native_ext.mesh_sides import OPEN, twin_sides
from native_ext.voxel_lookup import VoxelLookup
from tests.analytic import leaves, noisy_blob, solids, voxelize
from tests.bumpy import bumpy_voxels
from tests.mesh.noise import spoil
from tests.quality import quality

MODES = {"plain": {}, "remesh": {"remesh": True}, "solid": {"solid": True}}
TARGETS = (5_000, 20_000, 100_000, 300_000, 1_000_000, 2_000_000)
POINTS = 100_000  # on each surface
ON_EDGE = 1e-4  # a barycentric weight: the nearest point lies on the edge across from the corner
LOD_SHARES = (0.25, 0.05)
TEXTURE = 1024


def surface_points(mesh: Mesh) -> torch.Tensor:
    """POINTS random points, even over the area, float32 [P, 3]."""
    generator = torch.Generator().manual_seed(0)
    total = torch.cumsum(face_areas(mesh).double().cpu(), 0)
    face = torch.searchsorted(total, torch.rand(POINTS, generator=generator, dtype=torch.float64) * total[-1])
    weights = -torch.log(torch.rand(POINTS, 3, generator=generator).clamp(min=1e-9))
    weights = (weights / weights.sum(1, keepdim=True)).to(mesh.faces.device)
    corners = mesh.vertices[mesh.faces[face.clamp(max=len(mesh.faces) - 1).to(mesh.faces.device)].long()]
    return (corners * weights[..., None]).sum(1)


def distances(mesh: Mesh, surface: Mesh, resolution: int) -> tuple[float, float]:
    """Mean and 99th percentile of the distance of a mesh's points from a surface, in voxels."""
    away = closest_point(surface.vertices, surface.faces, surface_points(mesh))[0] * resolution
    return float(away.mean()), float(away.quantile(0.99))


def distances_in_cells(mesh: Mesh, quads: Mesh, voxels: OVoxel) -> tuple[float, float, float]:
    """As `distances`, of points in cells that do not lie beyond the quads' open borders; and the share of points in no cell."""
    points = surface_points(mesh)
    away, face, weights = closest_point(quads.vertices, quads.faces, points)
    side = 3 * face[:, None] + torch.tensor([[1, 2, 0]], device=face.device)  # across from each corner
    open_side = twin_sides(quads.faces, quads.fans) == OPEN
    on_border = ((weights < ON_EDGE) & open_side[side]).any(1)
    cell = ((points + 0.5) * voxels.resolution).floor().long().clamp(0, voxels.resolution - 1)
    known = VoxelLookup(voxels.coords.long().to(cell.device), voxels.resolution)(cell) >= 0
    away = away[known & ~on_border] * voxels.resolution
    return float(away.mean()), float(away.quantile(0.99)), float((~known).float().mean())


def with_colours(voxels: OVoxel) -> OVoxel:
    """The voxels with a plain colour where they have none."""
    if voxels.attributes is not None:
        return voxels
    grey = torch.tensor([0.6, 0.6, 0.6, 0.0, 0.5, 1.0]).expand(len(voxels.coords), 6).contiguous()
    return OVoxel(voxels.coords, voxels.dual_vertices, voxels.intersected, voxels.resolution, voxels.split_weight, grey)


def measure(name: str, voxels: OVoxel, mode: str, faces: int, device: str) -> dict[str, Any]:
    """Bakes voxels as they are stored, and measures the GLB."""
    settings = BakeSettings(faces=faces, texture_size=TEXTURE, lods=3, **MODES[mode])
    with tempfile.TemporaryDirectory() as folder:
        write_vxz(Path(folder) / "a.vxz", with_colours(voxels))
        stored = read_vxz(Path(folder) / "a.vxz")
        progress = Progress(BAKE_STAGES, lambda event: None, lambda: False)
        progress.started("mesh")
        began = time.perf_counter()
        baked = bake_voxels(stored, settings, progress, device)
        write_baked(Path(folder) / "a.glb", baked, settings)
        seconds = time.perf_counter() - began
        models = [read_glb(Path(folder) / "a.glb", level) for level in range(3)]
    raw = extract_mesh(stored)
    shape, atlas = measure_shape(models[0].vertices, models[0].faces), measure_atlas(models[0])
    mesh = Mesh(torch.from_numpy(models[0].vertices).to(device), torch.from_numpy(models[0].faces).to(device))
    there, quads = (Mesh(m.vertices.to(device), m.faces.to(device)) for m in (enclosed_surface(stored, 0) or raw, raw))
    mean, p99 = distances(mesh, there, stored.resolution)
    lost_mean, lost_p99 = distances(there, mesh, stored.resolution)
    quads_mean, quads_p99, made = distances_in_cells(mesh, quads, stored)
    levels = [len(model.faces) for model in models]
    row = {"asset": name, "mode": mode, "resolution": stored.resolution, "target": faces, "faces": levels[0]}
    row |= {"extracted": len(there.faces)}
    kept = ("degenerate_faces", "duplicate_faces", "non_manifold_edges", "turned_edges", "components", "watertight")
    row |= {key: shape[key] for key in kept} | {"boundary_edges": shape["boundary_edges"]}
    row |= {"inside_out": shape["inside_out_components"], "worst_aspect": round(shape["worst_aspect"], 1)}
    row |= {"slivers": round(shape["sliver_faces"] / levels[0], 5), "zero_uv_faces": atlas["zero_uv_faces"]}
    row |= {"mean": round(mean, 4), "p99": round(p99, 4), "quads_mean": round(quads_mean, 4), "quads_p99": round(quads_p99, 4)}
    row |= {"made": round(made, 4)}
    row |= {"lost_mean": round(lost_mean, 4), "lost_p99": round(lost_p99, 4)}
    row |= {"lods": [round(level / levels[0] / share, 3) for level, share in zip(levels[1:], LOD_SHARES, strict=True)]}
    below = [measure_shape(model.vertices, model.faces) for model in models[1:]]
    row |= {"level_slivers": [round(found["sliver_faces"] / count, 5) for found, count in zip(below, levels[1:], strict=True)]}
    spoilt = ("degenerate_faces", "duplicate_faces", "non_manifold_edges", "turned_edges")
    row |= {"level_defects": sum(found[key] for found in below for key in spoilt)}
    row |= {"seconds": round(seconds, 2)}
    row["short"] = shortfalls(row)
    return row


def shortfalls(row: dict[str, Any]) -> list[str]:
    """The aims that a row misses."""
    closed = row["mode"] != "plain"
    near = 0.1 if row["mode"] != "solid" else 0.6  # sheets get the thickness of a voxel, half on each side
    few = row["extracted"] < row["target"]  # a surface is not made finer
    aims = {
        "degenerate": row["degenerate_faces"] == 0,
        "duplicates": row["duplicate_faces"] == 0,
        "zero UV": row["zero_uv_faces"] == 0,
        "non-manifold": row["non_manifold_edges"] == 0,
        "winding": row["turned_edges"] == 0 and row["inside_out"] == 0,
        "slivers": row["slivers"] < 0.01 and row["worst_aspect"] < 1000,
        "distance": row["mean"] <= near and row["p99"] <= max(0.5, near),
        "watertight": row["watertight"] or not closed,
        "target": row["faces"] <= 1.02 * row["target"] and (few or row["faces"] >= 0.98 * row["target"]),
        "LOD slivers": max(row["level_slivers"]) <= 0.01,
        "LOD clean": row["level_defects"] == 0,
        "LOD 25 %": abs(row["lods"][0] - 1) <= 0.02,
        "LOD 5 %": abs(row["lods"][1] - 1) <= 0.02,
    }
    return [name for name, met in aims.items() if not met]


def show(row: dict[str, Any]) -> None:
    counted = ("degenerate_faces", "duplicate_faces", "zero_uv_faces", "non_manifold_edges", "turned_edges", "boundary_edges")
    counts = " ".join(f"{row[key]:5}" for key in counted)
    shape = f"parts {row['components']:3}  slivers {row['slivers']:.3%}, worst {row['worst_aspect']:6}"
    pairs = (("off", ""), ("quads", "quads_"), ("lost", "lost_"))
    away = "  ".join(f"{title} {row[name + 'mean']:.3f} {row[name + 'p99']:.3f}" for title, name in pairs)
    levels = " ".join(f"{level:.2f}" for level in row["lods"]) + f", slivers {max(row['level_slivers']):.2%}"
    head = f"{row['asset']:14} {row['mode']:7} {row['faces']:8} of {row['target']:<8}"
    verdict = f"short: {', '.join(row['short'])}" if row["short"] else "ok"
    print(
        f"{head} {counts}  {shape}  {away}  made {row['made']:.1%}  LOD {levels}  {row['seconds']:6.2f} s  {verdict}",
        flush=True,
    )


def measure_targets(resolution: int, device: str) -> list[dict[str, Any]]:
    """How far each face target is missed, on a dense bumpy surface."""
    raw = extract_mesh(bumpy_voxels(resolution, device))
    rows = []
    for target in (target for target in TARGETS if target < len(raw.faces)):
        began = time.perf_counter()
        q = quality(finish_mesh(raw, target, resolution=resolution))
        row = {
            "target": target,
            "faces": q.faces,
            "miss": abs(q.faces / target - 1),
            "slivers": q.slivers,
            "open": q.open_edges,
        }
        row |= {"worst_aspect": q.worst_aspect, "crowded": q.crowded_edges, "seconds": round(time.perf_counter() - began, 2)}
        rows.append(row)
        print(f"target {target:8}: {row}", flush=True)
    return rows


def measure_solids(cases: int, resolution: int, device: str) -> dict[str, Any]:
    """How many torn solids come out watertight with `solid`."""
    shapes = (*solids(), noisy_blob())
    failed = []
    for number in range(cases):
        shape = shapes[number % len(shapes)]
        torn = spoil(voxelize(shape, resolution), missing=0.02 + 0.03 * (number % 5), stray=0.01 * (number % 4), seed=number)
        raw = extract_mesh(torn)
        raw = Mesh(raw.vertices.to(device), raw.faces.to(device))
        q = quality(finish_mesh(raw, (10**6, 3000, 800)[number % 3], solid=True, resolution=resolution))
        if q.open_edges or q.crowded_edges or q.clashing_edges or q.degenerate:
            failed.append(f"{shape.name} {number}")
    result = {"cases": cases, "watertight": 1 - len(failed) / max(cases, 1), "failed": failed}
    print(f"solid: {result}", flush=True)
    return result


def main(arguments: list[str]) -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voxels", nargs="*", type=Path, help="O-Voxel files beside the analytic assets")
    parser.add_argument("--resolution", type=int, default=256 if cuda else 128)
    parser.add_argument("--faces", type=int, default=50_000)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--assets", help="comma separated; all by default")
    parser.add_argument("--targets-at", type=int, default=1024 if cuda else 0, help="resolution of the dense surface; 0: none")
    parser.add_argument("--solid-cases", type=int, default=100)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    assets = {solid.name: lambda solid=solid: voxelize(solid, options.resolution) for solid in solids()}
    assets["leaves"] = lambda: voxelize_mesh(leaves(), options.resolution)
    if options.assets is not None:
        assets = {name: make for name, make in assets.items() if name in options.assets.split(",")}
    assets |= {path.parent.stem: lambda path=path: read_vxz(path) for path in options.voxels}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10).stdout.strip()
    machine = torch.cuda.get_device_name() if options.device != "cpu" else platform.processor() or platform.machine()
    report: dict[str, Any] = {"machine": machine, "commit": commit, "seed": 0, "rows": []}

    def save() -> None:
        if options.json:
            options.json.write_text(json.dumps(report, indent=1))

    for name, make in assets.items():
        voxels = make()
        for mode in options.modes.split(","):
            try:
                row = measure(name, voxels, mode, options.faces, options.device)
                show(row)
            except Exception as error:  # the table goes on
                logging.exception("%s %s", name, mode)
                row = {"asset": name, "mode": mode, "error": repr(error)}
                print(row, flush=True)
            report["rows"].append(row)
            save()
    report["solids"] = measure_solids(options.solid_cases, 48, options.device)
    save()
    if options.targets_at:
        report["targets"] = measure_targets(options.targets_at, options.device)
        save()


if __name__ == "__main__":
    main(sys.argv[1:])
