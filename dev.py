# SPDX-License-Identifier: Apache-2.0
"""Set-up and daily work, standard library only: `python3 dev.py demo | test | gui`. All it makes is in .venv*, .cache and out.

    demo   set up, then a picture from examples/ -> out/<name>.genesis/model.glb with genesis-mini
    test   set up, then lint, unit, end-to-end, server, packaging and Blender tests
    gui    drive a real Blender window on a virtual display (root on Debian) and take the screenshots of docs/

A second run finds the environment as it left it and starts at once. torch comes as a CPU build where there is no NVIDIA
GPU, so that no CUDA package is ever downloaded in vain (docs/spec/platform.md 6).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements.lock"
CACHE = ROOT / ".cache"
DEMO_PICTURE = "examples/cupcake.png"
TORCH_INDEX = "https://download.pytorch.org/whl/"
CPU_INDEX, WINDOWS_GPU_INDEX = "cpu", "cu130"  # the builds of the pinned release (blender_addon/backend/machine.py)
TRITON = "triton==3.7.1"  # whose interpreter runs the GPU kernels' tests where no GPU brings it along
VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
# Blender's own module for the extension's tests, by the Python that has a wheel of it (docs/spec/platform.md 1)
BPY = {(3, 11): ("bpy==4.5.15", "numpy<2"), (3, 13): ("bpy==5.2.3",)}
BLENDER_TEST_PACKAGES = ("pyzmq==27.3.0", "pytest==9.2.0", "pytest-timeout==2.4.0")
INSTALL_TIMEOUT = 3600  # seconds; a slow line may need half an hour for torch


def say(text: str) -> None:
    print(f"[genesis] {text}", flush=True)


def run(*command: str | Path, check: bool = True, env: dict[str, str] | None = None, timeout: float | None = None) -> int:
    code = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False, timeout=timeout).returncode
    if check and code:
        raise SystemExit(code)
    return code


def python_in(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_nvidia_gpu() -> bool:
    if os.environ.get("GENESIS_CPU"):
        return False
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def locked(name: str) -> str:
    for line in LOCK.read_text("utf-8").splitlines():
        if line.partition(";")[0].split("==")[0].strip() == name:
            return line.partition(";")[0].strip()
    raise SystemExit(f"{LOCK.name} has no line for {name}")


def make_environment(folder: Path, recipe: str) -> Path | None:
    """The interpreter of a fresh virtual environment in `folder`, or None where the one there was made by this recipe."""
    stamp = folder / "genesis-stamp"
    mark = hashlib.sha256(f"{recipe}\n{sys.version_info[:2]}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == mark and python_in(folder).exists():
        return None
    say(f"making {folder.name} with Python {platform.python_version()}")
    venv.create(folder, with_pip=True, clear=True)
    return python_in(folder)


def finish_environment(folder: Path, recipe: str) -> None:
    mark = hashlib.sha256(f"{recipe}\n{sys.version_info[:2]}".encode()).hexdigest()
    (folder / "genesis-stamp").write_text(mark, "utf-8")


def pip(python: Path, *arguments: str, check: bool = True) -> int:
    command = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)
    return run(python, *command, check=check, timeout=INSTALL_TIMEOUT)


def install_torch(python: Path) -> None:
    """torch as the lock file pins it: the CPU build without an NVIDIA GPU, the CUDA build with one."""
    pinned, gpu = locked("torch"), has_nvidia_gpu()
    if platform.system() == "Linux" and platform.machine() == "x86_64" and not gpu:
        # a local wheel folder or mirror may have the CPU build; otherwise PyTorch's own index does
        if pip(python, "--no-deps", f"{pinned}+cpu", check=False):
            pip(python, "--index-url", TORCH_INDEX + CPU_INDEX, f"{pinned}+cpu")
    elif platform.system() == "Windows" and gpu:
        pip(python, "--index-url", TORCH_INDEX + WINDOWS_GPU_INDEX, pinned)
    else:
        pip(python, pinned)


def set_up() -> Path:
    """The environment of the server and its tests; returns its interpreter."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise SystemExit(
            f"Genesis needs Python 3.11 to 3.13, this is {platform.python_version()}. Run dev.py with one of those."
        )
    folder, recipe = ROOT / ".venv", LOCK.read_text("utf-8") + str(has_nvidia_gpu())
    python = make_environment(folder, recipe)
    if python is not None:
        say("installing torch" + (" with CUDA" if has_nvidia_gpu() else ", CPU build"))
        install_torch(python)
        say("installing the other packages of requirements.lock")
        pip(python, "-r", str(LOCK))
        pip(python, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
        finish_environment(folder, recipe)
    return python_in(folder)


def set_up_blender() -> Path | None:
    """The environment of the extension's tests, with Blender as a Python module; None where no wheel fits this Python."""
    packages = BPY.get(sys.version_info[:2])
    if packages is None:
        say(f"no bpy wheel for Python {platform.python_version()}: the Blender tests are left out (3.11 and 3.13 have one)")
        return None
    folder, recipe = ROOT / ".venv-bpy", " ".join((*packages, *BLENDER_TEST_PACKAGES))
    python = make_environment(folder, recipe)
    if python is not None:
        say(f"installing {packages[0]} (about 1 GB)")
        pip(python, *packages, *BLENDER_TEST_PACKAGES)
        finish_environment(folder, recipe)
    return python_in(folder)


def set_up_validator() -> None:
    """The Khronos glTF validator, where npm is there to install it."""
    if (CACHE / "node_modules" / "gltf-validator").exists() or not (npm := shutil.which("npm")):
        return
    say("installing the Khronos glTF validator")
    run(npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", CACHE, VALIDATOR, timeout=600)


def set_up_triton(python: Path) -> None:
    """Triton beside the environment, which does not need it on a CPU: only the kernels' tests look there."""
    folder = CACHE / TRITON
    if folder.exists() or has_nvidia_gpu() or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    say(f"installing {TRITON} for the tests of the GPU kernels (200 MB)")
    if pip(python, "--no-deps", "--target", str(folder), TRITON, check=False):
        shutil.rmtree(folder, ignore_errors=True)  # those tests are then left out


def demo(picture: str) -> None:
    python = set_up()
    say(f"{picture} -> out/, with genesis-mini on this machine")
    run(python, "-m", "genesis_server", "generate", picture, "--out", "out", "--model", "mini")


def test(arguments: list[str]) -> None:
    started = time.monotonic()
    python = set_up()
    set_up_validator()
    set_up_triton(python)
    say("lint")
    run(python, "-m", "ruff", "check", ".")
    run(python, "-m", "ruff", "format", "--check", ".")
    blender = set_up_blender()
    if blender is not None and not arguments:
        say("tests in Blender (bpy)")
        environment = {**os.environ, "GENESIS_PYTHON": str(python), "PYTHONPATH": str(ROOT)}
        run(blender, "-m", "pytest", "tests/blender", env=environment)
    say("tests of the server, the pipeline and the packaging")
    environment = {**os.environ, **({"GENESIS_BPY_PYTHON": str(blender)} if blender else {})}
    environment["GENESIS_TRITON"] = str(CACHE / TRITON)
    code = run(python, "-m", "pytest", *(arguments or ["tests"]), check=False, env=environment)
    say(f"{'passed' if code == 0 else 'failed'} in {time.monotonic() - started:.0f} s")
    raise SystemExit(code)


def gui(arguments: list[str]) -> None:
    python = set_up()
    set_up_blender()
    run(python, "tests/gui/run.py", *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    demonstration = commands.add_parser("demo", help="a picture to a textured mesh, on any machine")
    demonstration.add_argument("picture", nargs="?", default=DEMO_PICTURE)
    commands.add_parser("test", help="lint and all tests; further arguments go to pytest")
    commands.add_parser("gui", help="a real Blender window under a virtual display")
    commands.add_parser("setup", help="only make the environment")
    options, rest = parser.parse_known_args()
    if rest and options.command not in ("test", "gui"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if options.command == "demo":
        demo(options.picture)
    elif options.command == "test":
        test(rest)
    elif options.command == "gui":
        gui(rest)
    else:
        set_up()


if __name__ == "__main__":
    main()
