# SPDX-License-Identifier: Apache-2.0
"""Help that is fast and complete, one sentence and a remedy for every error, exit codes, JSON for machines."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner

from genesis_server.cli import main
from genesis_server.cli.doctor import LIBRARIES
from genesis_server.cli.progress import DownloadBar
from genesis_server.protocol.parameters import parameter_names
from genesis_server.service.collection import NEW_OBJECTS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["generate", "rebake", "serve", "doctor", "models", "inspect"])
def test_every_command_has_help_with_a_whole_sentence(command) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert "." in result.output.split("Options:")[0]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom genesis_server.cli import main\n"
        "main(['generate', '--help'], standalone_mode=False)\n"
        "sys.exit(str({'torch', 'transformers', 'warp', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr.strip() == "set()"


def test_every_parameter_is_listed_with_what_it_does() -> None:
    output = run("generate", "--list-parameters").output
    for name, item in parameter_names().items():
        assert name in output
        assert item.metadata["help"] in output


def test_whatever_loads_torch_has_threads_that_wait_asleep(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"})
    run("bake", tmp_path / "no.vxz")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_whatever_loads_torch_looks_for_cycles_rarely(tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(gc, "set_threshold", asked.append)
    run("bake", tmp_path / "no.vxz")
    assert asked == [NEW_OBJECTS]


def test_usage_errors_are_clicks_own() -> None:
    assert run("generate").exit_code == 2
    assert run("generate", "a.png", "--preset", "best").exit_code == 2
    assert run("nothing").exit_code == 2


def test_models_are_listed_without_a_network(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    listed = {item["id"]: item for item in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert {"mini", "microsoft/TRELLIS.2-4B"} <= set(listed)


def test_doctor_names_each_part_its_state_and_a_remedy_for_what_is_not_well(home) -> None:
    result = run("doctor", "--json")
    checks = json.loads(result.stdout)["checks"]
    assert {"python", "libraries", "torch", "gpu", "warp", "triton", "weights", "disk", "server"} <= {c["name"] for c in checks}
    assert all(check["remedy"] for check in checks if check["state"] != "ok")
    assert result.exit_code == (1 if any(check["state"] == "fail" for check in checks) else 0)
    state = {check["name"]: check["state"] for check in checks}
    assert (state["python"], state["torch"], state["warp"]) == ("ok", "ok", "ok")


def test_doctor_notices_a_stale_connection_file(home) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(30)
    home.mkdir()
    fields = {"protocol": 1, "address": "tcp://127.0.0.1:1", "server_key": "", "client_public": "", "client_secret": ""}
    (home / "server.json").write_text(json.dumps({**fields, "pid": gone.pid, "version": "0"}), "utf-8")
    server = next(check for check in json.loads(run("doctor", "--json").stdout)["checks"] if check["name"] == "server")
    assert server["state"] == "warn"
    assert str(gone.pid) in server["found"]


def test_the_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "genesis_server", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ})
    assert ended.stdout.startswith("genesis")


def test_doctor_looks_for_what_is_installed_and_for_nothing_else() -> None:
    lock = (Path(__file__).resolve().parents[2] / "requirements.lock").read_text("utf-8")
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lock.splitlines() if "==" in line}
    providers = packages_distributions()
    for name in LIBRARIES:
        assert {item.lower().replace("_", "-") for item in providers[name]} & pinned, f"{name} is not in requirements.lock"


def test_a_download_says_how_far_it_is_now_and_then(capsys, monkeypatch) -> None:
    """Bytes come in sixty thousand pieces."""
    clock = iter(range(1000))
    monkeypatch.setattr("genesis_server.cli.progress.time.monotonic", lambda: next(clock))
    with DownloadBar() as bar:
        for done in range(100):
            bar("a/weights.safetensors", done * 10**7, 10**9)
        bar("a/weights.safetensors", 10**9, 10**9)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and lines[-1] == "  1.00 of 1.00 GB  a/weights.safetensors"
