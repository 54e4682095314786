# SPDX-License-Identifier: Apache-2.0
"""Speed of the mesh stages on the bumpy asset: `python -m tests.benchmarks.geometry --resolution 1024 --stages extract,repair`.

On a GPU every operator is first checked against the CPU on a small asset. Then the stages run one after the other, each on what
the one before left, a few times; the table shows the median, its spread, and the memory in use. `--json FILE` writes the same
with machine, commit and settings. `--profile` shows in which functions the time went (set CUDA_LAUNCH_BLOCKING=1 on a GPU).
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import json
import logging
import platform
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import warp as wp

from genesis_server.bake.levels import coarser_level
from genesis_server.bake.textures import bake_textures
from genesis_server.bake.unwrap import unwrap
from genesis_server.bake.unwrapped import UnwrappedMesh
from genesis_server.mesh.finish import finish_mesh, repair
from genesis_server.mesh.mesh import Mesh
from genesis_server.mesh.remesh import remesh
from genesis_server.mesh.simplify import simplify, without_slivers
from genesis_server.ovoxel.enclose import enclosed_surface
from genesis_server.ovoxel.extract import extract_mesh
from genesis_server.ovoxel.voxelize import voxelize_mesh
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.protocol.parameters import BakeSettings
from native_ext.closest_point import SurfaceSearch
from tests.analytic import lattice, leaves, torus, voxelize
from tests.bumpy import bumpy_voxels
from tests.mesh.noise import spoil
from tests.quality import quality

CHECKED = 64  # resolution of the asset on which a GPU is compared with the CPU
QUERIES = 4_000_000  # closest points; about the covered texels of a 2048 px texture
Results = dict[str, object]


def _surface_points(mesh: Mesh, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    face = torch.randint(0, len(mesh.faces), (count,), generator=generator).to(mesh.faces.device)
    shift = (torch.rand(count, 3, generator=generator) - 0.5).to(mesh.faces.device) * 2e-3
    return mesh.vertices[mesh.faces[face].long()].mean(1) + shift


# name -> what it makes of the results so far; every stage finds those before it
STAGES: dict[str, Callable[[Results, argparse.Namespace], object]] = {
    "generate": lambda r, o: bumpy_voxels(o.resolution, o.device),
    "extract": lambda r, o: extract_mesh(r["generate"]),
    "repair": lambda r, o: repair(r["extract"]),
    "slivers": lambda r, o: without_slivers(r["repair"]),
    "simplify": lambda r, o: simplify(r["slivers"], o.faces),
    "finish": lambda r, o: finish_mesh(r["extract"], o.faces),
    "remesh": lambda r, o: remesh(r["repair"], o.resolution),
    "bvh": lambda r, o: SurfaceSearch(r["repair"].vertices, r["repair"].faces),
    "closest": lambda r, o: r["bvh"].closest(_surface_points(r["repair"], o.queries)),
    "voxelize": lambda r, o: voxelize_mesh(r["simplify"], o.resolution),
}


def settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
        wp.synchronize()


def memory(device: str) -> float:
    """GiB in use on the GPU by everything, or the process's largest on a CPU."""
    if device != "cpu":
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**30
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**20


def run_stages(names: list[str], options: argparse.Namespace) -> list[dict[str, object]]:
    results: Results = {}
    rows = []
    for name, stage in STAGES.items():
        times = []
        for _ in range(options.repeats if name in names else 1):
            results[name] = None
            gc.collect()
            if options.device != "cpu":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            settle(options.device)
            profile = cProfile.Profile() if options.profile and name in names else None
            start = time.perf_counter()
            results[name] = profile.runcall(stage, results, options) if profile else stage(results, options)
            settle(options.device)
            times.append(time.perf_counter() - start)
        if profile:
            text = io.StringIO()
            pstats.Stats(profile, stream=text).sort_stats("cumtime").print_stats(40)
            print("\n".join(line[:140] for line in text.getvalue().splitlines()[6:]))
        if name in names:
            peak = torch.cuda.max_memory_allocated() / 2**30 if options.device != "cpu" else float("nan")
            row = {"stage": name, "seconds": statistics.median(times), "fastest": min(times), "slowest": max(times)}
            row |= {"torch_peak_gib": peak, "memory_gib": memory(options.device), "size": _size(results[name])}
            rows.append(row)
            print(
                f"{name:<10} {row['seconds']:9.4f} s   {min(times):9.4f} to {max(times):9.4f}   torch peak {peak:6.2f} GiB"
                f"   in use {row['memory_gib']:6.2f} GiB   {row['size']}",
                flush=True,
            )
        if all(other in results for other in names):
            break
    return rows


def _size(result: object) -> str:
    if isinstance(result, OVoxel):
        return f"{len(result.coords)} voxels"
    return f"{len(result.faces)} faces" if isinstance(result, Mesh) else ""


