# SPDX-License-Identifier: Apache-2.0
"""A folder of weights is verified too: what is cut short, and what is named like a published file and is not it."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from genesis_server.hub.catalog import CATALOG, TRELLIS
from genesis_server.hub.download import verify

PUBLISHED = next(file.path for repository in CATALOG[TRELLIS] for file in repository.files if "shape_dec" in file.path)


def folder(tmp_path: Path) -> Path:
    (tmp_path / "ckpts").mkdir()
    (tmp_path / "pipeline.json").write_text("{}")
    save_file({"weight": torch.ones(100)}, tmp_path / "ckpts" / "own.safetensors")
    return tmp_path


def test_whole_files_pass(tmp_path: Path) -> None:
    assert verify(str(folder(tmp_path))) == []
    assert verify("mini") == []


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    file = folder(tmp_path) / "ckpts" / "own.safetensors"
    whole = file.read_bytes()
    for length in (len(whole) - 1, 40, 3):
        file.write_bytes(whole[:length])
        assert verify(str(tmp_path)) == ["ckpts/own.safetensors is cut short or damaged"]
    file.write_bytes(whole + b"more")
    assert verify(str(tmp_path)) == ["ckpts/own.safetensors is cut short or damaged"]


def test_a_file_with_a_published_name_must_be_that_file(tmp_path: Path) -> None:
    name = PUBLISHED.replace(".json", ".safetensors")
    save_file({"weight": torch.ones(3)}, folder(tmp_path) / name)
    assert verify(str(tmp_path)) == [f"{name} differs from the published file"]
