# SPDX-License-Identifier: Apache-2.0
"""`genesis doctor`: what works on this machine, and what to do about what does not.

Every check looks at the thing itself: it imports, computes, connects. A failing one means that the main job fails here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from genesis_server import __version__
from genesis_server.cli.models import describe
from genesis_server.cli.options import json_option
from genesis_server.cli.output import FAILED, print_json
from genesis_server.cli.quiet import start_warp
from genesis_server.protocol.client import Client
from genesis_server.protocol.connection import default_connection_file, home_folder
from genesis_server.protocol.errors import GenesisError

OK, WARN, FAIL = "ok", "warn", "fail"
COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}
NEEDED_SPACE, WANTED_SPACE = 0.5e9, 20e9  # bytes: an asset with the small model; the large model and its assets
WANTED_GPU_MEMORY = 5.5e9  # bytes; 1024_cascade in its smallest way, CUDA itself, and what a desktop takes
LIBRARIES = (
    "transformers",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "scipy",
    "PIL",
    "cv2",
    "zmq",
)
TOOL_TIMEOUT = 10  # seconds for nvidia-smi
SERVER_TIMEOUT = 2.0  # seconds


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, ok / warn / fail, what was found, what to do about it."""

    name: str
    state: str
    found: str
    remedy: str = ""


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Says what works on this machine, and what to do about the rest.

    Ends with exit code 1 where something that every generation needs does not work.
    """
    checks: list[Check] = []
    for look in CHECKS:
        try:
            found = list(look())
        except Exception as error:  # noqa: BLE001  a check that breaks is a finding, and the others still count
            found = [Check(look.__name__.strip("_"), FAIL, f"{type(error).__name__}: {error}", "Please report this.")]
        for check in found:
            checks.append(check)
            if not as_json:
                _print(check)
    if as_json:
        print_json({"version": __version__, "checks": [dataclasses.asdict(check) for check in checks]})
    if any(check.state == FAIL for check in checks):
        ctx.exit(FAILED)


def _print(check: Check) -> None:
    click.echo(f"{click.style(f'{check.state:4}', fg=COLOURS[check.state])}  {check.name:10} {check.found}")
    if check.remedy:
        click.echo(f"{'':17}{check.remedy}")


def _python() -> Iterator[Check]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    text = f"{platform.python_version()}, {platform.system()} {platform.machine()}, Genesis {__version__}"
    yield Check("python", OK if fits else FAIL, text, "" if fits else "Use Python 3.11 to 3.13.")


def _libraries() -> Iterator[Check]:
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if absent:
        yield Check("libraries", FAIL, f"missing: {', '.join(absent)}", "Install Genesis again: pip install genesis-server.")
    else:
        yield Check("libraries", OK, "all there")


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", FAIL, f"cannot be loaded: {error}", "Install it as https://pytorch.org/get-started says.")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    total = float(torch.eye(3).sum())
    yield Check("torch", OK if total == 3 else FAIL, f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")
    yield from _gpu()


def _gpu() -> Iterator[Check]:
    import torch

    from native_ext.float8_product import has_float8

    driver = _nvidia_driver()
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free = torch.cuda.mem_get_info(index)[0]
            text = f"{properties.name}, {properties.total_memory / 1e9:.1f} GB, {free / 1e9:.1f} GB free, driver {driver}"
            little = properties.total_memory < WANTED_GPU_MEMORY
            yield Check("gpu", WARN if little else OK, text, "Use the small model." if little else "")
            eight = "8-bit products" if has_float8(torch.device("cuda", index)) else "the same as fast: no 8-bit products"
            yield Check("speed", OK, f"fastest: {eight}")
    elif driver and not torch.version.cuda:
        yield Check("gpu", WARN, f"NVIDIA driver {driver}, but this torch is a CPU build", "Install a CUDA build of torch.")
    elif driver:
        yield Check("gpu", WARN, f"torch cannot use the GPU with driver {driver}", "Update the NVIDIA driver.")
    else:
        yield Check("gpu", OK, "none: the CPU is used, which suits the small model")


def _nvidia_driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.split("\n")[0].strip()


def _kernels() -> Iterator[Check]:
    try:
        import torch
        import warp
    except (ImportError, OSError) as error:
        yield Check("warp", FAIL, f"cannot be loaded: {error}", "Install it: pip install warp-lang.")
        return
    start_warp()
    devices = ", ".join(str(device) for device in warp.get_devices())
    total = float(warp.zeros(4, dtype=float, device="cpu").numpy().sum())
    yield Check("warp", OK if total == 0 else FAIL, f"{warp.__version__} on {devices}")
    if not torch.cuda.is_available():
        yield Check("triton", OK, "not needed without a GPU")
    elif importlib.util.find_spec("triton") is None:
        package = "triton-windows" if sys.platform == "win32" else "triton"
        yield Check("triton", WARN, "not there: slower kernels are used", f"Install it: pip install {package}.")
    else:
        import triton

        yield Check("triton", OK, triton.__version__)


def _memory() -> Iterator[Check]:
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield Check(
            "memory", OK if total > 4e9 else WARN, f"{total / 1e9:.1f} GB", "" if total > 4e9 else "Close other programs."
        )


def _weights() -> Iterator[Check]:
    from genesis_server.hub.catalog import MINI
    from genesis_server.hub.download import status

    for item in status():
        if not item.missing:
            yield Check("weights", OK, f"{item.id}: {describe(item)}")
        elif item.id == MINI:
            yield Check("weights", FAIL, f"{item.id}: {describe(item)}", "Install Genesis again: its small model is missing.")
        else:
            yield Check("weights", WARN, f"{item.id}: {describe(item)}", f"To use it: genesis models download {item.id}")


def _disk() -> Iterator[Check]:
    folder = home_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state = FAIL if free < NEEDED_SPACE else WARN if free < WANTED_SPACE else OK
    yield Check("disk", state, f"{free / 1e9:.1f} GB free for {home_folder()}", "" if state == OK else "Free some space.")


def _server() -> Iterator[Check]:
    file = default_connection_file()
    if not file.exists():
        yield Check("server", OK, "not running; the Blender extension starts it, or genesis serve")
        return
    try:
        with Client(file, "genesis doctor") as client:
            server = client.connect(SERVER_TIMEOUT)
    except GenesisError as error:
        yield Check("server", WARN, error.message, error.remedy)
        return
    yield Check("server", OK, f"version {server.version}, process {server.pid}, worker {server.worker}, log {server.log}")


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _libraries,
    _torch,
    _kernels,
    _memory,
    _weights,
    _disk,
    _server,
)
