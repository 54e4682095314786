# SPDX-License-Identifier: Apache-2.0
"""Whole runs of the published sizes, picture to GLB, under memory budgets: `python -m tests.benchmarks.memory [--json FILE]`.

The model is a folder in the published layout with random weights (16.5 GB in memory), loaded anew for every row as every run
does it, under the budget as a user sets it, which is also made the cap of torch's memory. So that every stage has the work that
a real object gives it, the occupied cells, the subdivisions and the surface are those of the bumpy asset, put in where the
networks' own would come out. Everything is computed nevertheless. The voxels go to the bake in memory: their file's compression
would take longer than the networks. The table shows the time, its ratio to the run without a budget, what was predicted before
the run and what was used at most, and the same for every network; a first run of one step a stage has compiled the
kernels. `--tiny` runs all of it on small networks and on any device, to try the script itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genesis_server.assets import Asset
from genesis_server.networks.dual_grid_vae import DualGridVoxels, FlexiDualGridVaeDecoder
from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline import generate as spine
from genesis_server.pipeline import shape, structure
from genesis_server.pipeline.generate import generate
from genesis_server.pipeline.memory import BUDGET_VARIABLE, LADDER, Work
from genesis_server.pipeline.model import SHAPE_DECODER, Model
from genesis_server.pipeline.plan import MAX_TOKENS
from genesis_server.protocol.events import Event, EventKind
from genesis_server.protocol.parameters import GenerateSettings
from genesis_server.sparse.resample import coarsen, subdivisions_between
from genesis_server.sparse.tensor import Level, SparseTensor
from tests.benchmarks.network_bench import SAMPLERS
from tests.benchmarks.published_model import write_model
from tests.bumpy import bumpy_voxels

ROWS = (("1024_cascade", None), ("1024_cascade", 8), ("1024_cascade", 6), ("1024_cascade", 4), ("1536_cascade", 10))  # GB
AIMS = {("1024_cascade", 8): 1.15, ("1024_cascade", 6): 1.5}  # of the time without a budget
RATIO, UPS = 16, 4
STRUCTURE_CELLS = 32  # per axis, of the 512 networks


@dataclass(frozen=True)
class Known:
    """The object that every network is made to find; tensors on the CPU.

    Attributes:
        occupied: bool `[g, g, g]`, the structure.
        latent: int32 `[T, 4]`, cells of the refined pass.
        masks: subdivisions from those cells to the voxels.
        voxels: in the decoder's order.
    """

    occupied: Tensor
    latent: Tensor
    masks: list[Tensor]
    voxels: OVoxel


def known_object(wanted: int, device: torch.device, coarse: int) -> Known:
    """The bumpy asset at a resolution, as large as the token limit allows."""
    radius, level = 0.2, None
    while level is None or len(level.coords) >= MAX_TOKENS:
        if level is not None:
            radius *= 0.995 * (MAX_TOKENS / len(level.coords)) ** 0.5
        voxels = bumpy_voxels(wanted, device, radius)
        fine = level = Level(torch.nn.functional.pad(voxels.coords, (1, 0)))
        for _ in range(UPS):
            level = coarsen(level)
    masks, order = subdivisions_between(Level(level.coords), fine, UPS)
    occupied = torch.zeros((coarse,) * 3, dtype=torch.bool, device=device)
    occupied[tuple((level.coords[:, 1:].long() * coarse * RATIO // wanted).unbind(1))] = True
    parts = (voxels.coords, voxels.dual_vertices, voxels.intersected, voxels.attributes)
    coords, vertices, flags, values = (part[order].cpu() for part in parts)
    known = OVoxel(coords, vertices, flags, wanted, None, values)
    return Known(occupied.cpu(), level.coords.cpu(), [mask.cpu() for mask in masks], known)


class KnownDecoder(FlexiDualGridVaeDecoder):
    """Computes everything, and then says what is known."""

    known: Known

    def forward(self, x: SparseTensor, tiles: int = 1) -> DualGridVoxels:
        masks = [mask.to(x.feats.device) for mask in self.known.masks]
        found = super().forward(x, subdivisions=masks, tiles=tiles)
        subs = [sub.replace(mask.to(sub.dtype) * 2 - 1) for sub, mask in zip(found.subs, masks, strict=True)]
        vertices = self.known.voxels.dual_vertices.to(found.vertices)
        return DualGridVoxels(found.raw, vertices, self.known.voxels.intersected.to(x.feats.device), found.quad_lerp, subs)


@contextmanager
def injected(known: Known) -> Iterator[None]:
    """The structure's cells and those of the refined pass."""
    plain_pool = structure._pool

    def pool(occupied: Tensor, grid: int) -> Tensor:
        return known.occupied.to(plain_pool(occupied, grid).device)[None]

    def limited(fine: Tensor, *_: Any) -> tuple[Tensor, int]:
        return known.latent.to(fine.device), known.voxels.resolution

    kept: list[OVoxel] = []

    def write(path: Path, voxels: OVoxel, **_: Any) -> None:
        path.touch()
        assert len(voxels.attributes) == len(known.voxels.attributes)
        tensors = {item.name: getattr(voxels, item.name) for item in dataclasses.fields(voxels)}
        tensors["attributes"] = known.voxels.attributes
        kept[:] = [OVoxel(**{name: v.cpu() if isinstance(v, Tensor) else v for name, v in tensors.items()})]

    patches = [
        (structure, "_pool", pool),
        (shape, "limit_tokens", limited),
        (spine, "write_vxz", write),
        (spine, "read_vxz", lambda path: kept[0]),
    ]
    with ExitStack() as stack:
        for module, name, value in patches:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass
