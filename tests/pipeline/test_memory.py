# SPDX-License-Identifier: Apache-2.0
"""How a model is made to fit: decided from a budget before anything runs, and one step smaller when memory runs out anyway."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.networks.flow_transformer import FlowTransformer
from genesis_server.networks.residence import HostCopy
from genesis_server.pipeline import generate as spine
from genesis_server.pipeline import model as module
from genesis_server.pipeline.generate import generate
from genesis_server.pipeline.memory import (
    LADDER,
    MemoryPlan,
    Network,
    Rung,
    Work,
    device_budget,
    expected_cells,
    parse_budget,
)
from genesis_server.pipeline.model import Model
from genesis_server.protocol.errors import ErrorCode, GenesisError
from genesis_server.protocol.events import EventKind
from genesis_server.protocol.parameters import BakeSettings, GenerateSettings

GB = 10**9
FLOW = {"model_channels": 1536, "num_blocks": 30, "num_heads": 12, "mlp_ratio": 5.3334, "resolution": 16, "in_channels": 8}
DECODER = {"model_channels": [1024, 512, 256, 128, 64], "up_block_type": ["SparseResBlockC2S3d"] * 4}
FLOWS = ["sparse_structure_flow_model"] + [f"{k}_slat_flow_model_{s}" for k in ("shape", "tex") for s in (512, 1024)]
PUBLISHED = {
    **{role: Network(FLOW, 2_585_000_000) for role in FLOWS},
    "sparse_structure_decoder": Network({}, 148_000_000),
    "shape_slat_decoder": Network(DECODER, 949_000_000),
    "tex_slat_decoder": Network(DECODER | {"pred_subdiv": False}, 949_000_000),
    "image_cond_model": Network({}, 1_820_000_000),
}
LARGE = Work(28672, 4101)
MEASURED = [  # role, work, peak in GB under a budget of none, 8 and 4 GB: docs/performance.md, "Memory"
    ("sparse_structure_flow_model", Work(4096, 1029, 2), (14.94, 3.22, 3.20)),
    ("shape_slat_flow_model_512", Work(6582, 1029, 2), (15.17, 3.45, 3.37)),
    ("shape_slat_decoder", Work(6582, coordinates_only=True), (15.11, 1.71, 1.71)),
    ("shape_slat_flow_model_1024", Work(26329, 4101), (16.40, 4.68, 1.80)),
    ("tex_slat_flow_model_1024", Work(26329, 4101), (16.28, 4.56, 1.77)),
    ("shape_slat_decoder", Work(26329), (18.45, 5.06, 3.44)),
    ("tex_slat_decoder", Work(26329), (18.95, 5.56, 3.64)),
]


def fake_model(budget: int | None, more: dict[str, Network] | None = None) -> Model:
    """The published sizes on a GPU that is not there: only arithmetic, no network."""
    from genesis_server.pipeline.config import Normalisation

    plain = Normalisation(torch.zeros(1), torch.ones(1))
    config = SimpleNamespace(low_vram=True, default_type="1024_cascade", image_size=None, shape=plain, texture=plain)
    networks = PUBLISHED | (more or {})
    architectures = {role: network.args for role, network in networks.items() if network.args}
    weights = {role: network.weights for role, network in networks.items()}
    return Model("fake", config, architectures, {}, "cuda", weights=weights, budget=budget)


def test_what_only_just_fits_is_not_tried() -> None:
    plan = MemoryPlan(PUBLISHED, None)
    needed = plan.predict("shape_slat_flow_model_1024", LADDER[2], LARGE)
    assert MemoryPlan(PUBLISHED, int(1.05 * needed)).rung("shape_slat_flow_model_1024", LARGE) == LADDER[2]
    assert MemoryPlan(PUBLISHED, int(1.01 * needed)).rung("shape_slat_flow_model_1024", LARGE) == LADDER[4]


@pytest.mark.parametrize(
    ("budget", "resident", "streamed"), [(None, True, False), (24, True, False), (8, False, False), (4, False, True)]
)
def test_the_first_way_that_fits_is_taken(budget: int | None, resident: bool, streamed: bool) -> None:
    plan = MemoryPlan(PUBLISHED, None if budget is None else budget * GB)
    rung = plan.rung("shape_slat_flow_model_1024", LARGE)
    assert (rung.resident, rung.stream) == (resident, streamed)
    assert budget is None or plan.predict("shape_slat_flow_model_1024", rung, LARGE) <= budget * GB


def test_a_stage_with_few_tokens_is_not_slowed_down() -> None:
    plan = MemoryPlan(PUBLISHED, 4 * GB)
    assert not plan.rung("sparse_structure_flow_model", Work(4096, 1029, 2)).stream
    assert plan.rung("shape_slat_flow_model_1024", LARGE).stream


def test_every_rung_needs_no_more_than_the_one_before() -> None:
    plan = MemoryPlan(PUBLISHED, None)
    for role, work in (("shape_slat_flow_model_1024", LARGE), ("shape_slat_decoder", Work(24700))):
        needed = [plan.predict(role, rung, work) for rung in LADDER]
        assert needed == sorted(needed, reverse=True)


def test_published_sizes_fit_where_they_are_meant_to() -> None:
    for budget, kind in ((8, "1024_cascade"), (6, "1024_cascade"), (4, "1024_cascade"), (10, "1536_cascade")):
        model = fake_model(budget * GB)
        assert 0 < model.prepare(model.plan(kind)) <= budget * GB


@pytest.mark.parametrize(("role", "work", "peaks"), MEASURED)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_peak_is_predicted_within_15_percent_of_what_was_measured(
    role: str, work: Work, peaks: tuple[float, ...], index: int
) -> None:
    model = fake_model((40 * GB, 8 * GB, 4 * GB)[index])
    model.prepare(model.plan("1024_cascade"))
    predicted = model.memory.predict(role, model.memory.rung(role, work), work)
    assert abs(predicted / (peaks[index] * GB) - 1) < 0.15


@pytest.mark.parametrize(
    ("role", "work", "measured"),  # GB, matrices streamed block by block
    [
        ("sparse_structure_flow_model", Work(4096, 1029, 2), 0.79),
        ("shape_slat_flow_model_512", Work(6582, 1029, 2), 0.90),
        ("shape_slat_flow_model_1024", Work(26329, 4101), 1.80),
        ("tex_slat_flow_model_1024", Work(26329, 4101), 1.77),
    ],
)
def test_small_peaks_are_predicted_too_high_by_a_fifth_of_a_gigabyte_at_most(role: str, work: Work, measured: float) -> None:
    assert 0 <= MemoryPlan(PUBLISHED, None).predict(role, LADDER[4], work) / GB - measured < 0.21


def test_texturing_a_mesh_is_planned_too() -> None:
    encoder = {"model_channels": [64, 128, 256, 512, 1024], "down_block_type": ["SparseResBlockS2C3d"] * 4}
    for budget in (24, 8, 6, 4):
        model = fake_model(budget * GB, {"shape_slat_encoder": Network(encoder, 709_000_000)})
        assert 2 * GB < model.prepare(model.texture_plan("1024")) <= budget * GB
        assert (model.memory.floor == 0) == (budget == 24), "little room is left to networks that are not at work"
    with pytest.raises(GenesisError, match=r"Texturing at 1024 needs at least \d\.\d GB") as caught:
        model = fake_model(int(1.5 * GB), {"shape_slat_encoder": Network(encoder, 709_000_000)})
        model.prepare(model.texture_plan("1024"))
    assert caught.value.code == ErrorCode.OUT_OF_MEMORY


def test_networks_that_a_run_does_not_use_are_not_counted() -> None:
    model = fake_model(40 * GB)
    every = model.memory.predict("tex_slat_flow_model_1024", LADDER[0], LARGE)
    model.prepare(model.plan("1024_cascade"))
    assert every - model.memory.predict("tex_slat_flow_model_1024", LADDER[0], LARGE) == 2_585_000_000
    model._loaded["tex_slat_flow_model_512"] = torch.nn.Identity()  # by an earlier run at 512
    model.prepare(model.plan("1024_cascade"))
    assert model.memory.predict("tex_slat_flow_model_1024", LADDER[0], LARGE) == every


def test_a_run_that_needs_room_keeps_nothing_resident_from_the_start() -> None:
    model = fake_model(12 * GB)
    model.prepare(model.plan("1024_cascade"))
    assert not model.memory.rung("sparse_structure_flow_model", Work(4096, 1029, 2)).resident
    roomy = fake_model(40 * GB)
    roomy.prepare(roomy.plan("1024_cascade"))
    assert roomy.memory.rung("sparse_structure_flow_model", Work(4096, 1029, 2)).resident


def test_a_gpu_that_is_too_small_is_told_what_would_fit() -> None:
    model = fake_model(int(2.2 * GB))
    with pytest.raises(
        GenesisError, match=r"1536_cascade needs at least \d\.\d GB of GPU memory; 2\.2 GB may be used"
    ) as caught:
        model.prepare(model.plan("1536_cascade"))
    assert caught.value.code == ErrorCode.OUT_OF_MEMORY
    assert "512 (needs" in caught.value.remedy


def test_after_memory_ran_out_the_lower_ways_are_barred() -> None:
    plan = MemoryPlan(PUBLISHED, None)
    seen = [plan.rung("shape_slat_decoder", Work(24700))]
    while plan.step_down():
        seen.append(plan.rung("shape_slat_decoder", Work(24700)))
    assert seen == list(LADDER)
    assert not plan.step_down()


def test_what_ran_out_is_not_tried_again() -> None:
    plan = MemoryPlan(PUBLISHED, 4 * GB)
    failed = plan.rung("shape_slat_decoder", Work(24700))
    assert LADDER.index(failed) > 1 and plan.step_down()
    assert LADDER.index(plan.rung("shape_slat_decoder", Work(24700))) == LADDER.index(failed) + 1


def test_eight_bit_products_need_less_where_weights_are_on_the_device() -> None:
    plan = MemoryPlan(PUBLISHED, None)
    half = plan.network("shape_slat_flow_model_1024")
    assert half.in_float8().peak(LADDER[1], LARGE) < half.peak(LADDER[1], LARGE) - 0.7 * GB


def test_float32_counts_twice() -> None:
    plan = MemoryPlan(PUBLISHED, None)
    half = plan.network("tex_slat_flow_model_1024")
    for rung in LADDER[1:]:
        assert half.doubled().peak(rung, LARGE) == 2 * half.peak(rung, LARGE)


def test_expected_cells_cover_the_measured_ones() -> None:
    assert expected_cells(32) >= 6046 and expected_cells(64) >= 24700


@pytest.mark.parametrize(("text", "size"), [("8GB", 8e9), ("8", 8e9), (" 7.5 GiB ", 7.5 * 2**30), ("6000mb", 6e9)])
def test_budgets_are_read_as_people_write_them(text: str, size: float) -> None:
    assert parse_budget(text) == int(size)


@pytest.mark.parametrize("text", ["", "lots", "8TB", "0.1GB", "-3GB"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(GenesisError, match="memory budget"):
        parse_budget(text)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_budget_that_was_asked_for_is_the_cap_of_torchs_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    caps: list[tuple[float, object]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, index: caps.append((share, index)))
    assert device_budget(torch.device(name), "8GB") == 8 * GB
    assert caps == [(0.1, 0)], "torch takes a number here, and no device without one"


def test_a_cpu_has_no_budget() -> None:
    assert device_budget(torch.device("cpu"), "8GB") is None


def test_running_out_of_memory_repeats_the_stage_and_nothing_before_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same object comes out as without the accident; finished stages are not made again."""
    picture = Image.new("RGBA", (64, 64))
    picture.paste((200, 80, 40, 255), (8, 8, 56, 56))
    settings = GenerateSettings(bake=BakeSettings(faces=200, texture_size=64))
    assets = [Asset.create(tmp_path / name, [picture], settings, "tiny") for name in ("calm", "stormy")]
    generate(assets[0], Model.load(str(tiny_model), "cpu"), lambda event: None)
    model, events = Model.load(str(tiny_model), "cpu"), []
    monkeypatch.setattr(Model, "save_memory", lambda self: self.memory.step_down())
    sample, failures = spine.sample_shape, iter([True, True, False])

    def unlucky(*arguments: object, **keywords: object) -> object:
        result = sample(*arguments, **keywords)  # its noise is drawn before memory runs out
        if next(failures):
            raise torch.OutOfMemoryError("pretended")
        return result

    monkeypatch.setattr(spine, "sample_shape", unlucky)
    generate(assets[1], model, events.append)
    assert model.memory.floor == 2
    assert sum("memory ran out" in event.note for event in events if event.kind == EventKind.NOTE) == 2
    assert [event.stage for event in events if event.kind == EventKind.STAGE_FINISHED].count("structure") == 1
    for name in ("shape.safetensors", "texture.safetensors"):
        assert assets[0].path(name).read_bytes() == assets[1].path(name).read_bytes()