def _to(voxels: OVoxel, device: str) -> OVoxel:
    return OVoxel(
        voxels.coords.to(device),
        voxels.dual_vertices.to(device),
        voxels.intersected.to(device),
        voxels.resolution,
        None,
        voxels.attributes.to(device),
    )


def _level_moved(level: UnwrappedMesh, device: str) -> UnwrappedMesh:
    return UnwrappedMesh(**{name: tensor.to(device) for name, tensor in vars(level).items()})


def _moved(mesh: Mesh, device: str) -> Mesh:
    return Mesh(mesh.vertices.to(device), mesh.faces.to(device))


def _same(one: Mesh, two: Mesh) -> bool:
    return torch.equal(one.faces.cpu(), two.faces.cpu()) and torch.equal(one.vertices.cpu(), two.vertices.cpu())


def _gap(one: Mesh, two: Mesh) -> float:
    """Mean distance of one's vertices from two, in voxels of the checked resolution, on the CPU."""
    one, two = _moved(one, "cpu"), _moved(two, "cpu")
    return float(SurfaceSearch(two.vertices, two.faces).closest(one.vertices)[0].mean()) * CHECKED


def checks(device: str) -> dict[str, Callable[[], str]]:
    """Name to a comparison of the device with the CPU; each says what it saw, or raises AssertionError."""
    voxels = bumpy_voxels(CHECKED)
    raw = extract_mesh(voxels)
    clean = repair(raw)
    there = _moved(clean, device)

    def extraction() -> str:
        mesh = extract_mesh(_to(voxels, device))
        assert torch.equal(mesh.faces.cpu(), raw.faces) and float((mesh.vertices.cpu() - raw.vertices).abs().max()) < 1e-6
        return f"{len(raw.faces)} faces equal"

    def enclosing() -> str:
        said = []
        for missing, stray in ((0.05, 0.01), (0.25, 0.1)):  # where a third of the flags are wrong gaps are closed
            torn = spoil(voxelize(torus(), CHECKED), missing=missing, stray=stray)
            here, one, two = enclosed_surface(torn), *(enclosed_surface(_to(torn, device)) for _ in range(2))
            assert _same(one, two), "two runs differ"
            assert abs(len(one.faces) - len(here.faces)) < 1e-3 * len(here.faces) and _gap(one, here) < 1e-3
            said.append(f"{len(one.faces)} faces, bytes as the CPU: {_same(one, here)}")
        return "; ".join(said)

    def repairing() -> str:
        mesh = repair(_moved(raw, device))
        assert torch.equal(mesh.faces.cpu(), clean.faces)
        for missing, stray in ((0.002, 0.001), (0.03, 0.01), (0.1, 0.03)):
            torn = extract_mesh(spoil(voxels, missing=missing, stray=stray, tremble=0.1))
            one, two, here = repair(_moved(torn, device)), repair(_moved(torn, device)), repair(torn)
            assert _same(one, two), "two runs differ"
            assert torch.equal(one.faces.cpu(), here.faces), f"torn by {missing}, {stray}"
        return "faces equal, torn ones as well"

    def simplifying() -> str:
        one, two = simplify(there, len(raw.faces) // 8), simplify(there, len(raw.faces) // 8)
        here = simplify(clean, len(raw.faces) // 8)
        assert _same(one, two), "two runs differ"
        assert abs(len(one.faces) - len(here.faces)) <= 1
        gap, own = _gap(one, clean), _gap(here, clean)
        assert gap < 1.1 * own + 0.01
        return f"{len(one.faces)} faces, {gap:.3f} voxels off (CPU {own:.3f}), bytes as the CPU: {_same(one, here)}"

    def slivers() -> str:
        one, here = without_slivers(there), without_slivers(clean)
        assert abs(len(one.faces) - len(here.faces)) <= 4
        return f"{len(one.faces)} faces, as the CPU: {_same(one, here)}"

    def remeshing() -> str:
        one, two, here = remesh(there, CHECKED), remesh(there, CHECKED), remesh(clean, CHECKED)
        assert _same(one, two), "two runs differ"
        measured = quality(_moved(one, "cpu"))
        assert measured.open_edges == 0 and measured.crowded_edges == 0
        assert abs(len(one.faces) - len(here.faces)) < 1e-3 * len(here.faces) and _gap(one, here) < 1e-3
        return f"{len(one.faces)} faces (CPU {len(here.faces)}), closed, {_gap(one, here):.1e} voxels apart"

    def sheets() -> str:
        flat = extract_mesh(voxelize_mesh(_moved(leaves(), device), CHECKED))
        out = quality(_moved(finish_mesh(flat, 2000, solid=True, resolution=CHECKED), "cpu"))
        assert out.open_edges == 0 and out.crowded_edges == 0 and out.volume > 0
        return f"solid leaves: {out.faces} faces, closed"

    def closest() -> str:
        points = _surface_points(clean, 50_000)
        one = SurfaceSearch(clean.vertices, clean.faces).closest(points)
        two = SurfaceSearch(there.vertices, there.faces).closest(points.to(device))
        error = float((one[0] - two[0].cpu()).abs().max())
        assert error < 1e-6
        return f"distances {error:.1e} apart, {int((one[1] != two[1].cpu()).sum())} of 50000 faces differ"

    def voxelizing() -> str:
        one, two = voxelize_mesh(clean, CHECKED), voxelize_mesh(there, CHECKED)
        assert torch.equal(one.coords, two.coords.cpu()) and torch.equal(one.intersected, two.intersected.cpu())
        error = float((one.dual_vertices - two.dual_vertices.cpu()).abs().max())
        assert error < 1e-4
        return f"{len(one.coords)} cells equal, dual vertices {error:.1e} apart"

    def finishing() -> str:
        same = []
        for mode in ({}, {"remesh": True}, {"solid": True}):
            one, two = (finish_mesh(_moved(raw, device), 4000, resolution=CHECKED, **mode) for _ in range(2))
            assert _same(one, two), f"two runs differ {mode}"
            assert 3920 <= len(one.faces) <= 4080
            same.append(_same(one, finish_mesh(raw, 4000, resolution=CHECKED, **mode)))
        return f"4000 faces plain, remeshed, solid, the same bytes twice; the CPU's bytes, which nobody asks for: {same}"

    def levels() -> str:
        bars = extract_mesh(voxelize(lattice(), 64))  # handles have to be cut for 200 faces
        same = []
        for surface, count, wanted in ((raw, 10_000, (2500, 500)), (bars, 4000, (1000, 200))):
            finest = unwrap(finish_mesh(surface, count), 1024)
            for faces in wanted:
                here = coarser_level(finest, faces, 1024)
                one, two = (coarser_level(_level_moved(finest, device), faces, 1024) for _ in range(2))
                assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in vars(one)), "two runs differ"
                assert faces - 1 <= len(one.faces) <= 1.01 * faces
                names = ("faces", "vertices", "uvs")
                same.append(all(torch.equal(getattr(one, name).cpu(), getattr(here, name)) for name in names))
        return f"25 and 5 % of two meshes, the same bytes twice; the CPU's, which nobody asks for: {same}"

    def texturing() -> str:
        level, settings = unwrap(finish_mesh(raw, 10_000), 1024), BakeSettings(normal_map=False)
        here = bake_textures(level, raw, voxels, settings).base_color
        parts = _level_moved(level, device), _moved(raw, device), _to(voxels, device)
        one, two = (bake_textures(*parts, settings).base_color for _ in range(2))
        assert (one == two).all(), "two runs differ"
        off = np.abs(one.astype(int) - here).max(2)
        assert off.mean() < 0.01 and (off > 2).mean() < 1e-4
        return f"1024 texels, the same bytes twice; {(off > 0).mean():.1e} of the texels are not the CPU's, largest {off.max()}"

    found = (
        extraction,
        enclosing,
        repairing,
        simplifying,
        slivers,
        remeshing,
        sheets,
        closest,
        voxelizing,
        finishing,
        levels,
        texturing,
    )
    return {check.__name__: check for check in found}


def run_checks(device: str) -> dict[str, str]:
    verdicts = {}
    for name, check in checks(device).items():
        try:
            verdicts[name] = f"ok: {check()}"
        except Exception as error:
            logging.exception("check %s", name)
            verdicts[name] = f"FAILED: {error!r}"
        print(f"check {name:<12} {verdicts[name]}", flush=True)
    return verdicts


def main(arguments: list[str]) -> int:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=1024 if cuda else 128)
    parser.add_argument("--faces", type=int, default=1_000_000 if cuda else 20_000)
    parser.add_argument("--queries", type=int, default=QUERIES if cuda else 100_000)
    parser.add_argument("--stages", default=",".join(STAGES), help="comma separated; those before them run once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--no-checks", action="store_true")
    options = parser.parse_args(arguments)
    names = options.stages.split(",")
    if unknown := set(names) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    machine = torch.cuda.get_device_name() if options.device != "cpu" else platform.processor() or platform.machine()
    print(f"{machine}, torch {torch.__version__}, resolution {options.resolution}, target {options.faces} faces")
    verdicts = {} if options.no_checks or options.device == "cpu" else run_checks(options.device)
    small = {"resolution": 64, "faces": 5000, "queries": 1000, "repeats": 1, "profile": False}
    warm = argparse.Namespace(**(vars(options) | small))
    print("warm-up at 64:")
    run_stages(names, warm)
    print(f"at {options.resolution}:")
    rows = run_stages(names, options)
    if options.json:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10).stdout.strip()
        settings = {key: str(value) for key, value in vars(options).items()}
        report = {"machine": machine, "commit": commit, "settings": settings, "checks": verdicts, "stages": rows}
        options.json.write_text(json.dumps(report, indent=1))
    return int(any(verdict.startswith("FAILED") for verdict in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
