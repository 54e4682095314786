# SPDX-License-Identifier: Apache-2.0
"""The published model with random weights, as the benchmarks need it: sizes of its networks, and a folder in its layout."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from genesis_server.networks.image_encoder import DinoV3FeatureExtractor
from genesis_server.pipeline.model import SHAPE_DECODER, STRUCTURE_DECODER, STRUCTURE_FLOW, TEXTURE_DECODER
from tests.benchmarks.network_bench import DECODER, DINO, FLOW, SAMPLERS, random_network

STEMS = {  # docs/spec/pipeline.md 2.2
    STRUCTURE_DECODER: "microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16",
    STRUCTURE_FLOW: "ckpts/ss_flow_img_dit_1_3B_64_bf16",
    SHAPE_DECODER: "ckpts/shape_dec_next_dc_f16c32_fp16",
    "shape_slat_flow_model_512": "ckpts/slat_flow_img2shape_dit_1_3B_512_bf16",
    "shape_slat_flow_model_1024": "ckpts/slat_flow_img2shape_dit_1_3B_1024_bf16",
    TEXTURE_DECODER: "ckpts/tex_dec_next_dc_f16c32_fp16",
    "tex_slat_flow_model_512": "ckpts/slat_flow_imgshape2tex_dit_1_3B_512_bf16",
    "tex_slat_flow_model_1024": "ckpts/slat_flow_imgshape2tex_dit_1_3B_1024_bf16",
}


def published_networks(tiny: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and arguments of every role's network, at the published sizes or as small ones of the same kind."""
    flow = FLOW | ({"model_channels": 64, "num_blocks": 2, "num_heads": 2, "cond_channels": 32} if tiny else {})
    flow |= {"dtype": "bfloat16"}
    decoder = DECODER | ({"model_channels": [64, 32, 32, 16, 16], "num_blocks": [1, 1, 1, 1, 0]} if tiny else {})
    decoder |= {"use_fp16": True}
    sparse = {role: flow | {"in_channels": 32, "out_channels": 32} for role in ("shape", "tex")}
    sparse["tex"] |= {"in_channels": 64}
    configs = {STRUCTURE_FLOW: ("SparseStructureFlowModel", flow)}
    for size in (512, 1024):
        configs |= {f"{role}_slat_flow_model_{size}": ("SLatFlowModel", args) for role, args in sparse.items()}
    blocks = {"num_res_blocks": 2, "num_res_blocks_middle": 2, "channels": [32, 16, 8] if tiny else [512, 128, 32]}
    structure = {"out_channels": 1, "latent_channels": 8, **blocks, "use_fp16": True}
    configs[STRUCTURE_DECODER] = ("SparseStructureDecoder", structure)
    configs[SHAPE_DECODER] = ("FlexiDualGridVaeDecoder", decoder | {"resolution": 256})
    configs[TEXTURE_DECODER] = ("SparseUnetVaeDecoder", decoder | {"out_channels": 6, "pred_subdiv": False})
    return configs


def write_model(folder: Path, tiny: bool) -> int:
    """Write the folder; bytes of its weights (16.5 GB at the published sizes)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    written: dict[str, Path] = {}
    for role, (name, args) in published_networks(tiny).items():
        stem, config = folder / STEMS[role], {"name": name, "args": args}
        stem.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config)
        Path(f"{stem}.json").write_text(text)
        if text in written:  # the networks of 512 and of 1024 have one shape
            shutil.copyfile(f"{written[text]}.safetensors", f"{stem}.safetensors")
            continue
        network = random_network(config, device, torch.bfloat16 if "flow" in role else torch.float16)
        save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, f"{stem}.safetensors")
        written[text] = stem
    encoder = folder / "image_encoder"
    encoder.mkdir()
    args = DINO | ({"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2} if tiny else {})
    (encoder / "config.json").write_text(json.dumps(args | {"model_type": "dinov3_vit"}))
    with device:
        state = DinoV3FeatureExtractor(args).checkpoint_state()
    save_file({name: value.cpu().contiguous() for name, value in state.items()}, encoder / "model.safetensors")
    normalisation = {"mean": [0.0] * 32, "std": [1.0] * 32}
    values = {
        "models": STEMS,
        "sparse_structure_sampler": _sampler("structure"),
        "shape_slat_sampler": _sampler("shape"),
        "tex_slat_sampler": _sampler("texture"),
        **dict.fromkeys(("shape_slat_normalization", "tex_slat_normalization"), normalisation),
        "image_cond_model": {"name": "DinoV3FeatureExtractor", "args": {"model_name": "image_encoder"}},
        "rembg_model": None,
    }
    (folder / "pipeline.json").write_text(json.dumps({"name": "Trellis2ImageTo3DPipeline", "args": values}))
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _sampler(stage: str) -> dict[str, Any]:
    values = dataclasses.asdict(SAMPLERS[stage])
    values.pop("merge_late")
    noise = {"sigma_min": values.pop("sigma_min")}
    return {"name": "FlowEulerGuidanceIntervalSampler", "args": noise, "params": values}
