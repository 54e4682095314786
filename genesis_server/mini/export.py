# SPDX-License-Identifier: Apache-2.0
"""Writes trained weights as a model folder that `hub` and `pipeline` read like any other (docs/spec/pipeline.md 2, 3).

    weights/pipeline.json
    weights/ckpts/<stem>.{json,safetensors}          float16
    weights/image_encoder/{config.json,model.safetensors}   Hugging Face layout, float16

Float16 halves the package; weights of a network this small stay far from its limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from genesis_server.mini.config import STEMS, Sizes, image_encoder_config, network_config
from genesis_server.mini.supply import CAMERA_DISTANCE

PACKAGED = (
    "structure_decoder",
    "structure_flow",
    "shape_encoder",
    "shape_decoder",
    "shape_flow",
    "texture_decoder",
    "texture_flow",
)
# The world's objects fill 0.985 of their pictures (`world/frame.py`), a cutout all of it and a pixel less; measured best of
# .004, .0075 and .011 are the last two, alike.
BORDER = 0.009


def export(
    folder: Path,
    sizes: Sizes,
    states: Mapping[str, Mapping[str, Tensor]],
    normalisation: Mapping[str, Mapping[str, list[float]]],
) -> None:
    """Write a model folder.

    Args:
        folder: made if it is not there; files in it are replaced.
        states: role -> state dict, for `PACKAGED` and "image_encoder" (public names).
        normalisation: "shape" and "texture" -> {"mean": [...], "std": [...]} of the raw latent channels.
    """
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    (folder / "image_encoder").mkdir(exist_ok=True)
    for role in PACKAGED:
        stem = folder / "ckpts" / STEMS[role]
        _write_json(stem.with_suffix(".json"), network_config(role, sizes))
        _write_half(stem.with_suffix(".safetensors"), states[role])
    _write_json(folder / "image_encoder" / "config.json", image_encoder_config(sizes))
    _write_half(folder / "image_encoder" / "model.safetensors", states["image_encoder"])
    _write_json(folder / "pipeline.json", pipeline_config(sizes, normalisation))


# what the panel says beside the model; the model card has it at length
LIMITS = "A small model for simple objects: text, faces and fine detail are lost."


def pipeline_config(sizes: Sizes, normalisation: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """`pipeline.json`: samplers as measured best for this model (docs/spec/mini.md 4, 5)."""
    kind = str(sizes.resolution)
    models = {
        "sparse_structure_decoder": "structure_decoder",
        "sparse_structure_flow_model": "structure_flow",
        "shape_slat_encoder": "shape_encoder",
        "shape_slat_decoder": "shape_decoder",
        f"shape_slat_flow_model_{kind}": "shape_flow",
        "tex_slat_decoder": "texture_decoder",
        f"tex_slat_flow_model_{kind}": "texture_flow",
    }
    return {
        "name": "Trellis2ImageTo3DPipeline",
        "limits": LIMITS,
        "args": {
            "models": {role: f"ckpts/{STEMS[network]}" for role, network in models.items()},
            # three times four steps overlap the truth more than once twelve, and cost the same
            "sparse_structure_sampler": _sampler(2.0, 4),
            "structure_samples": 3,
            "shape_slat_sampler": _sampler(3.0, 12),
            # fewer steps blur colours a little, which is closer to the truth than detail that is invented; guidance makes
            # materials follow the picture
            "tex_slat_sampler": _sampler(2.0, 4),
            "shape_slat_normalization": dict(normalisation["shape"]),
            "tex_slat_normalization": dict(normalisation["texture"]),
            "image_cond_model": {
                "name": "DinoV3FeatureExtractor",
                "args": {
                    "model_name": "image_encoder",
                    "image_size": sizes.picture,
                    "border": BORDER,
                    "camera": CAMERA_DISTANCE,
                    "turntable": True,
                },
            },
            "rembg_model": {"name": "BiRefNet", "args": {"model_name": "ZhengPeng7/BiRefNet"}},
            "low_vram": False,
            "default_pipeline_type": kind,
        },
    }


def _sampler(strength: float, steps: int) -> dict[str, Any]:
    params = {
        "steps": steps,
        "guidance_strength": strength,
        "guidance_rescale": 0.0,
        "guidance_interval": [0.0, 1.0],
        "rescale_t": 3.0,
    }
    return {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": 1e-5}, "params": params}


def _write_half(path: Path, state: Mapping[str, Tensor]) -> None:
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in state.items()}
    save_file(half, path, metadata={"format": "pt"})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
