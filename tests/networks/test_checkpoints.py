# SPDX-License-Identifier: Apache-2.0
"""Checkpoints load strictly by key, in the published dtypes and sizes, and every misfit is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genesis_server.networks.image_encoder import DinoV3FeatureExtractor, load_image_encoder
from genesis_server.networks.registry import build, load_checkpoint
from genesis_server.protocol.errors import ErrorCode, GenesisError

GOLDENS = Path(__file__).parents[1] / "data" / "networks"

FLOW = {
    "model_channels": 1536,
    "cond_channels": 1024,
    "num_blocks": 30,
    "num_heads": 12,
    "mlp_ratio": 5.3334,
    "pe_mode": "rope",
    "share_mod": True,
    "initialization": "scaled",
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
    "dtype": "bfloat16",
}
DECODER = {
    "model_channels": [1024, 512, 256, 128, 64],
    "latent_channels": 32,
    "num_blocks": [4, 16, 8, 4, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "block_args": [{}] * 5,
    "use_fp16": True,
}
ENCODER = {
    "model_channels": [64, 128, 256, 512, 1024],
    "latent_channels": 32,
    "num_blocks": [0, 4, 8, 16, 4],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "down_block_type": ["SparseResBlockS2C3d"] * 4,
    "use_fp16": True,
}
STRUCTURE = {"latent_channels": 8, "num_res_blocks": 2, "num_res_blocks_middle": 2, "use_fp16": True}
PUBLISHED = [  # class, arguments, parameters, tensors: docs/spec/networks.md 1 and 9
    ("SparseStructureFlowModel", FLOW | {"resolution": 16, "in_channels": 8, "out_channels": 8}, 1_292_179_976, 640),
    ("SLatFlowModel", FLOW | {"resolution": 32, "in_channels": 32, "out_channels": 32}, 1_292_253_728, 640),
    ("ElasticSLatFlowModel", FLOW | {"resolution": 64, "in_channels": 64, "out_channels": 32}, 1_292_302_880, 640),
    ("SparseStructureDecoder", STRUCTURE | {"out_channels": 1, "channels": [512, 128, 32]}, 73_671_201, 74),
    ("SparseStructureEncoder", STRUCTURE | {"in_channels": 1, "channels": [32, 128, 512]}, 59_298_192, 74),
    ("FlexiDualGridVaeDecoder", DECODER | {"resolution": 256}, 474_231_463, 292),
    ("SparseUnetVaeDecoder", DECODER | {"out_channels": 6, "pred_subdiv": False}, 474_216_006, 284),
    ("FlexiDualGridVaeEncoder", ENCODER, 354_385_392, 284),
    ("SparseUnetVaeEncoder", ENCODER | {"in_channels": 6}, 354_385_392, 284),
]


@pytest.mark.parametrize("name, args, parameters, tensors", PUBLISHED)
def test_published_configuration_has_the_published_size(name, args, parameters, tensors):
    with torch.device("meta"):
        network = build({"name": name, "args": args})
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors


def test_flow_keeps_only_the_linear_layers_of_blocks_in_half_precision():
    with torch.device("meta"):
        network = build({"name": "SLatFlowModel", "args": FLOW | {"resolution": 32, "in_channels": 32, "out_channels": 32}})
    half = {n for n, p in network.named_parameters() if p.dtype == torch.bfloat16}
    linear = {n for n in network.state_dict() if n.startswith("blocks.") and any(k in n for k in (".to_", ".mlp."))}
    assert half == linear


def test_sparse_decoder_keeps_norms_and_outer_layers_in_full_precision():
    with torch.device("meta"):
        network = build({"name": "FlexiDualGridVaeDecoder", "args": DECODER | {"resolution": 256}})
    full = {n for n, p in network.named_parameters() if p.dtype == torch.float32}
    outer = {n for n in network.state_dict() if "norm" in n or n.startswith(("from_latent.", "output_layer."))}
    assert full == outer


def checkpoint(folder: Path, case: str) -> Path:
    shutil.copyfile(GOLDENS / case / "config.json", folder / "net.json")
    shutil.copyfile(GOLDENS / case / "state_dict.safetensors", folder / "net.safetensors")
    return folder / "net"


def edit(stem: Path, change) -> None:
    state = load_file(f"{stem}.safetensors")
    change(state)
    save_file(state, f"{stem}.safetensors")


def refusal(stem: Path) -> GenesisError:
    with pytest.raises(GenesisError) as caught:
        load_checkpoint(stem)
    assert caught.value.remedy
    return caught.value


def test_checkpoint_loads_frozen_and_in_float32_on_a_cpu(tmp_path):
    network = load_checkpoint(checkpoint(tmp_path, "ss_flow"))
    assert not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in network.parameters())


def test_weights_that_wait_on_the_host_for_a_gpu_are_as_configured(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    config = json.loads(Path(f"{stem}.json").read_text())
    config["args"]["dtype"] = "bfloat16"
    Path(f"{stem}.json").write_text(json.dumps(config))
    waiting, staying = load_checkpoint(stem, "cpu", computes_on="cuda"), load_checkpoint(stem, "cpu")
    kept = [network.blocks[0].self_attn.to_qkv.weight.dtype for network in (waiting, staying)]
    assert kept == [torch.bfloat16, torch.float32] and waiting.dtype == torch.bfloat16


def test_recomputed_tables_may_be_in_the_file(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    edit(stem, lambda state: state.update(rope_phases=torch.zeros(64, 16, dtype=torch.complex64)))
    assert load_checkpoint(stem).pe_mode == "rope"


def test_missing_parameter_is_named(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    edit(stem, lambda state: state.pop("blocks.1.norm2.weight"))
    error = refusal(stem)
    assert error.code is ErrorCode.BAD_MODEL and "blocks.1.norm2.weight" in error.message


def test_unexpected_parameter_is_named(tmp_path):
    stem = checkpoint(tmp_path, "sc_vae_tex_decoder")
    edit(stem, lambda state: state.update({"blocks.0.1.to_subdiv.bias": torch.zeros(8)}))
    assert "blocks.0.1.to_subdiv.bias" in refusal(stem).message


def test_parameter_of_another_shape_is_named(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    edit(stem, lambda state: state.update({"out_layer.bias": torch.zeros(9)}))
    assert "out_layer.bias" in refusal(stem).message


def test_half_downloaded_weights_are_refused(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    path = Path(f"{stem}.safetensors")
    path.write_bytes(path.read_bytes()[:5000])
    assert refusal(stem).code is ErrorCode.BAD_MODEL


def test_absent_weights_are_a_missing_model(tmp_path):
    stem = checkpoint(tmp_path, "ss_flow")
    Path(f"{stem}.safetensors").unlink()
    assert refusal(stem).code is ErrorCode.MODEL_MISSING
    assert refusal(tmp_path / "nowhere").code is ErrorCode.MODEL_MISSING


@pytest.mark.parametrize(
    "config",
    [
        {"name": "os.system", "args": {}},
        {"name": "SLatFlowModel", "args": {"resolution": 32}},
        {"name": "SLatFlowModel", "args": FLOW | {"resolution": 1, "in_channels": 8, "out_channels": 8, "dtype": "int4"}},
        {"name": "SparseUnetVaeEncoder", "args": ENCODER | {"in_channels": 6, "block_type": ["Unknown"] * 5}},
        {"name": "SparseStructureFlowModel", "args": FLOW | {"resolution": 4, "in_channels": 8, "surprise": 1}},
    ],
)
def test_unknown_configuration_is_refused(config):
    with torch.device("meta"), pytest.raises(GenesisError) as caught:
        build(config)
    assert caught.value.code is ErrorCode.BAD_MODEL


def encoder_folder(folder: Path) -> Path:
    config = json.loads((GOLDENS / "dinov3" / "config.json").read_text())["args"]["hf_config"]
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "dinov3_vit"}))
    shutil.copyfile(GOLDENS / "dinov3" / "state_dict.safetensors", folder / "model.safetensors")
    return folder


def test_image_encoder_loads_from_a_folder_under_public_names(tmp_path):
    encoder = load_image_encoder(encoder_folder(tmp_path), image_size=64)
    stored = load_file(tmp_path / "model.safetensors")
    assert encoder.checkpoint_state().keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in encoder.checkpoint_state().items())


def test_image_encoder_names_what_is_missing(tmp_path):
    folder = encoder_folder(tmp_path)
    edit(folder / "model", lambda state: state.pop("layer.1.norm1.weight"))
    with pytest.raises(GenesisError, match=r"layer\.1\.norm1\.weight"):
        load_image_encoder(folder)


def test_image_encoder_refuses_sides_that_are_no_multiple_of_the_patch():
    config = json.loads((GOLDENS / "dinov3" / "config.json").read_text())["args"]
    with pytest.raises(GenesisError, match="60 x 64"):
        DinoV3FeatureExtractor(**config)(torch.zeros(1, 3, 64, 60))
