# SPDX-License-Identifier: Apache-2.0
"""Model ids lead to local files, other repositories are looked into only where the model itself has no such file."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from genesis_server.hub import download
from genesis_server.hub.catalog import CATALOG, TRELLIS, RemoteFile
from genesis_server.hub.explain import explained
from genesis_server.hub.fetch import Offer, still_to_come
from genesis_server.hub.locate import find_checkpoint, find_folder, open_source
from genesis_server.protocol.errors import ErrorCode, GenesisError

DECODER = "microsoft/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_pair(stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("json", "safetensors"):
        Path(f"{stem}.{ending}").write_text(ending)


def cached(cache: Path, repository: str, revision: str) -> Path:
    return cache / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


def test_a_checkpoint_of_another_repository_may_lie_below_the_folder(tmp_path: Path, cache: Path) -> None:
    write_pair(tmp_path / "model" / DECODER)
    found = find_checkpoint(open_source(str(tmp_path / "model")), DECODER)
    assert [path.parent for path in found] == [(tmp_path / "model" / DECODER).parent] * 2


def test_else_it_is_looked_for_in_that_repository_at_its_pinned_revision(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model").mkdir()
    source = open_source(str(tmp_path / "model"))
    assert find_checkpoint(source, DECODER) is None
    repository = CATALOG[TRELLIS][1]
    write_pair(cached(cache, repository.id, repository.revision) / "ckpts" / "ss_dec_conv3d_16l8_fp16")
    assert find_checkpoint(source, DECODER)[1].read_text() == "safetensors"


def test_half_a_pair_is_not_found(tmp_path: Path, cache: Path) -> None:
    write_pair(tmp_path / "model" / "ckpts" / "dec")
    (tmp_path / "model" / "ckpts" / "dec.safetensors").unlink()
    assert find_checkpoint(open_source(str(tmp_path / "model")), "ckpts/dec") is None


def test_an_encoder_folder_needs_all_its_files(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "model" / "image_encoder"
    folder.mkdir(parents=True)
    source = open_source(str(tmp_path / "model"))
    (folder / "config.json").touch()
    assert find_folder(source, "image_encoder", ("config.json", "model.safetensors")) is None
    (folder / "model.safetensors").touch()
    assert find_folder(source, "image_encoder", ("config.json", "model.safetensors")) == folder
    assert find_folder(open_source("some/repository"), str(folder), ("config.json",)) == folder


@pytest.mark.parametrize("model_id", ["no such model", "a/b/c", ""])
def test_nonsense_is_refused(model_id: str) -> None:
    if model_id == "":
        model_id = "./nowhere at all"
    with pytest.raises(GenesisError) as caught:
        open_source(model_id)
    assert caught.value.code == ErrorCode.MODEL_MISSING and model_id in caught.value.message


def test_identity_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    write_pair(tmp_path / "model" / "ckpts" / "dec")
    used = [tmp_path / "model" / "ckpts" / "dec.safetensors"]
    first = open_source(str(tmp_path / "model")).identity(used)
    shutil.copytree(tmp_path / "model", tmp_path / "elsewhere" / "model")
    moved = open_source(str(tmp_path / "elsewhere" / "model"))
    assert moved.identity([tmp_path / "elsewhere" / "model" / "ckpts" / "dec.safetensors"]) == first
    used[0].write_text("other weights")
    assert open_source(str(tmp_path / "model")).identity(used) != first


def test_status_counts_what_is_missing_without_asking_the_network(cache: Path) -> None:
    state = download.status((TRELLIS,))[0]
    assert state.state == "absent" and state.missing_bytes == sum(
        file.size or 0 for item in CATALOG[TRELLIS] for file in item.files
    )
    assert state.gated == ("facebook/dinov3-vitl16-pretrain-lvd1689m",)
    repository = CATALOG[TRELLIS][1]
    stem = cached(cache, repository.id, repository.revision) / "ckpts" / "ss_dec_conv3d_16l8_fp16"
    write_pair(stem)
    weights, wanted = Path(f"{stem}.safetensors"), f"{repository.id}/ckpts/{stem.name}.safetensors"
    assert wanted in download.status((TRELLIS,))[0].missing, "it is not whole"
    with weights.open("r+b") as file:
        file.truncate(repository.files[1].size)  # a hole; nothing is written
    partly = download.status((TRELLIS,))[0]
    assert partly.state == "incomplete" and not any("ss_dec" in name for name in partly.missing)


def test_a_local_encoder_spares_the_gated_repository(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENESIS_IMAGE_ENCODER", "/some/dinov3")
    state = download.status((TRELLIS,))[0]
    assert state.gated == () and not any("dinov3" in name for name in state.missing)


def test_verify_names_missing_and_wrong_files(cache: Path) -> None:
    repository = CATALOG[TRELLIS][1]
    write_pair(cached(cache, repository.id, repository.revision) / "ckpts" / "ss_dec_conv3d_16l8_fp16")
    problems = download.verify(TRELLIS)
    assert any("ss_dec" in line and "differs" in line and f"delete {cache}" in line for line in problems)
    assert any("ss_flow" in line and "missing" in line for line in problems)


def test_too_small_a_disk_is_said_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**9))
    with pytest.raises(GenesisError, match="needs 16.0 GB") as caught:
        download._check_space(16 * 10**9)
    assert caught.value.code == ErrorCode.DISK_FULL and "HF_HOME" in caught.value.remedy


def test_half_a_file_that_is_here_needs_only_the_other_half_of_the_disk(cache: Path) -> None:
    repository = CATALOG[TRELLIS][1]
    offer = Offer(repository, RemoteFile("a", 1000, "0" * 64), "0" * 64, "")
    assert still_to_come(offer) == 1000
    offer.blob.parent.mkdir(parents=True)
    offer.blob.with_name(offer.blob.name + ".part").write_bytes(bytes(400))
    assert still_to_come(offer) == 600
    offer.blob.write_bytes(bytes(1000))
    assert still_to_come(offer) == 0


def test_a_folder_that_may_not_be_written_is_no_matter_of_the_network(cache: Path) -> None:
    with pytest.raises(GenesisError, match="hub/blobs may not be written") as caught, explained(CATALOG[TRELLIS][1], "a"):
        raise PermissionError(13, "Permission denied", "hub/blobs")
    assert caught.value.code == ErrorCode.NO_PERMISSION and "HF_HOME" in caught.value.remedy
