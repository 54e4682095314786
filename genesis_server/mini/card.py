# SPDX-License-Identifier: Apache-2.0
"""Writes the model card from the run's own log: what was trained on what, for how long, and how well it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genesis_server.mini.config import LATENT_CHANNELS
from genesis_server.mini.evaluate import format_table
from genesis_server.mini.supply import HELD_OUT_SEED
from genesis_server.mini.training import Run

CURVE_ROWS = 8
HEADER = """---
license: apache-2.0
pipeline_tag: image-to-3d
---
# genesis-mini

A small image-to-3D model: a picture of one object gives an O-Voxel with base colour, metallic and roughness. It has the
architecture of TRELLIS.2 (sparse structure, shape latent, texture latent; `pipeline.json` in the same schema) at about
19 million parameters, was trained from nothing, and contains no weights of any other model. It exists so that Genesis does
its work on a machine without a GPU and without downloads, and so that its tests can compare results with the truth.
"""
DATA = """## Data

Only procedural objects (`genesis_server/mini/world`): signed distance fields of primitives, revolutions, extrusions and
assemblies with procedural PBR materials, rendered with alpha at {picture} px from the front (pitch 0 to 25 degrees), voxelised
at {resolution}^3. Three of ten are toys and things that people draw (plush animals, dolls, ducks, cakes, guitars, flowers,
shoes, cups, pineapples; since the fourth round), two slender things (chairs, stands, wheels, nets, bare trees; rods down to
1.8 voxels) and fruit (since the third), the others those that the model is measured on. One picture in three is a drawing
(flat or nearly so, most with outlines), one in seven has lines or grain that are only printed on it, four in ten have another
exposure; a quarter to a half of the objects come with a second picture from behind or the side. The structure stage sees
mirror images too. Every object is made once, seen for a while, and replaced; no data set is stored. No photographs, no
models made by people.
"""
TRAINING = """Seed {seed} (held-out objects: seed {held_out}); latents of {channels} channels; Muon on the matrices of
transformer blocks and AdamW on the rest, bfloat16 products over float32 weights, moving averages exported as float16.
Schedules follow the clock. The recipe it started from is `docs/spec/mini.md`. On two GPUs, each pair side by side:

    genesis mini train RUN --phases structure --minutes 8.2
    genesis mini train RUN --phases autoencoders --minutes 8.2

    genesis mini train RUN --phases refinement --minutes 8
    genesis mini train RUN --phases flows --minutes 8

    genesis mini train RUN --phases structure_flow --again --seed 2 --minutes 8.6
    genesis mini train RUN --phases decoders --seed 2 --minutes 4.3

    genesis mini train RUN --phases structure_refinement --again --seed 3 --minutes 8
    genesis mini train RUN --phases latent_flows --again --seed 3 --minutes 8.6

    genesis mini train RUN --phases structure_flow --again --seed 4 --minutes 5
    genesis mini train RUN --phases decoders --again --seed 5 --minutes 1.8

    genesis mini train RUN --phases structure_refinement --again --seed 5 --minutes 6.9
    genesis mini train RUN --phases latent_flows --again --seed 4 --minutes 7.7

    genesis mini train RUN --phases structure_flow --again --seed 7 --minutes 8.5   # one GPU, one after the other
    genesis mini train RUN --phases latent_flows --again --seed 7 --minutes 6.8

    genesis mini train RUN --phases package     # calibrates, writes RUN/weights, measures them, writes this card
"""
LIMITS = """## Limits

- It knows its world: simple single objects, seen from the front or slightly above, on a plain or transparent background. Of
  real photographs expect the right outline and colours and a plausible body; text, faces and fine relief are lost.
- The output is aligned with the first picture. What no picture shows is guessed. Further pictures are taken as those of a
  turntable: two are front and back, four are front, left, back, right.
- Parts thinner than two voxels (1/64 of the object) come out torn, and what is like nothing in its world often comes out
  lumpy. What was made is fitted to the picture's outline (`pipeline/outline.py`): what stands beside it goes, gaps in it are
  closed by round rods. What no picture shows stays as it was guessed.
- Depth is the least certain of the three directions.
- Alpha is always opaque. Metallic and roughness are guesses from one picture under unknown light.
"""


def write_card(path: Path, run: Run, report: dict[str, Any]) -> None:
    """Write the card beside the weights."""
    phases = sorted(run.folder.glob("*.done.json"), key=lambda file: file.stat().st_mtime)
    sections = [HEADER, DATA.format(picture=run.sizes.picture, resolution=run.sizes.resolution), "## Training\n"]
    sections.append(TRAINING.format(seed=run.seed, held_out=HELD_OUT_SEED, channels=LATENT_CHANNELS))
    sections.append("| phase | steps | seconds | measured at the end |\n|---|---|---|---|")
    for file in phases:
        for summary in json.loads(file.read_text(encoding="utf-8")):
            measured = [f"{k} {v}" for k, v in summary.items() if k not in ("steps", "seconds", "rates")]
            sections.append(f"| {_name(file)} | {summary['steps']} | {summary['seconds']} | {', '.join(measured)} |")
    sections.append("\n### Curves\n")
    logs = [run.folder / f"{_name(file)}.log.jsonl" for file in phases]
    sections += [_curve(log) for log in logs if log.is_file()]
    sections.append(f"## Results\n\n```\n{format_table(report)}\n```\n\nAgain: `genesis mini evaluate`.\n")
    sections.append(LIMITS)
    path.write_text("\n".join(sections), encoding="utf-8")


def _name(file: Path) -> str:
    return file.name.removesuffix(".done.json")


def _curve(path: Path) -> str:
    """A table of evenly spaced entries of one log; entries that hold only a measurement are merged into the next."""
    entries: list[dict[str, Any]] = []
    pending: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        pending |= json.loads(line)
        if len(pending) > 3:
            entries.append(pending)
            pending = {}
    chosen = [entries[round(i * (len(entries) - 1) / max(1, CURVE_ROWS - 1))] for i in range(min(CURVE_ROWS, len(entries)))]
    columns = list(dict.fromkeys(name for entry in chosen for name in entry if name != "phase"))
    lines = [f"{path.name}\n", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(entry.get(name, '')) for name in columns)} |" for entry in chosen]
    return "\n".join(lines) + "\n"