def test_the_bake_is_made_room_for_only_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for budget, left in ((24, 6), (16, 5), (10, 2), (4, 0)):  # 13.9 GB of weights and 4 GB of work
        model = fake_model(budget * GB)
        model._loaded = {role: torch.nn.Identity() for role in ("shape_slat_decoder", *FLOWS)}
        model.make_room(4 * GB)
        assert len(model._loaded) == left
        assert "shape_slat_decoder" in model._loaded or not left, "the largest go first"


def test_where_nothing_smaller_is_left_the_error_is_told(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = Asset.create(tmp_path / "a", [Image.new("RGBA", (8, 8), "red")], GenerateSettings(background="keep"), "tiny")

    def never(*arguments: object, **keywords: object) -> None:
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(spine, "sample_structure", never)
    with pytest.raises(torch.OutOfMemoryError):
        generate(asset, Model.load(str(tiny_model), "cpu"), lambda event: None)
    assert asset.stage("cutout") is not None, "finished stages are kept"


def test_a_rung_reaches_the_networks(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders are told their tiles, and samplings whether to keep keys and values."""
    from genesis_server.pipeline.decode import decode_shape
    from genesis_server.pipeline.latents import Latent

    model = Model.load(str(tiny_model), "cpu")
    generator = torch.Generator().manual_seed(0)
    cells = torch.nn.functional.pad((torch.rand(4, 4, 4, generator=generator) < 0.6).nonzero(), (1, 0)).int()
    latent = Latent(cells, torch.randn(len(cells), 4, generator=generator), 32)
    whole = decode_shape(model, latent)
    use, seen = Model.use, []

    @contextmanager
    def tiled(self: Model, role: str, work: Work | None = None, precision: str = "auto"):
        with use(self, role, work) as used:
            seen.append(work)
            yield used._replace(rung=Rung(tiles=3))

    monkeypatch.setattr(Model, "use", tiled)
    parts = decode_shape(model, latent)
    assert seen == [Work(len(cells))]
    assert torch.equal(parts.coords, whole.coords)


@pytest.mark.parametrize(
    ("budget", "role", "work", "loaded_onto", "streamed"),
    [
        (None, "shape_slat_flow_model_1024", LARGE, "cuda", False),
        (8, "shape_slat_flow_model_1024", LARGE, "cuda", False),
        (4, "shape_slat_flow_model_1024", LARGE, "cpu", True),
        (4, "shape_slat_decoder", Work(24700), "cuda", False),
        (8, "image_cond_model", None, "cuda", False),
    ],
)
def test_a_network_is_loaded_and_let_go_as_the_plan_says(
    monkeypatch: pytest.MonkeyPatch, budget: int | None, role: str, work: Work | None, loaded_onto: str, streamed: bool
) -> None:
    model, seen, made = fake_model(None if budget is None else budget * GB), [], []

    class Streamed(HostCopy):
        @contextmanager
        def streamed(self):
            seen.append("streamed")
            yield self.network

    def load(device: torch.device) -> torch.nn.Module:
        seen.append(torch.device(device).type)
        made.append(torch.nn.Linear(2, 2))
        return made[-1]

    model._loaders = {role: load}
    model._loaded = {"earlier": torch.nn.Linear(2, 2)}
    earlier = model._loaded["earlier"]
    model.memory.floor = 0 if budget is None else 1
    monkeypatch.setattr(module, "HostCopy", lambda network, device: Streamed(network, torch.device("cpu")))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for uses in (1, 2):
        with model.use(role, work) as used:
            assert used.network is made[-1] and used.network.weight.numel() == 4
            assert (earlier.weight.numel() == 4) == (budget is None), "where room is short, no other network stays"
        assert len(made) == (1 if budget is None else uses), "what does not stay is read again"
        assert (made[-1].weight.numel() == 4) == (budget is None)
    assert seen == ([loaded_onto] if budget is None else [loaded_onto, *(["streamed"] if streamed else [])] * 2)


def test_the_smallest_way_makes_the_same_object(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows streamed block by block, no kept context, decoders in tiles."""
    picture = Image.new("RGBA", (64, 64))
    picture.paste((200, 80, 40, 255), (8, 8, 56, 56))
    settings = GenerateSettings(bake=BakeSettings(faces=200, texture_size=64))
    assets = [Asset.create(tmp_path / name, [picture], settings, "tiny") for name in ("plain", "small")]
    generate(assets[0], Model.load(str(tiny_model), "cpu"), lambda event: None)
    use = Model.use

    @contextmanager
    def smallest(self: Model, role: str, work: Work | None = None, precision: str = "auto"):
        with use(self, role, work) as used:
            flow = isinstance(used.network, FlowTransformer)
            with HostCopy(used.network, torch.device("cpu")).streamed() if flow else nullcontext():
                yield used._replace(rung=LADDER[-1])

    monkeypatch.setattr(Model, "use", smallest)
    generate(assets[1], Model.load(str(tiny_model), "cpu"), lambda event: None)
    for name in ("structure.safetensors", "shape.safetensors", "texture.safetensors", "ovoxel.vxz"):
        assert assets[0].path(name).read_bytes() == assets[1].path(name).read_bytes()
