# SPDX-License-Identifier: Apache-2.0
"""A model folder is loaded by role, strictly, or the file at fault is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from genesis_server.pipeline import model as model_room
from genesis_server.pipeline.config import ModelConfig
from genesis_server.pipeline.model import ENCODER, Model
from genesis_server.protocol.errors import ErrorCode, GenesisError
from tests.pipeline.tiny_model import configuration

DATA = Path(__file__).resolve().parents[1] / "data" / "pipeline"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def failure(folder: Path, config_file: str = "pipeline.json") -> GenesisError:
    with pytest.raises(GenesisError) as caught:
        Model.load(str(folder), "cpu", config_file)
    assert caught.value.remedy
    return caught.value


def test_networks_are_loaded_when_first_used_and_kept(tiny_model: Path) -> None:
    model = Model.load(str(tiny_model), "cpu")
    with model.network("shape_slat_decoder") as first:
        pass
    with model.network("shape_slat_decoder") as second:
        assert first is second
    with model.network(ENCODER) as encoder:
        assert not encoder.training


def test_the_plan_follows_from_the_networks(tiny_model: Path) -> None:
    plan = Model.load(str(tiny_model), "cpu").plan()
    assert (plan.grid, plan.ratio, plan.resolution, plan.image_sizes) == (4, 8, 32, (32,))


def test_a_network_that_waits_on_the_host_keeps_its_precision_for_the_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a memory budget networks are loaded into host memory first; float32, a CPU's, would take the GPU twice the room."""
    role = "shape_slat_flow_model_32"
    path = folder / "ckpts" / f"{role}.json"
    config = json.loads(path.read_text())
    config["args"]["dtype"] = "bfloat16"
    path.write_text(json.dumps(config))
    monkeypatch.setattr(model_room, "device_budget", lambda device, wanted: 4 * 10**9)
    for device, expected in (("cuda", torch.bfloat16), ("cpu", torch.float32)):
        network = Model.load(str(folder), device)._loaders[role](torch.device("cpu"))
        assert network.blocks[0].self_attn.to_qkv.weight.dtype == expected


def test_a_missing_configuration_network_or_encoder_is_named(folder: Path) -> None:
    error = failure(folder, "texturing_pipeline.json")
    assert error.code == ErrorCode.MODEL_MISSING and "texturing_pipeline.json" in error.message
    (folder / "ckpts" / "tex_slat_decoder.safetensors").unlink()
    error = failure(folder)
    assert error.code == ErrorCode.MODEL_MISSING and "ckpts/tex_slat_decoder" in error.message
    shutil.rmtree(folder / "image_encoder")
    shutil.copy(folder / "ckpts" / "shape_slat_decoder.safetensors", folder / "ckpts" / "tex_slat_decoder.safetensors")
    error = failure(folder)
    assert error.code == ErrorCode.MODEL_MISSING and "image_encoder" in error.message


def test_an_empty_folder_is_not_a_model(tmp_path: Path) -> None:
    assert "pipeline.json" in failure(tmp_path).message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"args": {}}', '{"args": {"models": 3}}'])
def test_a_damaged_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "pipeline.json").write_text(text)
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and "pipeline.json" in error.message


def test_a_model_of_another_kind_is_called_by_its_name(folder: Path) -> None:
    values = json.loads((folder / "pipeline.json").read_text())
    (folder / "pipeline.json").write_text(json.dumps(values | {"name": "TrellisImageTo3DPipeline"}))
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and "describes a TrellisImageTo3DPipeline" in error.message


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    shutil.copy(folder / "ckpts" / "shape_slat_decoder.safetensors", folder / "ckpts" / "tex_slat_decoder.safetensors")
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and "to_subdiv" in error.message


@pytest.mark.parametrize("name", ["ckpts/tex_slat_decoder.safetensors", "image_encoder/model.safetensors"])
def test_half_downloaded_weights_are_refused_before_any_work(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-100])
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and name in error.message


