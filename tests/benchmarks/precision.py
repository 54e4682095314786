# SPDX-License-Identifier: Apache-2.0
"""How far each precision drifts from float32 with a small model: `python -m tests.benchmarks.precision [--pictures N]`.

Every stage runs from the float32 inputs of the stage, with the same noise, once per precision; so the lines add up and do
not hide each other. Structure: cells that differ. Latents: relative L2 error. Decoders: voxels that differ, and the mean and
largest colour error of common voxels in 255ths. The image encoder with half precision products is compared on its tokens.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genesis_server.networks.float8 import use_float8
from genesis_server.networks.registry import load_checkpoint
from genesis_server.pipeline.conditioning import Conditioning, encode
from genesis_server.pipeline.cutout import cut_out
from genesis_server.pipeline.latents import Latent, Sampling, Structure, seeded
from genesis_server.pipeline.model import ENCODER, SHAPE_DECODER, STRUCTURE_FLOW, TEXTURE_DECODER, Model
from genesis_server.pipeline.picture import load_picture
from genesis_server.pipeline.shape import sample_shape
from genesis_server.pipeline.structure import sample_structure
from genesis_server.pipeline.texture import sample_texture
from genesis_server.sparse.tensor import SparseTensor

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ("cupcake", "chair", "barrel", "teddy_bear", "cactus", "stone_lantern")
FLOAT8 = "8-bit products"
FLOW_MODES = {"bfloat16": torch.bfloat16, "float16": torch.float16, FLOAT8: FLOAT8}


class Run:
    """One picture through the small model, each stage in any precision."""

    def __init__(self, model: Model, picture: Path) -> None:
        self.model, self.plan = model, model.plan()
        self.joined, self.steps = False, 0  # late steps as in the fast mode; other than the model's number of steps
        cutout = cut_out(load_picture(picture), "auto", model.remover()).picture
        with model.network(ENCODER) as encoder:
            self.encoder = encoder
            self.picture = cutout
            self.tokens = [encode(encoder, [cutout], size, model.config.framing) for size in self.plan.image_sizes]

    def sampling(self, stage: str) -> Sampling:
        changes = {"merge_late": self.joined} | ({"steps": self.steps} if self.steps else {})
        return Sampling(self.model.config.samplers[stage].replace(changes))

    def structure(self) -> Structure:
        return sample_structure(self.model, self.plan, self.tokens, seeded(0), self.sampling("structure"))

    def shape(self, structure: Structure) -> Latent:
        return sample_shape(self.model, self.plan, structure, self.tokens, seeded(1), self.sampling("shape"))

    def texture(self, shape: Latent) -> Latent:
        return sample_texture(self.model, self.plan, shape, self.tokens, seeded(2), self.sampling("texture"))

    def decode(self, shape: Latent, texture: Latent) -> tuple[Tensor, Tensor]:
        """Voxels int32 `[N, 4]` and colours `[N, 6]`."""
        with torch.inference_mode():
            voxels = self.model._loaded[SHAPE_DECODER](SparseTensor(shape.feats, shape.coords))
            latent = SparseTensor(texture.feats, texture.coords)
            colours = self.model._loaded[TEXTURE_DECODER](latent, guide_subs=voxels.subs).feats.float() * 0.5 + 0.5
        return voxels.coords, colours


def in_precision(model: Model, role: str, dtype: torch.dtype | str) -> Any:
    """A network of the model in another precision for a `with` block; FLOAT8 as the fast mode's GPUs have it."""

    class Swap:
        def __enter__(self) -> None:
            self.before = model._loaded[role]
            model._loaded[role] = reload(model, role, dtype)

        def __exit__(self, *_: object) -> None:
            model._loaded[role] = self.before

    return Swap()


def reload(model: Model, role: str, dtype: torch.dtype | str) -> nn.Module:
    (stem,) = model._loaders[role].args
    if dtype == FLOAT8:
        return use_float8(load_checkpoint(stem, "cpu", torch.bfloat16))
    return load_checkpoint(stem, "cpu", dtype)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def keys(coords: Tensor) -> Tensor:
    b, x, y, z = coords.long().unbind(1)
    return ((b * 4096 + x) * 4096 + y) * 4096 + z


