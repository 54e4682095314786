# SPDX-License-Identifier: Apache-2.0
"""Makes a packaged model's guesses of roughness as bold as they deserve (docs/spec/mini.md 7).

From one picture under unknown light roughness is little more than a guess, and guidance makes guesses bolder than is good for
their mean error. The scale and offset that make it smallest, on objects that are neither trained on nor held out, become part
of the texture decoder's last layer.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genesis_server.mini.config import STEMS
from genesis_server.mini.evaluate import CHUNK, VIEW, draw, generate, pictures_of, positions_of, truths_of
from genesis_server.mini.structure_training import CALIBRATION_SEED
from genesis_server.mini.world import World
from genesis_server.pipeline.model import Model

ROUGHNESS = 4  # column of the attributes
SCALES = [0.5 + 0.05 * step for step in range(11)]
OFFSETS = [0.02 * step - 0.1 for step in range(16)]


def calibrate_roughness(folder: Path, objects: int = 48, device: torch.device | str | None = None) -> dict[str, Any]:
    """Measure on `objects` objects and rewrite the texture decoder in `folder`; what was found, for the run's log."""
    pairs = _found_and_true(Model.load(str(folder), device), objects)
    errors = {choice: _error(pairs, *choice) for choice in itertools.product(SCALES, OFFSETS)}
    scale, offset = min(errors, key=errors.get)
    path = (folder / "ckpts" / STEMS["texture_decoder"]).with_suffix(".safetensors")
    state = load_file(path)
    weight, bias = state["output_layer.weight"].float(), state["output_layer.bias"].float()
    weight[ROUGHNESS] *= scale
    bias[ROUGHNESS] = scale * bias[ROUGHNESS] + (scale - 1) + 2 * offset  # the network's values are 2 r - 1
    state["output_layer.weight"], state["output_layer.bias"] = weight.half(), bias.half()
    save_file(state, path, metadata={"format": "pt"})
    measured = {"error_before": _error(pairs, 1.0, 0.0), "error": errors[scale, offset]}
    return {"objects": objects, "scale": round(scale, 2), "offset": round(offset, 2), **measured}


def _found_and_true(model: Model, objects: int) -> list[tuple[Tensor, Tensor]]:
    """Per object the roughness of its visible pixels, as found and as it is."""
    world = World(model.device, model.plan().resolution, model.config.image_size)
    size, pairs = CHUNK[model.device.type], []
    for start in range(0, objects, size):
        chosen = world.objects(CALIBRATION_SEED, start, min(size, objects - start))
        results = generate(model, [(picture,) for picture in pictures_of(world, chosen, model)])
        for result, truth in zip(results, truths_of(world, chosen, model), strict=True):
            if result is not None:
                drawn, attributes = draw(positions_of(result[1]), result[1].attributes, VIEW)
                both = drawn & truth.mask
                pairs.append((attributes[both][:, ROUGHNESS], truth.metallic_roughness[both][:, 1]))
    return pairs


def _error(pairs: list[tuple[Tensor, Tensor]], scale: float, offset: float) -> float:
    errors = [((scale * found + offset).clamp(0, 1) - true).abs().mean() for found, true in pairs if len(found)]
    return round(float(torch.stack(errors).mean()), 5)
