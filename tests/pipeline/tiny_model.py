# SPDX-License-Identifier: Apache-2.0
"""A complete model folder with random weights, small enough to generate in about a second: 4^3 cells, 32^3 voxels.

The structure decoder's bias is chosen so that about a sixth of the cells is occupied whatever the picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from genesis_server.networks.image_encoder import DinoV3FeatureExtractor
from genesis_server.networks.registry import build

LATENT, TOKENS = 4, 16
FLOW = {
    "model_channels": 24,
    "cond_channels": TOKENS,
    "num_blocks": 1,
    "num_heads": 2,
    "mlp_ratio": 2,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}
DECODER = {
    "model_channels": [32, 16, 16, 16],
    "latent_channels": LATENT,
    "num_blocks": [0, 0, 0, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 4,
    "up_block_type": ["SparseResBlockC2S3d"] * 3,
}
ENCODER_OF_MESHES = {
    "model_channels": [16, 16, 16, 32],
    "latent_channels": LATENT,
    "num_blocks": [0, 0, 0, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 4,
    "down_block_type": ["SparseResBlockS2C3d"] * 3,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "sparse_structure_flow_model": {
        "name": "SparseStructureFlowModel",
        "args": {"resolution": 4, "in_channels": LATENT, "out_channels": LATENT, **FLOW},
    },
    "sparse_structure_decoder": {
        "name": "SparseStructureDecoder",
        "args": {
            "out_channels": 1,
            "latent_channels": LATENT,
            "num_res_blocks": 1,
            "num_res_blocks_middle": 1,
            "channels": [8, 8],
        },
    },
    "shape_slat_decoder": {"name": "FlexiDualGridVaeDecoder", "args": {"resolution": 32, **DECODER}},
    "shape_slat_encoder": {"name": "FlexiDualGridVaeEncoder", "args": ENCODER_OF_MESHES},
    "tex_slat_decoder": {
        "name": "SparseUnetVaeDecoder",
        "args": {"out_channels": 6, "pred_subdiv": False, **DECODER},
    },
    "shape_slat_flow_model_32": {
        "name": "SLatFlowModel",
        "args": {"resolution": 4, "in_channels": LATENT, "out_channels": LATENT, **FLOW},
    },
    "tex_slat_flow_model_32": {
        "name": "SLatFlowModel",
        "args": {"resolution": 4, "in_channels": 2 * LATENT, "out_channels": LATENT, **FLOW},
    },
}
ENCODER = {
    "model_type": "dinov3_vit",
    "hidden_size": TOKENS,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 16,
    "num_register_tokens": 1,
    "image_size": 32,
}


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write the model folder and return it; the same seed gives the same weights."""
    generator = torch.Generator().manual_seed(seed)
    (folder / "ckpts").mkdir(parents=True)
    for role, config in NETWORKS.items():
        network = build(config)
        state = network.state_dict()
        with torch.no_grad():
            for name, value in state.items():
                if value.is_floating_point() and name != "rope_phases":
                    spread = 0.3 if value.ndim > 1 else 0.05
                    value.copy_(torch.randn(value.shape, generator=generator) * spread)
        if role == "sparse_structure_decoder":
            logits = network(torch.randn(1, LATENT, 4, 4, 4, generator=generator))
            state["out_layer.2.bias"] -= logits.flatten().quantile(0.97)
        if role == "shape_slat_decoder":
            # about half of the children exist at each level, so that the object neither vanishes nor fills its cells
            state["output_layer.bias"][3:6] += 0.3
        stored = {name: value.clone() for name, value in state.items() if name != "rope_phases"}
        (folder / "ckpts" / f"{role}.json").write_text(json.dumps(config))
        save_file(stored, folder / "ckpts" / f"{role}.safetensors")
    torch.manual_seed(seed)
    encoder = DinoV3FeatureExtractor(ENCODER)
    (folder / "image_encoder").mkdir()
    (folder / "image_encoder" / "config.json").write_text(json.dumps(ENCODER))
    tensors = {name: value.clone().contiguous() for name, value in encoder.checkpoint_state().items()}
    save_file(tensors, folder / "image_encoder" / "model.safetensors")
    (folder / "pipeline.json").write_text(json.dumps(configuration()))
    return folder


def configuration() -> dict[str, Any]:
    """What goes into pipeline.json."""
    sampler = {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {"steps": 3, "guidance_strength": 2.0, "guidance_interval": [0.0, 1.0], "rescale_t": 3.0},
    }
    normalisation = {"mean": [0.1] * LATENT, "std": [1.5] * LATENT}
    return {
        "name": "Trellis2ImageTo3DPipeline",
        "args": {
            "models": {role: f"ckpts/{role}" for role in NETWORKS},
            "sparse_structure_sampler": sampler,
            "shape_slat_sampler": sampler,
            "tex_slat_sampler": sampler,
            "shape_slat_normalization": normalisation,
            "tex_slat_normalization": normalisation,
            "image_cond_model": {
                "name": "DinoV3FeatureExtractor",
                "args": {"model_name": "image_encoder", "image_size": 32},
            },
            "rembg_model": None,
            "default_pipeline_type": "32",
        },
    }