def test_the_encoder_may_lie_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = (folder / "image_encoder").rename(tmp_path / "dinov3")
    monkeypatch.setenv("GENESIS_IMAGE_ENCODER", str(elsewhere))
    with Model.load(str(folder), "cpu").network(ENCODER) as encoder:
        assert encoder is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 384}, "gives tokens of 384 values, and this model takes"),
        ({"model_type": "dinov2"}, "is of type 'dinov2'"),
        (None, "does not describe a network: JSONDecodeError"),
    ],
)
def test_another_image_encoder_is_refused_before_any_work(folder: Path, change: dict | None, said: str) -> None:
    path = folder / "image_encoder" / "config.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and said in error.message and str(folder / "image_encoder") in error.message


@pytest.mark.parametrize("name", ["ckpts/shape_slat_decoder.safetensors", "image_encoder/model.safetensors"])
def test_a_clone_without_its_large_files_is_told_how_to_get_them(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 948490494\n")
    error = failure(folder)
    assert error.code == ErrorCode.BAD_MODEL and name in error.message and "git lfs pull" in error.remedy


def test_identity_changes_with_the_weights(folder: Path) -> None:
    before = Model.load(str(folder), "cpu").identity
    config = json.loads((folder / "pipeline.json").read_text())
    config["args"]["shape_slat_normalization"]["mean"][0] = 9.0
    (folder / "pipeline.json").write_text(json.dumps(config))
    assert Model.load(str(folder), "cpu").identity != before


@pytest.mark.parametrize("name", ["pipeline", "texturing_pipeline"])
def test_the_published_configuration_is_read(name: str) -> None:
    config = ModelConfig.read(DATA / f"{name}.reconstructed.json")
    texture = config.samplers["texture"]
    assert (texture.steps, texture.guidance_strength, texture.guidance_interval) == (12, 1.0, (0.6, 0.9))
    assert config.low_vram and config.image_size is None and config.encoder.startswith("facebook/dinov3")
    assert set(config.samplers) == ({"structure", "shape", "texture"} if name == "pipeline" else {"texture"})
    raw = torch.randn(5, 32)
    assert torch.allclose(config.shape.undo(config.shape.apply(raw)), raw, atol=1e-5)  # float32 there and back


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape_slat_normalization", {"mean": [1.0], "std": [0.0]}),
        ("shape_slat_normalization", {"mean": [1.0], "std": [1.0, 2.0]}),
        ("image_cond_model", {"name": "DinoV2FeatureExtractor", "args": {"model_name": "x"}}),
    ],
)
def test_values_that_cannot_work_are_refused(key: str, value: dict) -> None:
    values = configuration()
    values["args"][key] = value
    with pytest.raises(ValueError, match="normalisation|DinoV2"):
        ModelConfig.parse(values)


def test_a_background_remover_is_used_where_its_weights_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("RGB", (48, 32), "white")
    assert "no weights" in Model.load(str(folder), "cpu").remover().remove(picture).method
    (tmp_path / "BiRefNet").mkdir()
    weights = tmp_path / "BiRefNet" / "model.safetensors"
    weights.touch()

    class Linear(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * 9

    monkeypatch.setenv("GENESIS_REMOVER", str(weights))
    monkeypatch.setattr("genesis_server.networks.birefnet.load_birefnet", lambda path, device: Linear())
    model = Model.load(str(folder), "cpu")
    removal = model.remover().remove(picture)
    assert model.remover_name == removal.method == "BiRefNet"
    assert removal.picture.getpixel((5, 5))[3] == 255


def test_latent_encoders_may_be_missing(folder: Path) -> None:
    config = json.loads((folder / "pipeline.json").read_text())
    config["args"]["models"]["shape_slat_encoder"] = "ckpts/shape_enc"
    (folder / "pipeline.json").write_text(json.dumps(config))
    assert Model.load(str(folder), "cpu").plan().grid == 4
