# SPDX-License-Identifier: Apache-2.0
"""A model gets the device that can run it, or an error that says why there is none."""

import pytest
import torch

from genesis_server.pipeline.device import choose_device
from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

SMALL, LARGE = 40 << 20, 16 << 30


def gpu(
    monkeypatch: pytest.MonkeyPatch, available: bool, capability: tuple[int, int] = (8, 9), build: str | None = "13.0"
) -> None:
    monkeypatch.delenv("GENESIS_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA GeForce GTX 1080")
    monkeypatch.setattr(torch.version, "cuda", build)


def reason(weights: int) -> str:
    with pytest.raises(GenesisError) as caught:
        choose_device(weights, "microsoft/TRELLIS.2-4B")
    assert caught.value.code == ErrorCode.GPU_UNUSABLE and caught.value.action == Remedy.USE_MINI
    assert "mini" in caught.value.remedy
    return str(caught.value)


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, True)
    assert choose_device(LARGE, "any").type == choose_device(SMALL, "any").type == "cuda"
    monkeypatch.setenv("GENESIS_CPU", "1")
    assert choose_device(SMALL, "any").type == "cpu"


def test_an_old_driver_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, False)

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.\nMore.")

    monkeypatch.setattr(torch.cuda, "init", init)
    said = reason(LARGE)
    assert "too old (found version 11040)" in said and "Update the NVIDIA driver" in said
    assert choose_device(SMALL, "mini").type == "cpu", "the small model runs all the same"


def test_an_old_gpu_and_a_build_without_cuda_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, True, (6, 1))
    assert "GTX 1080 (compute capability 6.1) is too old" in reason(LARGE)
    gpu(monkeypatch, False, build=None)
    assert "CPU build" in reason(LARGE)