class Shared:
    """What rows have in common."""

    device: torch.device
    folder: Path
    objects: dict[int, Known] = field(default_factory=dict)


def load_model(known: Known, budget: float | None, shared: Shared) -> Watched:
    """The model of the folder under a budget, loaded as every run does; its shape decoder says what is known."""
    os.environ.pop(BUDGET_VARIABLE, None)
    if budget is not None:
        os.environ[BUDGET_VARIABLE] = f"{budget}GB"
    model = Watched.load(str(shared.folder), shared.device)
    model.uses = []
    load = model._loaders[SHAPE_DECODER]

    def knowing(device: torch.device) -> torch.nn.Module:
        network = load(device)
        network.__class__, network.known = KnownDecoder, known
        return network

    model._loaders[SHAPE_DECODER] = knowing
    return model


class Watched(Model):
    """A model that notes what every use of a network was predicted to take and took."""

    uses: list[dict[str, Any]]

    @contextmanager
    def use(self, role: str, work: Work | None = None, precision: str = "auto") -> Iterator[Any]:
        """See `Model.use`."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with super().use(role, work, precision) as used:
            yield used
            if cuda:
                torch.cuda.synchronize()
        entry = {"role": role, "seconds": time.perf_counter() - start, "rung": LADDER.index(used.rung)}
        if cuda:
            entry |= {"peak": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        if work is not None and self.memory.knows(role):
            entry["predicted"] = self.memory.predict(role, used.rung, work)
        self.uses.append(entry)


class DeviceWatch:
    """The most memory in use on the device, by whatever library, and of this machine since it was started; sampled."""

    def __init__(self, device: torch.device) -> None:
        self.most, self.host, self._end = 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, args=(device,), daemon=True)
        if device.type == "cuda":
            self._thread.start()

    def _look(self, device: torch.device) -> None:
        before = _available()
        while not self._end.wait(0.01):
            free, total = torch.cuda.mem_get_info(device)
            self.most, self.host = max(self.most, total - free), max(self.host, before - _available())

    def stop(self) -> tuple[int, int]:
        self._end.set()
        return self.most, self.host


def _available() -> int:
    """Bytes of this machine's memory that are left; files in the page cache count as left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def run_row(kind: str, budget: float | None, options: argparse.Namespace, shared: Shared) -> dict[str, Any]:
    """A run that loads everything, then the one that counts: seconds, prediction, peaks, by stage and by network."""
    device, cuda = shared.device, shared.device.type == "cuda"
    if cuda:
        torch.cuda.set_per_process_memory_fraction(1.0)  # the row before may have had a budget
    resolution = int(kind.split("_")[0]) // (8 if options.tiny else 1)
    if resolution not in shared.objects:
        shared.objects[resolution] = known_object(resolution, device, STRUCTURE_CELLS // (8 if options.tiny else 1))
    known = shared.objects[resolution]
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    model = load_model(known, budget, shared)
    first = _run(model, kind, known, 1, device)
    model.uses = []
    return {
        "type": kind,
        "budget_gb": budget,
        "first_seconds": first["seconds"],
        "first_host": first["host"],
        "first_notes": first["notes"],
        **_run(model, kind, known, options.steps, device),
    }


def _run(model: Watched, kind: str, known: Known, steps: int, device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    picture = Image.new("RGBA", (512, 512))
    ImageDraw.Draw(picture).ellipse((60, 60, 450, 450), fill=(200, 120, 40, 255))
    folder = tempfile.TemporaryDirectory()
    settings = GenerateSettings(resolution=kind).with_values({f"{stage}.steps": steps for stage in SAMPLERS})
    asset = Asset.create(Path(folder.name) / "run.genesis", [picture], settings, "random")
    stages: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    watch = DeviceWatch(device)

    def tell(event: Event) -> None:
        if event.kind == EventKind.NOTE:
            notes.append(event.note)
        if event.kind == EventKind.STAGE_FINISHED:
            stages[event.stage] = {"seconds": event.seconds}
            if cuda:
                torch.cuda.synchronize()
                stages[event.stage] |= {"peak": torch.cuda.max_memory_allocated(), "device": watch.most}
                torch.cuda.reset_peak_memory_stats()

    predicted = model.prepare(model.plan(kind))
    start = time.perf_counter()
    error = ""
    with injected(known), folder:
        try:
            generate(asset, model, tell)
        except Exception as problem:  # noqa: BLE001  what was measured until then is worth having
            traceback.print_exc()
            error = f"{type(problem).__name__}: {problem}"
    seconds = time.perf_counter() - start
    on_device, on_host = watch.stop()
    return {
        "resolution": known.voxels.resolution,
        "tokens": len(known.latent),
        "voxels": len(known.voxels.coords),
        "seconds": seconds,
        "predicted": predicted,
        "peak": max((use.get("peak", 0) for use in model.uses), default=0),
        "device": on_device,
        "host": on_host,
        "stages": stages,
        "uses": model.uses,
        "notes": notes,
        "failed": error,
    }


def print_row(row: dict[str, Any], unlimited: float | None) -> None:
    """A row of the table, then its stages and networks."""
    name = f"{row['type']} {'unlimited' if row['budget_gb'] is None else str(row['budget_gb']) + ' GB'}"
    ratio = f"{row['seconds'] / unlimited:.2f} of unlimited" if unlimited else ""
    aim = AIMS.get((row["type"], row["budget_gb"]))
    if unlimited and aim:
        ratio += f" (aim {aim})"
    print(
        f"{name:24} {row['seconds']:7.1f} s  {ratio}  {row['tokens']} tokens, {row['voxels']} voxels"
        f"  networks {row['peak'] / 1e9:.2f} GB, predicted {row['predicted'] / 1e9:.2f}; device {row['device'] / 1e9:.2f} GB,"
        f" host {max(row['host'], row['first_host']) / 1e9:.1f} GB more",
        flush=True,
    )
    words = [f"{k} {v['seconds']:.1f} s {v.get('peak', 0) / 1e9:.2f} GB" for k, v in row["stages"].items()]
    print(f"   before it, one step a stage, with compiling: {row['first_seconds']:.1f} s", *row["first_notes"], flush=True)
    print("   stages:", "  ".join(words), flush=True)
    for use in row["uses"]:
        if "predicted" in use:
            off = 100 * (use["predicted"] / use["peak"] - 1) if use.get("peak") else 0.0
            print(
                f"   {use['role']:28} rung {use['rung']} {use['seconds']:6.2f} s  peak {use.get('peak', 0) / 1e9:5.2f} GB"
                f"  predicted {use['predicted'] / 1e9:5.2f} ({off:+.0f} %)",
                flush=True,
            )
    if row["failed"]:
        print(f"   FAILED: {row['failed'][:600]}", flush=True)
    for note in row["notes"]:
        print(f"   note: {note}", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="TYPE:GB", help="only these, such as 1024_cascade:8 or 1024_cascade:none")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9, help="no row starts after this")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the weights are written, and removed")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # as a budget does, before the first tensor
    pairs = [tuple(text.split(":")) for text in chosen.rows]
    rows = [(kind, None if size == "none" else float(size)) for kind, size in pairs] or list(ROWS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began, results, unlimited = time.perf_counter(), [], {}
    with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
        size = write_model(Path(place), chosen.tiny)
        print(f"{size / 1e9:.1f} GB of weights written, {time.perf_counter() - began:.0f} s gone", flush=True)
        shared = Shared(device, Path(place))
        for kind, budget in rows:
            if time.perf_counter() - began > chosen.seconds:
                break
            try:
                row = run_row(kind, budget, chosen, shared)
                if budget is None and not row["failed"]:
                    unlimited[kind] = row["seconds"]
                results.append(row)
                print_row(row, unlimited.get(kind))
            except Exception:  # noqa: BLE001  the other rows are worth having
                traceback.print_exc()
            if chosen.json:
                chosen.json.write_text(json.dumps(results, indent=1))
            print(f"   {time.perf_counter() - began:.0f} s gone", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
