# SPDX-License-Identifier: Apache-2.0
"""The image encoder's own layers compute what the library's do, in the precision they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genesis_server.networks import image_encoder
from genesis_server.networks.image_encoder import DinoV3FeatureExtractor, _layers
from genesis_server.networks.norms import FINAL_EPS, plain_layer_norm

GOLDENS = Path(__file__).resolve().parents[1] / "data" / "networks" / "dinov3"
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_register_tokens": 4,
    "layer_norm_eps": 1e-5,
}


def trembling(encoder: DinoV3FeatureExtractor) -> DinoV3FeatureExtractor:
    """Every parameter counts: scales, biases and norms are no ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder.eval().requires_grad_(False)


def embedded(encoder: DinoV3FeatureExtractor, *shape: int):
    pixels = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    return encoder.backbone.embeddings(pixels), encoder.backbone.rope_embeddings(pixels)


def by_library(encoder: DinoV3FeatureExtractor, h: torch.Tensor, phases: tuple) -> torch.Tensor:
    for layer in _layers(encoder.backbone):
        h = layer(h, position_embeddings=phases)
    return plain_layer_norm(h, FINAL_EPS)


@pytest.mark.parametrize("options", [{}, {"key_bias": True}, {"use_gated_mlp": True, "hidden_act": "silu"}])
def test_layers_compute_what_the_librarys_do(options: dict) -> None:
    encoder = trembling(DinoV3FeatureExtractor(SMALL | options))
    for shape in ((1, 3, 64, 64), (2, 3, 48, 32)):  # a second picture, of another size and number
        with torch.inference_mode():
            expected = by_library(encoder, *embedded(encoder, *shape))
            found = encoder.advance_in_half(*embedded(encoder, *shape), torch.float32)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_half_precision_stays_as_close_as_it_is_said_to() -> None:
    args = json.loads((GOLDENS / "config.json").read_text())["args"]
    encoder = DinoV3FeatureExtractor(**args).eval().requires_grad_(False)
    encoder.load_checkpoint_state(load_file(GOLDENS / "state_dict.safetensors"), "golden")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.inference_mode():
        expected = by_library(encoder, *embedded(encoder, 1, 3, 64, 64))
        found = encoder.advance_in_half(*embedded(encoder, 1, 3, 64, 64))
        assert 1e-6 < ((found - expected).norm() / expected.norm()).item() < 2e-3
        assert torch.equal(by_library(encoder, *embedded(encoder, 1, 3, 64, 64)), expected), "the exact weights are still there"
    assert encoder.state_dict().keys() == before.keys(), "and nothing else is stored"


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def test_a_picture_whose_products_overflow_is_computed_from_the_exact_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = trembling(DinoV3FeatureExtractor(SMALL))
    monkeypatch.setattr(image_encoder, "infers_with_kernel", lambda x: True)
    embed, tried = encoder.backbone.embeddings.forward, []
    monkeypatch.setattr(encoder.backbone.embeddings, "forward", lambda pixels: embed(pixels).as_subclass(OnGpu))
    picture = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        monkeypatch.setattr(encoder, "advance_in_half", lambda h, phases: tried.append(1) or torch.full_like(h, torch.nan))
        found = encoder(picture)
        monkeypatch.setattr(image_encoder, "infers_with_kernel", lambda x: False)
        assert torch.equal(found.as_subclass(torch.Tensor), encoder(picture).as_subclass(torch.Tensor)) and tried == [1]


def test_trained_weights_are_rounded_anew() -> None:
    encoder = trembling(DinoV3FeatureExtractor(SMALL))
    h, phases = embedded(encoder, 1, 3, 32, 32)
    with torch.inference_mode():
        before = encoder.advance_in_half(h, phases, torch.float32)
    encoder(torch.rand(1, 3, 32, 32))  # as training does
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    with torch.inference_mode():
        after = encoder.advance_in_half(h, phases, torch.float32)
        torch.testing.assert_close(after, by_library(encoder, h, phases), rtol=0, atol=2e-5)
    assert not torch.allclose(before, after, atol=1e-2)
