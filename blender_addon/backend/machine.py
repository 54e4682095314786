# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the machine before anything is installed: GPU and driver, a Python that fits, uv, room on the disk, permission.

Every lack is found here, in words and with what to do, and not after ten minutes of downloading.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genesis_server.protocol.errors import ErrorCode, GenesisError, Remedy

PYTHONS = ((3, 11), (3, 12), (3, 13))  # what the server runs on
UV_PYTHON = "3.12"  # that uv fetches where there is none
TIMEOUT = 20.0  # seconds for any program that is asked something


@dataclass(frozen=True)
class CudaBuild:
    """One of torch's CUDA builds.

    Attributes:
        cuda: its version.
        driver: CUDA version that the driver must support: within CUDA 12 every driver of that series runs every build.
        oldest, newest: compute capabilities that it has kernels for.
    """

    cuda: tuple[int, int]
    driver: tuple[int, int]
    oldest: tuple[int, int]
    newest: tuple[int, int]


# of TORCH, best first (pytorch/pytorch, RELEASE.md: 12.8 ended with 2.12, and 13 knows nothing before Turing)
TORCH = "2.13"
CUDA_BUILDS = (
    CudaBuild((13, 0), (13, 0), (7, 5), (99, 0)),
    CudaBuild((12, 6), (12, 0), (5, 0), (9, 0)),
)
DRIVER_BRANCHES = ((580, (13, 0)), (570, (12, 8)), (560, (12, 6)), (550, (12, 4)), (535, (12, 2)), (525, (12, 0)))
_VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}  # PCI
DOWNLOAD = {"cpu": 0.6e9, "cuda": 3.6e9}  # bytes
ROOM = {"cpu": 3.5e9, "cuda": 10e9}  # bytes on the disk, caches included
_ASK = (
    "import json, struct, sys, ensurepip, venv; "
    "print(json.dumps([list(sys.version_info[:2]), struct.calcsize('P'), sys.executable]))"
)
# Blender's own variables must not lead another Python to Blender's standard library
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU.

    Attributes:
        name, driver: in words.
        cuda: version that the driver runs; None while not known.
        capability: compute capability; None for a driver that does not tell.
    """

    name: str
    driver: str
    cuda: tuple[int, int] | None
    capability: tuple[int, int] | None


@dataclass(frozen=True)
class Found:
    """What an installation would use.

    Attributes:
        device: "cuda" or "cpu".
        gpu: name of the NVIDIA GPU; empty for none.
        cuda: CUDA build of torch for its driver, such as (12, 8); None without.
        uv: program, or None.
        python: interpreter to make the environment with; None where uv has to fetch one.
        version: its version, or the one that uv would fetch.
        download, room: bytes to come, and bytes that it takes on the disk, roughly.
        online: whether the network may be used.
        reason: why it is the CPU, in words; empty for a GPU.
    """

    device: str
    gpu: str
    cuda: tuple[int, int] | None
    uv: Path | None
    python: Path | None
    version: tuple[int, int]
    download: int
    room: int
    online: bool
    reason: str = ""

    def summary(self) -> str:
        """In words, for a panel or a log."""
        torch = f"CUDA {self.cuda[0]}.{self.cuda[1]} for {self.gpu}" if self.cuda else f"the CPU ({self.reason or 'chosen'})"
        made = "uv" if self.uv else "pip"
        size = f"{self.download / 1e9:.1f} GB to download, {self.room / 1e9:.0f} GB on the disk"
        return f"torch for {torch}; Python {self.version[0]}.{self.version[1]} with {made}; {size}"


def look(folder: Path, online: bool, python: str = "", uv: str = "", device: str = "auto") -> Found:
    """What there is, and whether it is enough.

    Args:
        folder: where the environment is to be.
        online: Blender's online-access preference.
        python, uv: programs that the user has named; empty to look for them.
        device: "auto", "cuda" or "cpu".

    Raises:
        GenesisError: OFFLINE, NO_PYTHON, DISK_FULL, NO_PERMISSION, or INSTALL_FAILED for a machine or driver that torch
            has no build for.
    """
    if not online:
        raise GenesisError(
            ErrorCode.OFFLINE,
            "Blender may not use the network, and the server's packages have to be downloaded.",
            "Allow Online Access in Preferences > System > Network.",
            Remedy.ALLOW_ONLINE,
        )
    _check_machine()
    gpu = find_gpu() if device != "cpu" else None
    build = cuda_build(gpu) if gpu is not None else None
    if device == "cuda" and build is None:
        raise GenesisError(ErrorCode.INSTALL_FAILED, "No NVIDIA GPU was found.", "Install its driver, or choose the CPU.")
    kind = "cuda" if build else "cpu"
    tool = find_uv(uv)
    interpreter, version = find_python(python, needed=tool is None)
    _check_place(folder, ROOM[kind])
    reason = "" if build else "chosen in the preferences" if device == "cpu" else _without_gpu()
    name = gpu.name if gpu is not None else ""
    return Found(kind, name, build, tool, interpreter, version, int(DOWNLOAD[kind]), int(ROOM[kind]), online, reason)


def _without_gpu() -> str:
    other = other_gpu()
    return f"torch cannot use this {other} GPU here, only those of NVIDIA" if other else "no NVIDIA GPU was found"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for other programs: without what belongs to Blender's Python."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **more}


def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU, as its driver tells it; None where there is none, or GENESIS_CPU hides it."""
    tool = shutil.which("nvidia-smi") or (r"C:\Windows\System32\nvidia-smi.exe" if sys.platform == "win32" else None)
    if tool is None or os.environ.get("GENESIS_CPU"):
        return None
    # drivers before 510 do not know compute_cap, and refuse the whole question
    for fields in ("name,driver_version,compute_cap", "name,driver_version"):
        listed = _said([tool, f"--query-gpu={fields}", "--format=csv,noheader"]).splitlines()
        parts = [part.strip() for part in listed[0].split(",")] if listed else []
        if len(parts) == fields.count(",") + 1 and parts[0]:
            capability = _version(parts[2]) if len(parts) > 2 else None
            return Gpu(parts[0], parts[1], _cuda_of(parts[1], _said([tool])), capability)
    return None


