# SPDX-License-Identifier: Apache-2.0
"""A bake of an O-Voxel, and another one that takes over its meshes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genesis_server.ovoxel.voxels import OVoxel
from genesis_server.pipeline import bake as bake_room
from genesis_server.pipeline.bake import BAKE_STAGES, Baked, bake_voxels, layout_settings, read_levels, write_baked
from genesis_server.pipeline.progress import Progress
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.parameters import BakeSettings
from tests import analytic

SETTINGS = BakeSettings(faces=800, texture_size=1024, lods=2)


@pytest.fixture(scope="module")
def voxels() -> OVoxel:
    return analytic.voxelize(analytic.torus(), 32)


def bake(voxels: OVoxel, settings: BakeSettings, **known: list) -> Baked:
    progress = Progress(BAKE_STAGES, lambda event: None, lambda: False)
    progress.started("mesh")
    return bake_voxels(voxels, settings, progress, "cpu", **known)


def test_a_larger_texture_takes_over_the_meshes_bit_for_bit(voxels: OVoxel, tmp_path: Path) -> None:
    larger = replace(SETTINGS, texture_size=1280)
    assert layout_settings(larger) == layout_settings(SETTINGS) != layout_settings(replace(SETTINGS, texture_size=512))
    write_baked(tmp_path / "first.glb", bake(voxels, SETTINGS), SETTINGS)
    write_baked(tmp_path / "fresh.glb", bake(voxels, larger), larger)
    again = bake(voxels, larger, levels=read_levels(tmp_path / "first.glb", 2))
    write_baked(tmp_path / "again.glb", again, larger)
    assert (tmp_path / "again.glb").read_bytes() == (tmp_path / "fresh.glb").read_bytes()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attributes": None}, ErrorCode.BAD_MESH),
        ({"attributes": torch.full((1, 6), float("nan"))}, ErrorCode.BAD_ASSET),
        ({"coords": torch.tensor([[0, 0, 32]]).int()}, ErrorCode.BAD_ASSET),
        ({"coords": torch.tensor([[0, 0, -1]]).int()}, ErrorCode.BAD_ASSET),
        ({"dual_vertices": torch.full((1, 3), float("inf"))}, ErrorCode.BAD_ASSET),
    ],
)
def test_values_that_are_none_are_refused(voxels: OVoxel, change: dict[str, torch.Tensor | None], code: ErrorCode) -> None:
    name, wrong = next(iter(change.items()))
    if wrong is not None:
        wrong = torch.cat([wrong, getattr(voxels, name)[1:]])
    with pytest.raises(GenesisError) as error:
        bake(replace(voxels, **{name: wrong}), SETTINGS)
    assert error.value.code is code


def test_no_voxels_have_no_surface(voxels: OVoxel) -> None:
    empty = OVoxel(
        *(getattr(voxels, name)[:0] for name in ("coords", "dual_vertices", "intersected")), 32, None, torch.zeros(0, 6)
    )
    with pytest.raises(GenesisError) as error:
        bake(empty, SETTINGS)
    assert error.value.code is ErrorCode.EMPTY_STRUCTURE


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("pretended"), RuntimeError("Failed to allocate 9 bytes on device")])
@pytest.mark.parametrize("step", ["extract_mesh", "bake_textures"])
def test_where_the_gpu_is_too_small_the_cpu_finishes(
    voxels: OVoxel, monkeypatch: pytest.MonkeyPatch, step: str, error: RuntimeError
) -> None:
    """Once, saying so, with the same result; "cpu:0" stands for a GPU."""
    settings, events = replace(SETTINGS, texture_size=64, lods=1), []
    calm = bake(voxels, settings)
    real, failures = getattr(bake_room, step), iter([True, False])

    def unlucky(*arguments: object) -> object:
        if next(failures):
            raise error
        return real(*arguments)

    monkeypatch.setattr(bake_room, step, unlucky)
    progress = Progress(BAKE_STAGES, events.append, lambda: False)
    progress.started("mesh")
    stormy = bake_voxels(voxels, settings, progress, "cpu:0")
    assert [event.stage for event in events if event.note] == ["mesh" if step == "extract_mesh" else "bake"]
    assert torch.equal(stormy.levels[0].faces, calm.levels[0].faces)
    assert (stormy.material.base_color == calm.material.base_color).all()


def test_other_errors_are_not_taken_for_a_full_gpu(voxels: OVoxel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(bake_room, "extract_mesh", broken)
    with pytest.raises(RuntimeError, match="something else"):
        bake_voxels(voxels, SETTINGS, Progress(BAKE_STAGES, lambda event: None, lambda: False), "cpu:0")


def test_the_bar_moves_while_the_mesh_is_made_and_unwrapped(voxels: OVoxel) -> None:
    events: list = []
    progress = Progress(BAKE_STAGES, events.append, lambda: False)
    progress.started("mesh")
    bake_voxels(voxels, SETTINGS, progress, "cpu")
    steps = {stage: [event.step for event in events if event.stage == stage and event.steps] for stage in BAKE_STAGES}
    assert len(steps["mesh"]) >= 4 and len([step for step in steps["bake"] if 0 < step < 60]) >= 4
    assert steps["bake"][-1] == 100 and all(values == sorted(values) for values in steps.values())
