# SPDX-License-Identifier: Apache-2.0
"""A weights file read in parts is the file that the library reads."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from genesis_server.networks.weight_file import read_to_device, read_to_host


def write(path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "wide": torch.randn(37, 41, generator=generator),
        "half": torch.randn(129, generator=generator).half(),
        "brain": torch.randn(3, 5, 7, generator=generator).bfloat16(),
        "count": torch.tensor(7),
        "nothing": torch.zeros(0, 4),
        "index": torch.arange(11),
        "yes": torch.tensor([True, False, True]),
    }
    save_file(tensors, path, {"format": "pt"})
    return path


@pytest.mark.parametrize("part", [64, 1000, 1 << 20])
def test_every_tensor_is_that_of_the_library_whatever_the_size_of_a_part(tmp_path: Path, part: int) -> None:
    path = write(tmp_path / "a.safetensors")
    expected, found = load_file(path), read_to_device(path, torch.device("cpu"), part)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


def test_host_memory_for_a_gpu_gets_every_tensor_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    expected, found = load_file(path), read_to_host(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
        assert found[name].is_pinned() == torch.cuda.is_available() or not found[name].numel()


def test_a_file_without_tensors_and_one_of_another_kind(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    assert read_to_device(tmp_path / "empty.safetensors", torch.device("cpu")) == {}
    save_file({"x": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "other.safetensors")
    assert read_to_device(tmp_path / "other.safetensors", torch.device("cpu")) is None


def test_a_file_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    for read in (lambda: read_to_device(path, torch.device("cpu")), lambda: read_to_host(path)):
        with pytest.raises(OSError, match="ends too early"):
            read()