def _cuda_of(driver: str, said: str) -> tuple[int, int] | None:
    """The CUDA version that a driver runs: as it says, or else by the number of its branch."""
    if told := re.search(r"CUDA Version:\s*(\d+)\.(\d+)", said):
        return int(told[1]), int(told[2])
    branch = _version(driver)
    return next((cuda for number, cuda in DRIVER_BRANCHES if branch and branch[0] >= number), None)


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2] or 0)) if found else None


def cuda_build(gpu: Gpu) -> tuple[int, int]:
    """The newest CUDA build of torch that the driver runs and that has kernels for the GPU.

    Raises:
        GenesisError: INSTALL_FAILED for a driver or a GPU that is too old, in words.
    """
    fitting = [build for build in CUDA_BUILDS if gpu.capability is None or build.oldest <= gpu.capability <= build.newest]
    if not fitting:
        raise GenesisError(
            ErrorCode.INSTALL_FAILED,
            f"torch has no build for the {gpu.name}, whose compute capability is {_words(gpu.capability)}.",
            "Choose the CPU under Install For in the preferences.",
        )
    for build in fitting:
        if gpu.cuda is not None and gpu.cuda >= build.driver:
            return build.cuda
    needed = _words(fitting[-1].driver)
    raise GenesisError(
        ErrorCode.INSTALL_FAILED,
        f"The driver {gpu.driver} of the {gpu.name} supports CUDA {_words(gpu.cuda)}, but {needed} is needed.",
        "Update the NVIDIA driver, or choose the CPU under Install For in the preferences.",
    )


def other_gpu() -> str:
    """A word for a GPU that torch has no use for here: "AMD" or "Intel"; empty where none is seen (only Linux is looked at)."""
    for file in sorted(Path("/sys/class/drm").glob("card*/device/vendor")):
        try:
            vendor = _VENDORS.get(file.read_text("ascii").strip(), "")
        except (OSError, ValueError):
            continue
        if vendor:
            return vendor
    return ""


def _words(version: tuple[int, int] | None) -> str:
    return f"{version[0]}.{version[1]}" if version else "an unknown version"


