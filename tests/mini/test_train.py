# SPDX-License-Identifier: Apache-2.0
"""The whole training, from nothing to an evaluated model folder, at the smallest size; and that it continues."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from genesis_server.mini import train as training_command
from genesis_server.mini.config import STEMS, Sizes, build_network
from genesis_server.mini.export import PACKAGED
from genesis_server.mini.latent_flow_training import padded_velocity
from genesis_server.mini.training import Run, Training
from genesis_server.networks.registry import load_checkpoint
from genesis_server.pipeline.model import Model
from genesis_server.sparse.tensor import SparseTensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    arguments = [str(folder), "--minutes", "0.15", "--resolution", "32", "--picture", "64", "--scale", "0.002"]
    result = CliRunner().invoke(training_command.main, [*arguments, "--objects", "2", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "2 held-out objects" in result.output
    return folder


def test_every_phase_trains_and_says_what_it_measured(folder):
    for phase in training_command.PHASES:
        (summary,) = json.loads((folder / f"{phase}.done.json").read_text())
        assert summary["steps"] >= 1, phase
        assert (folder / f"{phase}.log.jsonl").is_file()


def test_the_exported_folder_is_a_model(folder):
    weights = folder / "weights"
    for role in PACKAGED:
        load_checkpoint(weights / "ckpts" / STEMS[role])  # strict: names and shapes
    model = Model.load(str(weights), "cpu")
    assert model.plan().grid == 4 and model.plan().resolution == 32
    assert "## Limits" in (weights / "README.md").read_text()


def test_the_package_stays_below_the_repositorys_limit():
    from genesis_server.mini.config import build_image_encoder

    networks = [build_network(role, Sizes()) for role in PACKAGED] + [build_image_encoder(Sizes())]
    assert sum(p.numel() for network in networks for p in network.parameters()) * 2 < 38e6


def test_an_interrupted_phase_continues_where_it_stopped(tmp_path):
    run = Run(tmp_path, torch.device("cpu"), Sizes())
    first = Training(run, "phase", {"net": torch.nn.Linear(3, 2)}, {"net": 1e-2}, seconds=1000)
    for _ in range(3):
        loss = first.networks["net"](torch.ones(4, 3)).square().mean()
        first.step(loss, {"loss": loss})
    first._checkpoint()
    second = Training(run, "phase", {"net": torch.nn.Linear(3, 2)}, {"net": 1e-2}, seconds=1000)
    assert second.step_count == 3 and second.elapsed >= first.used
    for (name, value), other in zip(first.averaged("net").items(), second.averaged("net").values(), strict=True):
        assert torch.equal(value, other), name
    moments = [t.optimisers[0].state[t.parameters[0]]["exp_avg"] for t in (first, second)]
    assert torch.equal(*moments)


def test_another_round_starts_from_what_the_last_one_left(tmp_path):
    run = Run(tmp_path, torch.device("cpu"), Sizes())
    first = Training(run, "phase", {"net": torch.nn.Linear(3, 2)}, {"net": 1e-2}, seconds=1000)
    first.finish()
    again = replace(run, again=True)
    second = Training(again, "phase", {"net": torch.nn.Linear(3, 2)}, {"net": 1e-2}, seconds=1000)
    assert torch.equal(second.networks["net"].weight, first.networks["net"].weight)
    second.finish()
    assert len(run.done("phase")) == 2


@pytest.mark.parametrize("role", ["shape_flow", "texture_flow"])
def test_the_padded_flow_is_the_flow(role):
    torch.manual_seed(0)
    flow = build_network(role, Sizes())
    torch.nn.init.normal_(flow.out_layer.weight)
    counts, length = [5, 9], 12
    coords = torch.randint(0, 16, (2, length, 3))
    mask = torch.arange(length) < torch.tensor(counts)[:, None]
    x = torch.randn(2, length, flow.in_channels)
    t, tokens = torch.tensor([300.0, 800.0]), torch.randn(2, 7, flow.cond_channels)
    padded = padded_velocity(flow, x, coords, mask[:, None, None], t, tokens)[mask]
    sample = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))[:, None]
    plain = flow(SparseTensor(x[mask], torch.cat([sample, coords[mask]], 1)), t, tokens).feats
    assert torch.allclose(padded, plain, atol=1e-4)  # float32 sums in another order