def differing(a: Tensor, b: Tensor) -> float:
    """Share of cells that only one of two sets has."""
    a, b = keys(a), keys(b)
    common = int(torch.isin(a, b).sum())
    union = len(a) + len(b) - common
    return (union - common) / union


def measure(run: Run, table: dict[str, list[tuple[float, ...]]]) -> None:
    model, plan = run.model, run.plan
    structure = run.structure()
    shape = run.shape(structure)
    texture = run.texture(shape)
    for role in (SHAPE_DECODER, TEXTURE_DECODER):
        with model.network(role):
            pass
    voxels, colours = run.decode(shape, texture)
    for name, dtype in FLOW_MODES.items():
        with in_precision(model, STRUCTURE_FLOW, dtype):
            table[f"structure flow {name}: cells that differ, %"].append(
                (100 * differing(run.structure().coords, structure.coords),)
            )
        with in_precision(model, plan.shape[-1].role, dtype):
            table[f"shape flow {name}: relative L2"].append((relative(run.shape(structure).feats, shape.feats),))
        with in_precision(model, plan.texture.role, dtype):
            painted = run.texture(shape)
            table[f"texture flow {name}: relative L2"].append((relative(painted.feats, texture.feats),))
            error = (run.decode(shape, painted)[1] - colours)[:, :3].abs() * 255
            table[f"texture flow {name}: colour, mean and largest"].append((float(error.mean()), float(error.max())))
    with in_precision(model, SHAPE_DECODER, torch.float16):
        half, _ = run.decode(shape, texture)
        table["shape decoder float16: voxels that differ, %"].append((100 * differing(half, voxels),))
    with in_precision(model, TEXTURE_DECODER, torch.float16):
        error = (run.decode(shape, texture)[1] - colours)[:, :3].abs() * 255
        table["texture decoder float16: colour, mean and largest"].append((float(error.mean()), float(error.max())))
    run.joined = True
    table["shape, late steps joined: relative L2"].append((relative(run.shape(structure).feats, shape.feats),))
    with in_precision(model, plan.shape[-1].role, FLOAT8):
        table["shape, fast: relative L2"].append((relative(run.shape(structure).feats, shape.feats),))
    run.joined, run.steps = False, 12  # as many as the published texture stage has; the small model has half
    texture = run.texture(shape)
    colours = run.decode(shape, texture)[1]
    run.joined = True
    painted = run.texture(shape)
    table["texture of 12 steps, late ones joined: relative L2"].append((relative(painted.feats, texture.feats),))
    error = (run.decode(shape, painted)[1] - colours)[:, :3].abs() * 255
    table["texture of 12 steps, late ones joined: colour, mean and largest"].append((float(error.mean()), float(error.max())))
    run.joined, run.steps = False, 0
    size = plan.image_sizes[-1]
    exact = run.tokens[-1].views[0]
    for name in ("bfloat16", "float16"):
        with torch.inference_mode(), torch.autocast("cpu", FLOW_MODES[name]):
            halved: Conditioning = encode(run.encoder, [run.picture], size, model.config.framing)
        table[f"image encoder, {name} products: relative L2"].append((relative(halved.views[0], exact),))
    table["tokens rounded to bfloat16, as flows do: relative L2"].append((relative(exact.bfloat16(), exact),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=len(PICTURES))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    model = Model.load("mini", "cpu")
    table: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for name in PICTURES[: chosen.pictures]:
        measure(Run(model, ROOT / "examples" / f"{name}.png"), table)
    rows = {line: [sum(column) / len(column) for column in zip(*values, strict=True)] for line, values in table.items()}
    for line, values in rows.items():
        print(f"{line:58}", "  ".join(f"{value:.3g}" for value in values))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    head = {"machine": platform.processor() or "cpu", "torch": torch.__version__, "commit": commit, "seed": 0}
    if chosen.json:
        chosen.json.write_text(
            json.dumps(head | {"model": model.identity, "pictures": chosen.pictures, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
