# SPDX-License-Identifier: Apache-2.0
"""Help that is fast and complete, one sentence and a remedy for every error, exit codes, JSON for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from genesis_server.assets import Asset
from genesis_server.assets.asset import RECORD
from genesis_server.cli import main
from genesis_server.protocol.parameters import GenerateSettings, parameter_names


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GENESIS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "chair.png"
    Image.new("RGBA", (32, 32), (200, 80, 40, 255)).save(path)
    return path


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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--set", "shape.speed=3"), "bad_parameter", "shape.speed"),
        (("--set", "shape.steps"), "bad_parameter", "shape.steps"),
        (("--set", "shape.steps=many"), "bad_parameter", "many"),
        (("--set", "shape.steps=0"), "bad_parameter", "0"),
        (("--texture-size", "1023"), "bad_parameter", "1023"),
        (("--faces", "99999999"), "bad_parameter", "99999999"),
        (("--name", "../chair"), "bad_parameter", "../chair"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_made(picture, tmp_path, arguments, code, said) -> None:
    plain = run("generate", picture, "--out", tmp_path / "out", *arguments)
    assert plain.exit_code == 2
    assert said in plain.stderr
    assert plain.stdout == ""
    machine = run("generate", picture, "--out", tmp_path / "out", *arguments, "--json")
    assert machine.exit_code == 2
    assert json.loads(machine.stdout)["error"]["code"] == code
    assert list(tmp_path.glob("**/*.genesis")) == []


@pytest.mark.parametrize("kind", ["missing", "folder", "empty"])
def test_a_bad_picture_is_refused_before_anything_is_made(tmp_path, kind) -> None:
    path = tmp_path / "picture.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    result = run("generate", path, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "bad_image"
    assert str(path) in error["message"]
    assert error["remedy"]


def test_usage_errors_are_clicks_own() -> None:
    assert run("generate").exit_code == 2
    assert run("generate", "a.png", "--preset", "best").exit_code == 2
    assert run("nothing").exit_code == 2


def test_a_rebake_of_what_is_no_asset_is_refused(tmp_path) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        result = run("rebake", folder, "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["code"] == "bad_asset"


def test_a_rebake_of_a_newer_or_damaged_asset_is_refused(tmp_path) -> None:
    folder = tmp_path / "chair.genesis"
    Asset.create(folder, [Image.new("RGB", (8, 8))], GenerateSettings(), "mini")
    record = json.loads((folder / RECORD).read_text("utf-8"))
    for text, code in ((json.dumps({**record, "schema": 99}), "newer_schema"), ('{"schema": 1', "bad_asset")):
        (folder / RECORD).write_text(text, "utf-8")
        result = run("rebake", folder, "--texture-size", 512, "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["error"]["code"] == code


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