def find_uv(named: str = "") -> Path | None:
    """The uv program: the one that was named, one of the extension's wheels, or one on the path.

    Raises:
        GenesisError: INSTALL_FAILED for a name that is none.
    """
    if named:
        if not Path(named).is_file():
            raise GenesisError(
                ErrorCode.INSTALL_FAILED, f"There is no uv at {named}.", "Choose the program, or leave it empty."
            )
        return Path(named)
    # Blender unpacks a wheel's scripts, but leaves them where they are and not executable (docs/spec/platform.md 4)
    for place in sys.path:
        for tool in Path(place or ".").glob("uv-*.data/scripts/uv*"):
            if tool.stem == "uv":
                tool.chmod(tool.stat().st_mode | 0o100)
                return tool
    found = shutil.which("uv")
    return Path(found) if found else None


def find_python(named: str = "", needed: bool = True) -> tuple[Path | None, tuple[int, int]]:
    """An interpreter of a version that fits, with its version.

    Args:
        named: the one that the user chose, which must fit.
        needed: whether there has to be one; otherwise none means that uv fetches its own.

    Raises:
        GenesisError: NO_PYTHON.
    """
    seen = []
    for candidate in [Path(named)] if named else _candidates():
        asked = _ask(candidate)
        if asked is None:
            seen.append(f"{candidate} does not run or lacks venv and ensurepip")
        elif asked[0] not in PYTHONS or not asked[1]:
            seen.append(f"{candidate} is {'' if asked[1] else '32-bit '}Python {asked[0][0]}.{asked[0][1]}")
        else:
            return candidate, asked[0]
    if not needed and not named:
        return None, tuple(map(int, UV_PYTHON.split(".")))
    what = f"{seen[0]}." if named else "No Python 3.11 to 3.13 was found."
    raise GenesisError(
        ErrorCode.NO_PYTHON,
        what,
        "Install Python 3.12 from python.org (on Debian and Ubuntu also python3-venv), or name one, or uv, in the preferences.",
    )


def _candidates() -> Iterator[Path]:
    """Interpreters that are there, best first; Blender's own, which goes with Blender, last."""
    found = dict.fromkeys(
        shutil.which(name) for name in ("python3.12", "python3.13", "python3.11", "python3", "python") if shutil.which(name)
    )
    yield from (Path(name) for name in found)
    if sys.platform == "win32" and (launcher := shutil.which("py")):
        for major, minor in PYTHONS:
            said = _said([launcher, f"-{major}.{minor}", "-c", "import sys; print(sys.executable)"]).strip()
            if said:
                yield Path(said)
    if sys.platform == "darwin":
        for minor in (12, 13, 11):
            path = Path(f"/Library/Frameworks/Python.framework/Versions/3.{minor}/bin/python3")
            if path.exists():
                yield path
    own = Path(sys.executable)
    if own.stem.lower().startswith("python"):
        yield own


def _ask(python: Path) -> tuple[tuple[int, int], bool] | None:
    """Version, and whether it is a 64-bit one; None for what is no Python with venv."""
    try:
        (major, minor), pointer, _ = json.loads(_said([str(python), "-I", "-c", _ASK]))
        return (major, minor), pointer == 8
    except (ValueError, TypeError):
        return None


def _said(command: list[str]) -> str:
    """What a program prints; empty where it fails."""
    hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=True,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            **hidden,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _check_machine() -> None:
    kind = (sys.platform, platform.machine().lower())
    fits = kind[0] in ("linux", "win32") and kind[1] in ("x86_64", "amd64") or kind == ("darwin", "arm64")
    if not fits:
        raise GenesisError(
            ErrorCode.INSTALL_FAILED,
            f"There is no build of torch for {sysconfig.get_platform()}.",
            "Use 64-bit Windows or Linux on x86, or a Mac with Apple silicon, or a server on such a machine.",
        )


def _check_place(folder: Path, needed: float) -> None:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise GenesisError(
            ErrorCode.NO_PERMISSION, f"{place} may not be written to.", "Choose another folder for the environment."
        )
    free = shutil.disk_usage(place).free
    if free < needed:
        raise GenesisError(
            ErrorCode.DISK_FULL,
            f"The environment needs {needed / 1e9:.1f} GB, but {place} has {free / 1e9:.1f} GB free.",
            "Free some space, or choose another folder for the environment.",
        )
